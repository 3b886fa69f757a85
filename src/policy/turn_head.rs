//! The turn head: from what is known so far to the next move, answering or one more retrieval, and
//! to what the episode is still worth.
//!
//! Two small networks that share no weight, one for the logits of the moves and one for the value,
//! so that fitting the value cannot move the policy. A linear skip carries the scalar features.
//! Only differentiable ops are used. Does not know how states are made (`state.rs`), which moves
//! are open and how one is drawn (`moves.rs`), nor any loss.

pub mod moves;
pub mod state;

use candle_core::{DType, Device, IndexOp, Result, Tensor, Var};
use candle_nn::ops::layer_norm_slow as layer_norm;
use moves::{MOVES, TurnLogits};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sizes of a turn head, stored with its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnHeadConfig {
    /// Width E of an encoder state; a turn's state leads with two of them.
    pub embedding: usize,
    /// Trailing columns that are scalar features, already scaled to about unit range.
    pub scalars: usize,
    /// Width of either network.
    pub hidden: usize,
}

impl TurnHeadConfig {
    /// Width of a turn's state: `2 E + scalars`.
    pub fn state_width(&self) -> usize {
        2 * self.embedding + self.scalars
    }

    /// Every tensor of the head with its shape and how it starts.
    fn plan(&self) -> Vec<(String, Vec<usize>, Start)> {
        let (e, m) = (self.embedding, self.hidden);
        let mut plan = Vec::new();
        for (name, outputs) in [("policy", MOVES), ("value", 1)] {
            let mut add = |part: &str, shape: Vec<usize>, start| {
                plan.push((format!("{name}.{part}"), shape, start));
            };
            add("question.norm.weight", vec![e], Start::Constant(1.0));
            add("question.norm.bias", vec![e], Start::Constant(0.0));
            add("document.norm.weight", vec![e], Start::Constant(1.0));
            add("document.norm.bias", vec![e], Start::Constant(0.0));
            add("input.weight", vec![m, self.state_width()], Start::Uniform(1.0));
            add("input.bias", vec![m], Start::Constant(0.0));
            add("dense.weight", vec![m, m], Start::Uniform(1.0));
            add("dense.bias", vec![m], Start::Constant(0.0));
            add("output.weight", vec![outputs, m], Start::Uniform(0.01));
            add("output.bias", vec![outputs], Start::Constant(0.0));
            add("skip.weight", vec![outputs, self.scalars], Start::Constant(0.0));
        }
        plan
    }
}

#[derive(Clone, Copy)]
enum Start {
    Constant(f32),
    /// Uniform with variance scale² / fan-in.
    Uniform(f32),
}

/// A turn head. Clones share weights.
#[derive(Debug, Clone)]
pub struct TurnHead {
    config: TurnHeadConfig,
    tensors: BTreeMap<String, Tensor>,
}

/// The head's output for B states.
#[derive(Debug, Clone)]
pub struct TurnOutput {
    /// (B, [`MOVES`]) f32: logits, masks not yet applied.
    pub logits: Tensor,
    /// (B) f32: expected return from here on.
    pub values: Tensor,
}

impl TurnHead {
    /// Seeded weights on `device`: every open move about equally likely, every value about 0.
    pub fn init(config: TurnHeadConfig, seed: u64, device: &Device) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tensors = BTreeMap::new();
        for (name, shape, start) in config.plan() {
            let count: usize = shape.iter().product();
            let bound = (3.0 / *shape.last().unwrap_or(&1) as f32).sqrt();
            let values: Vec<f32> = match start {
                Start::Constant(value) => vec![value; count],
                Start::Uniform(scale) => {
                    (0..count).map(|_| scale * rng.random_range(-bound..bound)).collect()
                }
            };
            tensors.insert(name, Tensor::from_vec(values, shape, device)?);
        }
        Ok(Self { config, tensors })
    }

    /// Takes tensors by name; names the one that is missing, superfluous or of another shape.
    pub fn from_tensors(
        config: TurnHeadConfig,
        mut found: BTreeMap<String, Tensor>,
    ) -> std::result::Result<Self, String> {
        let mut tensors = BTreeMap::new();
        for (name, shape, _) in config.plan() {
            let tensor = found.remove(&name).ok_or(format!("tensor `{name}` is missing"))?;
            if tensor.dims() != shape.as_slice() {
                let dims = tensor.dims();
                return Err(format!("tensor `{name}` has shape {dims:?}, expected {shape:?}"));
            }
            let tensor = tensor.to_dtype(DType::F32).map_err(|e| e.to_string())?;
            tensors.insert(name, tensor);
        }
        match found.keys().next() {
            Some(name) => Err(format!("tensor `{name}` does not belong to a turn head")),
            None => Ok(Self { config, tensors }),
        }
    }

    /// A copy whose weights are variables, with them: the copy sees every optimiser step.
    pub fn trainable(&self) -> Result<(Self, BTreeMap<String, Var>)> {
        let mut variables = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            let variable = Var::from_tensor(&tensor.copy()?)?;
            tensors.insert(name.clone(), variable.as_tensor().clone());
            variables.insert(name.clone(), variable);
        }
        Ok((Self { config: self.config.clone(), tensors }, variables))
    }

    /// A deep copy: later optimiser steps do not change it.
    pub fn snapshot(&self) -> Result<Self> {
        let copies = self.tensors.iter().map(|(n, t)| Ok((n.clone(), t.detach().copy()?)));
        Ok(Self { config: self.config.clone(), tensors: copies.collect::<Result<_>>()? })
    }

    /// Sizes.
    pub fn config(&self) -> &TurnHeadConfig {
        &self.config
    }

    /// Weights by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// states: (B, [`TurnHeadConfig::state_width`]) f32, laid out as [`state::state`] does.
    pub fn forward(&self, states: &Tensor) -> Result<TurnOutput> {
        let logits = self.network("policy", states)?;
        let values = self.network("value", states)?.squeeze(1)?;
        Ok(TurnOutput { logits, values })
    }

    /// (B, state width) -> (B, outputs).
    fn network(&self, name: &str, states: &Tensor) -> Result<Tensor> {
        let weight = |part: &str| self.weight(&format!("{name}.{part}"));
        let (e, s) = (self.config.embedding, self.config.scalars);
        let normed = |from: usize, which: &str| {
            let part = states.narrow(1, from, e)?.contiguous()?;
            let (scale, bias) = (format!("{which}.norm.weight"), format!("{which}.norm.bias"));
            layer_norm(&part, weight(&scale)?, weight(&bias)?, 1e-6)
        };
        let scalars = states.narrow(1, 2 * e, s)?.contiguous()?;
        let input = Tensor::cat(&[&normed(0, "question")?, &normed(e, "document")?, &scalars], 1)?;
        let linear = |x: &Tensor, part: &str| {
            let out = x.matmul(&weight(&format!("{part}.weight"))?.t()?)?;
            out.broadcast_add(weight(&format!("{part}.bias"))?)
        };
        let hidden = linear(&input, "input")?.gelu_erf()?;
        let hidden = (&hidden + linear(&hidden, "dense")?.gelu_erf()?)?;
        linear(&hidden, "output")? + scalars.matmul(&weight("skip.weight")?.t()?)?
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        self.tensors
            .get(name)
            .ok_or_else(|| candle_core::Error::Msg(format!("turn head has no tensor `{name}`")))
    }
}

impl TurnOutput {
    /// The logits of row `b` as the moves take them, and its value.
    pub fn row(&self, b: usize) -> Result<(TurnLogits, f64)> {
        let mut logits = [0.0; MOVES];
        for (to, from) in logits.iter_mut().zip(self.logits.i(b)?.to_vec1::<f32>()?) {
            *to = f64::from(from);
        }
        let value = f64::from(self.values.i(b)?.to_scalar::<f32>()?);
        Ok((TurnLogits(logits), value))
    }
}

#[cfg(test)]
mod tests;

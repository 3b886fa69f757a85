//! The selection head: from one state per candidate to the logits of an ordered selection.
//!
//! A linear map and one self-attention layer over the list make each candidate's state list-aware;
//! five small read-outs give score, interaction, evidence, and stop (`selection.rs` says what they
//! mean). A linear skip from the scalar features carries the prior, so an untrained head already
//! orders by it. Only differentiable ops are used. An ensemble of further read-outs of the score,
//! where there is one, votes on what is explored. Does not know how states are made (`features.rs`)
//! nor any loss.

use candle_core::{D, DType, Device, IndexOp, Result, Tensor, Var};
use candle_nn::ops::layer_norm_slow as layer_norm;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::selection::SelectionLogits;

/// (members, hidden): what each member of the ensemble reads a score from.
const ENSEMBLE_SCORE: &str = "ensemble.score.weight";
/// (members, scalars): what each member adds of the scalar features.
const ENSEMBLE_SKIP: &str = "ensemble.skip.weight";
/// Most members of an ensemble.
pub const MEMBERS_MAX: usize = 32;

/// Sizes of a head, stored with its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadConfig {
    /// Leading columns of a state that are an encoder's hidden state; layer-normed on entry.
    pub embedding: usize,
    /// Trailing columns that are scalar features, already scaled to about unit range.
    pub scalars: usize,
    /// Width of the list-aware states.
    pub hidden: usize,
    /// Attention heads; divides `hidden`.
    pub attention_heads: usize,
    /// Rank of the interaction between candidates.
    pub interaction_rank: usize,
}

impl HeadConfig {
    /// Width of a candidate's state.
    pub fn state_width(&self) -> usize {
        self.embedding + self.scalars
    }

    /// Every tensor of the head with its shape and how it starts.
    fn plan(&self) -> Vec<(&'static str, Vec<usize>, Start)> {
        let (m, r) = (self.hidden, self.interaction_rank);
        vec![
            ("norm.weight", vec![self.embedding], Start::Constant(1.0)),
            ("norm.bias", vec![self.embedding], Start::Constant(0.0)),
            ("input.weight", vec![m, self.state_width()], Start::Uniform),
            ("input.bias", vec![m], Start::Constant(0.0)),
            ("attention.query.weight", vec![m, m], Start::Uniform),
            ("attention.key.weight", vec![m, m], Start::Uniform),
            ("attention.value.weight", vec![m, m], Start::Uniform),
            ("attention.output.weight", vec![m, m], Start::Uniform),
            ("attention.norm.weight", vec![m], Start::Constant(1.0)),
            ("attention.norm.bias", vec![m], Start::Constant(0.0)),
            ("dense.weight", vec![m, m], Start::Uniform),
            ("dense.bias", vec![m], Start::Constant(0.0)),
            ("skip.weight", vec![self.scalars], Start::Prior),
            ("score.weight", vec![m], Start::Small),
            ("interaction.left.weight", vec![r, m], Start::Small),
            ("interaction.right.weight", vec![r, m], Start::Uniform),
            ("evidence.weight", vec![m], Start::Small),
            ("stop.weight", vec![m], Start::Small),
            ("stop.bias", vec![1], Start::Stop),
            ("stop.per_document", vec![1], Start::Constant(0.0)),
        ]
    }
}

enum Start {
    Constant(f32),
    /// Uniform with variance 1 / fan-in.
    Uniform,
    /// A hundredth of `Uniform`: the prior leads at first, yet gradients reach every layer below.
    Small,
    Prior,
    Stop,
}

/// What an untrained head believes.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    /// (scalars) weight of each scalar feature in the score.
    pub scores: Vec<f32>,
    /// Stop logit: documents whose prior score is below it are not chosen.
    pub stop: f32,
}

/// A selection head. Clones share weights.
#[derive(Debug, Clone)]
pub struct Head {
    config: HeadConfig,
    tensors: BTreeMap<String, Tensor>,
}

/// The head's output for a batch of lists, padded to n candidates.
#[derive(Debug, Clone)]
pub struct HeadOutput {
    /// (B, n) f32.
    pub scores: Tensor,
    /// (B, n, n) f32; `[b, j, i]` is what having chosen i does to j.
    pub interaction: Tensor,
    /// (B, n) f32.
    pub evidence: Tensor,
    /// (B) f32.
    pub stop: Tensor,
    /// (1) f32.
    pub stop_per_document: Tensor,
    /// (B, n, members) f32: the scores by each member of the ensemble, where there is one.
    pub ensemble: Option<Tensor>,
}

impl Head {
    /// Seeded weights on `device`.
    pub fn init(config: HeadConfig, prior: &Prior, seed: u64, device: &Device) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tensors = BTreeMap::new();
        for (name, shape, start) in config.plan() {
            let count: usize = shape.iter().product();
            let fan_in = *shape.last().unwrap_or(&1) as f32;
            let bound = (3.0 / fan_in).sqrt();
            let values: Vec<f32> = match start {
                Start::Constant(value) => vec![value; count],
                Start::Uniform => (0..count).map(|_| rng.random_range(-bound..bound)).collect(),
                Start::Small => {
                    (0..count).map(|_| 0.01 * rng.random_range(-bound..bound)).collect()
                }
                Start::Prior => prior.scores.clone(),
                Start::Stop => vec![prior.stop],
            };
            tensors.insert(name.to_owned(), Tensor::from_vec(values, shape, device)?);
        }
        Ok(Self { config, tensors })
    }

    /// Takes tensors by name; names the one that is missing, superfluous or of another shape.
    pub fn from_tensors(
        config: HeadConfig,
        mut found: BTreeMap<String, Tensor>,
    ) -> std::result::Result<Self, String> {
        let mut tensors = BTreeMap::new();
        for (name, shape, _) in config.plan() {
            let tensor = found.remove(name).ok_or(format!("tensor `{name}` is missing"))?;
            if tensor.dims() != shape.as_slice() {
                let dims = tensor.dims();
                return Err(format!("tensor `{name}` has shape {dims:?}, expected {shape:?}"));
            }
            let tensor = tensor.to_dtype(DType::F32).map_err(|e| e.to_string())?;
            tensors.insert(name.to_owned(), tensor);
        }
        let ensemble = (found.remove(ENSEMBLE_SCORE), found.remove(ENSEMBLE_SKIP));
        if let Some(name) = found.keys().next() {
            return Err(format!("tensor `{name}` does not belong to a selection head"));
        }
        let head = Self { config, tensors };
        match ensemble {
            (None, None) => Ok(head),
            (Some(score), Some(skip)) => head.with_ensemble(score, skip),
            (score, _) => {
                let missing = if score.is_some() { ENSEMBLE_SKIP } else { ENSEMBLE_SCORE };
                Err(format!("tensor `{missing}` is missing: an ensemble has both"))
            }
        }
    }

    /// The same head with an ensemble of read-outs, whose votes are what exploration proposes.
    ///
    /// score: (members, hidden) f32, skip: (members, scalars) f32, both read as `score.weight` and
    /// `skip.weight` are; 1 to [`MEMBERS_MAX`] members.
    ///
    /// # Errors
    /// Another shape, by name.
    pub fn with_ensemble(
        mut self,
        score: Tensor,
        skip: Tensor,
    ) -> std::result::Result<Self, String> {
        let members = score.dims().first().copied().unwrap_or(0);
        if !(1..=MEMBERS_MAX).contains(&members) {
            return Err(format!("an ensemble has 1 to {MEMBERS_MAX} members, found {members}"));
        }
        let widths = [(self.config.hidden, score), (self.config.scalars, skip)];
        for (name, (width, tensor)) in [ENSEMBLE_SCORE, ENSEMBLE_SKIP].into_iter().zip(widths) {
            let (dims, expected) = (tensor.dims(), [members, width]);
            if dims != expected {
                return Err(format!("tensor `{name}` has shape {dims:?}, expected {expected:?}"));
            }
            let tensor = tensor.to_dtype(DType::F32).map_err(|e| e.to_string())?;
            self.tensors.insert(name.to_owned(), tensor);
        }
        Ok(self)
    }

    /// A copy whose weights are variables, with them: the copy sees every optimiser step. It has no
    /// ensemble: the members read states that are about to change, and are fitted anew afterwards.
    pub fn trainable(&self) -> Result<(Self, BTreeMap<String, Var>)> {
        let mut variables = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        let is_member = |name: &str| [ENSEMBLE_SCORE, ENSEMBLE_SKIP].contains(&name);
        for (name, tensor) in self.tensors.iter().filter(|(name, _)| !is_member(name)) {
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
    pub fn config(&self) -> &HeadConfig {
        &self.config
    }

    /// Weights by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        self.tensors
            .get(name)
            .ok_or_else(|| candle_core::Error::Msg(format!("head has no tensor `{name}`")))
    }

    /// (.., a) -> (.., b) with weight (b, a).
    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.weight(name)?;
        let (rows, width) = (x.elem_count() / x.dim(D::Minus1)?, x.dim(D::Minus1)?);
        let out = x.reshape((rows, width))?.matmul(&weight.t()?)?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = weight.dim(0)?;
        }
        out.reshape(shape)
    }

    /// states: (B, n, embedding + scalars) f32; present: (B, n) f32, 1 for a candidate and 0 for
    /// padding. Padding influences nothing, and its outputs mean nothing.
    pub fn forward(&self, states: &Tensor, present: &Tensor) -> Result<HeadOutput> {
        Ok(self.forward_with_hidden(states, present)?.0)
    }

    /// [`Head::forward`], and the (B, n, hidden) list-aware states that its outputs are read from.
    pub fn forward_with_hidden(
        &self,
        states: &Tensor,
        present: &Tensor,
    ) -> Result<(HeadOutput, Tensor)> {
        let (batch, n, _) = states.dims3()?;
        let scalars = states.narrow(D::Minus1, self.config.embedding, self.config.scalars)?;
        let hidden = self.list_aware(states, &scalars, present)?;
        let skip = self.weight("skip.weight")?;
        let prior = scalars.contiguous()?.broadcast_mul(skip)?.sum(D::Minus1)?;
        let scores = (prior + self.read_out(&hidden, "score.weight")?)?;
        let ensemble = match self.tensors.contains_key(ENSEMBLE_SCORE) {
            true => {
                let prior = self.linear(&scalars.contiguous()?, ENSEMBLE_SKIP)?;
                Some((prior + self.linear(&hidden, ENSEMBLE_SCORE)?)?)
            }
            false => None,
        };
        let rank = (self.config.interaction_rank as f64).sqrt();
        let left = self.linear(&hidden, "interaction.left.weight")?;
        let right = self.linear(&hidden, "interaction.right.weight")?;
        let interaction = (left.matmul(&right.transpose(1, 2)?.contiguous()?)? / rank)?;
        let evidence = self.read_out(&hidden, "evidence.weight")?;
        let count = present.sum_keepdim(1)?;
        let mean = hidden
            .broadcast_mul(&present.unsqueeze(2)?)?
            .sum(1)?
            .broadcast_div(&count.maximum(1f64)?)?;
        let stop = mean.broadcast_mul(self.weight("stop.weight")?)?.sum(1)?;
        let stop = stop.broadcast_add(self.weight("stop.bias")?)?;
        debug_assert_eq!(scores.dims(), [batch, n]);
        let stop_per_document = self.weight("stop.per_document")?.clone();
        let output =
            HeadOutput { scores, interaction, evidence, stop, stop_per_document, ensemble };
        Ok((output, hidden))
    }

    /// (B, n, hidden) states that have seen the rest of their list.
    fn list_aware(&self, states: &Tensor, scalars: &Tensor, present: &Tensor) -> Result<Tensor> {
        let embedding = states.narrow(D::Minus1, 0, self.config.embedding)?.contiguous()?;
        let embedding =
            layer_norm(&embedding, self.weight("norm.weight")?, self.weight("norm.bias")?, 1e-6)?;
        let input = Tensor::cat(&[&embedding, scalars], D::Minus1)?;
        let input = self.linear(&input, "input.weight")?;
        let input = input.broadcast_add(self.weight("input.bias")?)?.gelu_erf()?;
        let attended = self.attention(&input, present)?;
        let (weight, bias) =
            (self.weight("attention.norm.weight")?, self.weight("attention.norm.bias")?);
        let hidden = layer_norm(&(input + attended)?, weight, bias, 1e-6)?;
        let dense = self.linear(&hidden, "dense.weight")?;
        let dense = dense.broadcast_add(self.weight("dense.bias")?)?.gelu_erf()?;
        hidden + dense
    }

    fn attention(&self, x: &Tensor, present: &Tensor) -> Result<Tensor> {
        let (batch, n, width) = x.dims3()?;
        let heads = self.config.attention_heads;
        let split =
            |t: Tensor| t.reshape((batch, n, heads, width / heads))?.transpose(1, 2)?.contiguous();
        let query = split(self.linear(x, "attention.query.weight")?)?;
        let key = split(self.linear(x, "attention.key.weight")?)?;
        let value = split(self.linear(x, "attention.value.weight")?)?;
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let logits = (query.matmul(&key.transpose(2, 3)?.contiguous()?)? * scale)?;
        let closed = ((present - 1.0)? * 1e9)?.reshape((batch, 1, 1, n))?;
        let weights = candle_nn::ops::softmax(&logits.broadcast_add(&closed)?, D::Minus1)?;
        let mixed = weights.matmul(&value)?.transpose(1, 2)?.contiguous()?;
        self.linear(&mixed.reshape((batch, n, width))?, "attention.output.weight")
    }

    /// (B, n, hidden) -> (B, n) by one weight vector.
    fn read_out(&self, hidden: &Tensor, name: &str) -> Result<Tensor> {
        hidden.broadcast_mul(self.weight(name)?)?.sum(D::Minus1)
    }
}

impl HeadOutput {
    /// The logits of list `b`, which has `n` candidates, as the selection policy takes them.
    pub fn logits(&self, b: usize, n: usize) -> Result<SelectionLogits> {
        let wide = |t: Tensor| -> Result<Vec<f64>> {
            Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
        };
        Ok(SelectionLogits {
            scores: wide(self.scores.i((b, ..n))?)?,
            interaction: wide(self.interaction.i((b, ..n, ..n))?)?,
            evidence: wide(self.evidence.i((b, ..n))?)?,
            stop: f64::from(self.stop.i(b)?.to_scalar::<f32>()?),
            stop_per_document: f64::from(self.stop_per_document.i(0)?.to_scalar::<f32>()?),
            ensemble: match &self.ensemble {
                Some(all) => {
                    let members = (0..all.dim(2)?).map(|member| wide(all.i((b, ..n, member))?));
                    members.collect::<Result<_>>()?
                }
                None => Vec::new(),
            },
        })
    }
}

#[cfg(test)]
mod tests;

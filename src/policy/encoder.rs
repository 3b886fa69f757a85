//! A BERT-family encoder over packed batches, and the weights it runs on.
//!
//! Owns the forward pass and what is trainable. Knows no file, tokenizer or head. Names of weights
//! are those of Hugging Face without a leading `bert.`. Invariant: tensors that serve are never the
//! ones being trained; [`Weights::snapshot`] copies.

mod weights;

pub use weights::{EncoderConfig, EncoderError, Trainable, Weights};

use super::layers::{self, Offsets};
use candle_core::{DType, Device, Tensor};

/// Token ids and types of one sequence, specials included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids, below the vocabulary size.
    pub ids: Vec<u32>,
    /// 0 or 1 a token.
    pub types: Vec<u32>,
}

/// Sequences laid end to end: no padding, whatever their lengths.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    ids: Tensor,
    positions: Tensor,
    types: Tensor,
    offsets: Offsets,
    longest: usize,
}

impl PackedBatch {
    /// Lays sequences end to end; T is the sum of their lengths.
    pub fn new<'a>(
        sequences: impl IntoIterator<Item = &'a Sequence>,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let (mut ids, mut positions, mut types) = (Vec::new(), Vec::new(), Vec::new());
        let mut lengths = Vec::new();
        for sequence in sequences {
            if sequence.ids.is_empty() || sequence.ids.len() != sequence.types.len() {
                let (n, types) = (sequence.ids.len(), sequence.types.len());
                return Err(EncoderError::Batch(format!("{n} token ids with {types} types")));
            }
            ids.extend_from_slice(&sequence.ids);
            types.extend_from_slice(&sequence.types);
            positions.extend(0..sequence.ids.len() as u32);
            lengths.push(sequence.ids.len());
        }
        if lengths.is_empty() {
            return Err(EncoderError::Batch("it has no sequence".to_owned()));
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        Ok(Self {
            ids: Tensor::new(ids, device)?,
            positions: Tensor::new(positions, device)?,
            types: Tensor::new(types, device)?,
            offsets: Offsets::from_lengths(lengths),
            longest,
        })
    }

    /// Where each sequence lies.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }
}

/// Cuts a list of sequence lengths into consecutive batches of at most `max_tokens` in all.
///
/// A sequence longer than that is a batch of its own.
pub fn batches(lengths: &[usize], max_tokens: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (i, length) in lengths.iter().enumerate() {
        if i > start && tokens + length > max_tokens {
            ranges.push(start..i);
            (start, tokens) = (i, 0);
        }
        tokens += length;
    }
    if start < lengths.len() {
        ranges.push(start..lengths.len());
    }
    ranges
}

struct Affine {
    weight: Tensor,
    bias: Tensor,
}

impl Affine {
    fn take(weights: &Weights, name: &str, shape: &[usize]) -> Result<Self, EncoderError> {
        Ok(Self {
            weight: weights.get(&format!("{name}.weight"), shape)?,
            bias: weights.get(&format!("{name}.bias"), &shape[..1])?,
        })
    }

    fn linear(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        layers::linear(x, &self.weight, &self.bias)
    }

    fn norm(&self, x: &Tensor, epsilon: f64) -> candle_core::Result<Tensor> {
        layers::layer_norm(x, &self.weight, &self.bias, epsilon)
    }
}

struct Layer {
    query: Affine,
    key: Affine,
    value: Affine,
    attention_output: Affine,
    attention_norm: Affine,
    intermediate: Affine,
    output: Affine,
    output_norm: Affine,
}

impl Layer {
    fn take(weights: &Weights, config: &EncoderConfig, at: usize) -> Result<Self, EncoderError> {
        let (h, inner) = (config.hidden_size, config.intermediate_size);
        let part = |name: &str, shape: &[usize]| {
            Affine::take(weights, &format!("encoder.layer.{at}.{name}"), shape)
        };
        Ok(Self {
            query: part("attention.self.query", &[h, h])?,
            key: part("attention.self.key", &[h, h])?,
            value: part("attention.self.value", &[h, h])?,
            attention_output: part("attention.output.dense", &[h, h])?,
            attention_norm: part("attention.output.LayerNorm", &[h])?,
            intermediate: part("intermediate.dense", &[inner, h])?,
            output: part("output.dense", &[h, inner])?,
            output_norm: part("output.LayerNorm", &[h])?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        offsets: &Offsets,
        config: &EncoderConfig,
    ) -> candle_core::Result<Tensor> {
        let (q, k, v) = (self.query.linear(x)?, self.key.linear(x)?, self.value.linear(x)?);
        let mixed = layers::attention(&q, &k, &v, offsets, config.num_attention_heads)?;
        let mixed = (self.attention_output.linear(&mixed)? + x)?;
        let x = self.attention_norm.norm(&mixed, config.layer_norm_eps)?;
        let inner = layers::linear_gelu(&x, &self.intermediate.weight, &self.intermediate.bias)?;
        let out = (self.output.linear(&inner)? + &x)?;
        self.output_norm.norm(&out, config.layer_norm_eps)
    }
}

/// The encoder: embeddings and layers, sharing tensors with the [`Weights`] it was made of.
pub struct Encoder {
    config: EncoderConfig,
    words: Tensor,
    positions: Tensor,
    types: Tensor,
    norm: Affine,
    layers: Vec<Layer>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Takes every tensor of the configuration out of `weights`, checking shapes.
    pub fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self, EncoderError> {
        config.check()?;
        let h = config.hidden_size;
        let table = |part: &str, rows: usize| {
            weights.get(&format!("embeddings.{part}_embeddings.weight"), &[rows, h])
        };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for at in 0..config.num_hidden_layers {
            layers.push(Layer::take(weights, config, at)?);
        }
        Ok(Self {
            words: table("word", config.vocab_size)?,
            positions: table("position", config.max_position_embeddings)?,
            types: table("token_type", config.type_vocab_size)?,
            norm: Affine::take(weights, "embeddings.LayerNorm", &[h])?,
            layers,
            config: config.clone(),
        })
    }

    /// Dimensions.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Hidden states (T, H) f32 of every token of the batch, in its order.
    pub fn forward(&self, batch: &PackedBatch) -> Result<Tensor, EncoderError> {
        let limit = self.config.max_position_embeddings;
        if batch.longest > limit {
            let longest = batch.longest;
            return Err(EncoderError::Batch(format!(
                "its longest sequence has {longest} tokens; the model takes {limit}"
            )));
        }
        let words = self.words.index_select(&batch.ids, 0)?;
        let positions = self.positions.index_select(&batch.positions, 0)?;
        let types = self.types.index_select(&batch.types, 0)?;
        let mut x = self.norm.norm(&((words + positions)? + types)?, self.config.layer_norm_eps)?;
        for layer in &self.layers {
            x = layer.forward(&x, &batch.offsets, &self.config)?;
        }
        Ok(x.to_dtype(DType::F32)?)
    }
}

#[cfg(test)]
mod tests;

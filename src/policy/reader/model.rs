//! Encoder and heads as one differentiable function of a packed batch.
//!
//! Knows no tokenizer and no cache.

use crate::policy::encoder::{Encoder, EncoderConfig, EncoderError, PackedBatch, Weights};
use crate::policy::layers;
use candle_core::{D, Tensor};

/// Encoder and heads: pairs in, tensors out; also what is fine-tuned.
#[derive(Debug)]
pub struct ReaderModel {
    encoder: Encoder,
    span: (Tensor, Tensor),
    rel: (Tensor, Tensor),
    /// What stands between `[CLS]` and the relevance head in cross-encoders of the BERT family:
    /// tanh of a linear map (`rel.pooler.weight`, `rel.pooler.bias`); readers trained here have none.
    pooler: Option<(Tensor, Tensor)>,
}

/// Outputs of [`ReaderModel::forward`] for B pairs of T tokens in all.
#[derive(Debug)]
pub struct ReaderOutput {
    /// (T, H) hidden states.
    pub states: Tensor,
    /// (B, H) states of the `[CLS]` tokens.
    pub cls: Tensor,
    /// (T, 2) start and end logits.
    pub span: Tensor,
    /// (B) relevance logits.
    pub rel: Tensor,
}

impl ReaderModel {
    /// Takes encoder and heads out of `weights`; they share tensors.
    pub fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self, EncoderError> {
        let h = config.hidden_size;
        Ok(Self {
            encoder: Encoder::new(config, weights)?,
            span: (weights.get("span.weight", &[2, h])?, weights.get("span.bias", &[2])?),
            rel: (weights.get("rel.weight", &[1, h])?, weights.get("rel.bias", &[1])?),
            pooler: match weights.tensors().contains_key("rel.pooler.weight") {
                false => None,
                true => Some((
                    weights.get("rel.pooler.weight", &[h, h])?,
                    weights.get("rel.pooler.bias", &[h])?,
                )),
            },
        })
    }

    /// Hidden width.
    pub fn width(&self) -> usize {
        self.encoder.config().hidden_size
    }

    /// Runs a packed batch.
    pub fn forward(&self, batch: &PackedBatch) -> Result<ReaderOutput, EncoderError> {
        let states = self.encoder.forward(batch)?;
        let first: Vec<u32> = batch.offsets().spans().map(|(start, _)| start as u32).collect();
        let cls = states.index_select(&Tensor::new(first, states.device())?, 0)?;
        let span = layers::linear(&states, &self.span.0, &self.span.1)?;
        let pooled = match &self.pooler {
            None => cls.clone(),
            Some((weight, bias)) => layers::linear(&cls, weight, bias)?.tanh()?,
        };
        let rel = layers::linear(&pooled, &self.rel.0, &self.rel.1)?.squeeze(D::Minus1)?;
        Ok(ReaderOutput { states, cls, span, rel })
    }
}

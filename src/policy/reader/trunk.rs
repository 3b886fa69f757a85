//! A reader on another trunk: the encoder's tensors replaced by trained ones, or being trained.
//!
//! Owns the check that tensors belong to this encoder. Knows no policy and no optimiser. Tokenizer,
//! limits and reader heads stay those of the folder.

use super::pairs::PairEncoder;
use super::{PairReader, ReaderError};
use crate::policy::encoder::{
    Encoder, EncoderConfig, EncoderError, PackedBatch, Trainable, Weights, batches,
};
use actors::types::{Digest, Document};
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What readers of one folder share, whatever their trunks.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) config: EncoderConfig,
    pub(super) pairs: PairEncoder,
    pub(super) digest: Digest,
}

impl PairReader {
    /// The same reader on an encoder in which the tensors of `trunk` stand for this one's, with a
    /// cache and counters of its own.
    ///
    /// `trunk` may be a part of the encoder, in whole blocks: all of a layer or none of it, all
    /// embeddings or none. Its tensors are shared, not copied: hand over none that is being trained.
    ///
    /// # Errors
    /// Names the first tensor that is no weight of this encoder, has another shape, or is missing
    /// from a block of which others are there.
    pub fn with_trunk(&self, trunk: &BTreeMap<String, Tensor>) -> Result<Self, ReaderError> {
        let tensors = self.replaced(trunk)?;
        let (args, device) = (self.args.clone(), self.device.clone());
        Self::assemble(Arc::clone(&self.source), tensors, args, device)
    }

    /// The encoder with the tensors of `trunk` in it, and variables where `which` covers it.
    ///
    /// # Errors
    /// As [`Self::with_trunk`].
    pub fn live_trunk(
        &self,
        trunk: &BTreeMap<String, Tensor>,
        which: Trainable,
    ) -> Result<LiveTrunk, ReaderError> {
        let mut tensors = self.replaced(trunk)?;
        // The reader's own heads are not part of the trunk: nothing of them is trained.
        let shapes = self.source.config.shapes();
        tensors.retain(|name, _| shapes.iter().any(|(known, _)| known == name));
        let weights = Weights::trainable(tensors, which)?;
        Ok(LiveTrunk {
            encoder: Encoder::new(&self.source.config, &weights)?,
            source: Arc::clone(&self.source),
            weights,
            batch_tokens: self.args.batch_tokens,
            device: self.device.clone(),
        })
    }

    /// Whether these pairs can be read at all: what [`Self::read`] would refuse of their texts,
    /// without the encoder.
    ///
    /// # Errors
    /// The first text that cannot be read.
    pub fn check(&self, pairs: &[(&str, &Document)]) -> Result<(), ReaderError> {
        self.source.pairs.encode_all(pairs).map(|_| ())
    }

    /// Tokens of each passage as they would be read ([`super::Reading::tokens`]), without the
    /// encoder.
    ///
    /// # Errors
    /// The first text that cannot be read.
    pub fn passage_tokens(&self, pairs: &[(&str, &Document)]) -> Result<Vec<u32>, ReaderError> {
        let pairs = self.source.pairs.encode_all(pairs)?;
        Ok(pairs.iter().map(|pair| pair.offsets.len() as u32).collect())
    }

    /// Layers of the encoder.
    pub fn layers(&self) -> usize {
        self.source.config.num_hidden_layers
    }

    /// Every tensor of this reader, those of `trunk` in place of its own.
    fn replaced(
        &self,
        trunk: &BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>, ReaderError> {
        let shapes: BTreeMap<String, Vec<usize>> =
            self.source.config.shapes().into_iter().collect();
        for (name, tensor) in trunk {
            let Some(expected) = shapes.get(name) else {
                return Err(ReaderError::ForeignTensor(name.clone()));
            };
            if tensor.dims() != expected.as_slice() {
                let (name, expected) = (name.clone(), expected.clone());
                let found = tensor.dims().to_vec();
                return Err(EncoderError::Shape { name, expected, found }.into());
            }
        }
        for (name, shape) in &shapes {
            let begun = || trunk.keys().any(|other| block(other) == block(name));
            if !trunk.contains_key(name) && begun() {
                let (name, expected) = (name.clone(), shape.clone());
                return Err(EncoderError::Missing { name, expected }.into());
            }
        }
        let mut tensors = self.tensors.clone();
        for (name, tensor) in trunk {
            tensors.insert(name.clone(), tensor.to_device(&self.device)?.detach());
        }
        Ok(tensors)
    }
}

/// What is trained or frozen together: one layer, or the embeddings.
fn block(name: &str) -> &str {
    const LAYER: &str = "encoder.layer.";
    match name.strip_prefix(LAYER) {
        Some(rest) => &name[..LAYER.len() + rest.find('.').unwrap_or(rest.len())],
        None => "embeddings",
    }
}

/// An encoder while it is trained.
pub struct LiveTrunk {
    source: Arc<Source>,
    weights: Weights,
    encoder: Encoder,
    batch_tokens: usize,
    device: Device,
}

impl LiveTrunk {
    /// What is trained, by name.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        self.weights.variables()
    }

    /// (P, H): the `[CLS]` state of each pair, with a gradient to every variable. Never empty-handed:
    /// `pairs` must hold one.
    ///
    /// # Errors
    /// A text that cannot be read, or arithmetic that fails.
    pub fn cls(&self, pairs: &[(&str, &Document)]) -> Result<Tensor, ReaderError> {
        let prepared = self.source.pairs.encode_all(pairs)?;
        let lengths: Vec<usize> = prepared.iter().map(|pair| pair.sequence.ids.len()).collect();
        let mut rows = Vec::new();
        for range in batches(&lengths, self.batch_tokens) {
            let sequences = prepared[range].iter().map(|pair| &pair.sequence);
            let batch = PackedBatch::new(sequences, &self.device)?;
            let states = self.encoder.forward(&batch)?;
            let first: Vec<u32> = batch.offsets().spans().map(|(start, _)| start as u32).collect();
            rows.push(states.index_select(&Tensor::new(first, &self.device)?, 0)?);
        }
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Copies of the trained tensors: later steps do not change them.
    ///
    /// # Errors
    /// The copy fails.
    pub fn snapshot(&self) -> Result<BTreeMap<String, Tensor>, candle_core::Error> {
        let mut copies = self.weights.snapshot()?;
        copies.retain(|name, _| self.weights.variables().contains_key(name));
        Ok(copies)
    }
}

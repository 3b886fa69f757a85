//! A sentence encoder: each text alone becomes one vector of unit length.
//!
//! Owns tokenisation, pooling and normalisation for model folders in the layout of
//! sentence-transformers: a BERT encoder pooled over its tokens, or a table with one vector a token
//! (model2vec). Knows no query, passage or prefix, and no index.

mod description;
mod table;

use super::encoder::{Encoder, EncoderError, PackedBatch, Sequence, Weights, batches};
use super::model_folder::{ModelFolder, ModelFolderError};
use crate::retrieval::to_unit_length;
use actors::types::Digest;
use candle_core::Device;
use description::{Architecture, Description, Pooling};
use std::path::Path;
use table::Table;
use tokenizers::Tokenizer;

/// `[CLS]` and `[SEP]`.
const SPECIALS: usize = 2;
/// Bytes of text tokenised for each token that fits: ample for prose (four to six), and a bound on
/// the work that a book-sized text can cause.
const BYTES_PER_TOKEN: usize = 32;

/// Why texts have no vectors.
#[derive(Debug, thiserror::Error)]
pub enum SentenceError {
    /// The folder is unusable.
    #[error(transparent)]
    Folder(#[from] ModelFolderError),
    /// The folder holds a model that this encoder is not.
    #[error("cannot embed with the model in {folder}: {reason}")]
    Unsupported {
        /// The folder.
        folder: String,
        /// What it asks for and what is supported.
        reason: String,
    },
    /// A limit does not fit the model.
    #[error("max_tokens is {value}; expected {least} to {limit}, the model's positions")]
    MaxTokens {
        /// The setting.
        value: usize,
        /// Least that leaves room for text.
        least: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// The tokenizer failed.
    #[error("cannot tokenise text: {0}")]
    Tokenizer(String),
    /// The forward pass failed.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The model gave something that has no direction.
    #[error("the vector of text {0} of the batch is not finite or zero; the weights are damaged")]
    NoDirection(usize),
}

/// Limits of a [`SentenceEncoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentenceArgs {
    /// Longest sequence in tokens, specials included; the rest of a text is not read. `None`: what
    /// the folder says (`sentence_bert_config.json`), or all positions of the model.
    pub max_tokens: Option<usize>,
    /// Tokens encoded in one forward pass; bounds memory.
    pub batch_tokens: usize,
}

impl Default for SentenceArgs {
    fn default() -> Self {
        Self { max_tokens: None, batch_tokens: 4_096 }
    }
}

enum Model {
    Bert { encoder: Box<Encoder>, cls: u32, sep: u32, pooling: Pooling, device: Device },
    Table(Table),
}

/// The encoder with its tokenizer; immutable.
pub struct SentenceEncoder {
    model: Model,
    tokenizer: Tokenizer,
    digest: Digest,
    max_tokens: usize,
    batch_tokens: usize,
}

impl std::fmt::Debug for SentenceEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentenceEncoder").field("dimension", &self.dimension()).finish()
    }
}

impl SentenceEncoder {
    /// Loads a model folder: `config.json`, `tokenizer.json`, `model.safetensors`, and where they
    /// are present `modules.json`, the pooling's `config.json` and `sentence_bert_config.json`.
    ///
    /// # Errors
    /// A file that is missing or broken; an architecture, pooling or further module that is not
    /// supported; a limit beyond the model's positions.
    pub fn load(folder: &Path, args: SentenceArgs, device: Device) -> Result<Self, SentenceError> {
        let description = Description::read(folder)?;
        match description.architecture {
            Architecture::Table { normalised } => {
                if !normalised {
                    // Every vector here has unit length; the model asks for others.
                    tracing::debug!("the model's vectors are scaled to unit length");
                }
                let table = table::load(folder)?;
                Ok(Self {
                    max_tokens: args.max_tokens.unwrap_or(table::TOKENS_MAX),
                    tokenizer: table.tokenizer,
                    digest: table.digest,
                    model: Model::Table(table.table),
                    batch_tokens: args.batch_tokens.max(1),
                })
            }
            Architecture::Bert(pooling) => Self::bert(folder, &description, pooling, args, device),
        }
    }

    fn bert(
        folder: &Path,
        description: &Description,
        pooling: Pooling,
        args: SentenceArgs,
        device: Device,
    ) -> Result<Self, SentenceError> {
        let model = ModelFolder::load(folder, &device)?;
        let limit = model.config.max_position_embeddings;
        let told = description.max_tokens.map(|tokens| tokens.min(limit));
        let max_tokens = args.max_tokens.or(told).unwrap_or(limit);
        if !(SPECIALS + 1..=limit).contains(&max_tokens) {
            return Err(SentenceError::MaxTokens { value: max_tokens, least: SPECIALS + 1, limit });
        }
        let special = |token: &str| {
            model
                .tokenizer
                .token_to_id(token)
                .ok_or_else(|| SentenceError::Tokenizer(format!("it has no `{token}` token")))
        };
        let (cls, sep) = (special("[CLS]")?, special("[SEP]")?);
        let encoder = Box::new(Encoder::new(&model.config, &Weights::frozen(model.tensors))?);
        Ok(Self {
            model: Model::Bert { encoder, cls, sep, pooling, device },
            tokenizer: model.tokenizer,
            digest: model.digest,
            max_tokens,
            batch_tokens: args.batch_tokens.max(1),
        })
    }

    /// Numbers in a vector.
    pub fn dimension(&self) -> usize {
        match &self.model {
            Model::Bert { encoder, .. } => encoder.config().hidden_size,
            Model::Table(table) => table.width(),
        }
    }

    /// SHA-256 of the weights file.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Longest sequence in tokens, specials included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// One vector of unit length for each text, in order; what does not fit `max_tokens` is not
    /// read.
    ///
    /// # Errors
    /// A text that cannot be tokenised, or weights that give no direction.
    pub fn encode(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, SentenceError> {
        let mut vectors = match &self.model {
            Model::Bert { .. } => self.encode_bert(texts)?,
            Model::Table(table) => {
                let mut means = Vec::with_capacity(texts.len());
                for text in texts {
                    let ids = self.tokenise(text, self.max_tokens)?;
                    means.push(table.mean(&ids).map_err(SentenceError::Tokenizer)?);
                }
                means
            }
        };
        for (at, vector) in vectors.iter_mut().enumerate() {
            if !to_unit_length(vector) {
                return Err(SentenceError::NoDirection(at));
            }
        }
        Ok(vectors)
    }

    fn encode_bert(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, SentenceError> {
        let Model::Bert { encoder, cls, sep, pooling, device } = &self.model else {
            return Ok(Vec::new());
        };
        let mut sequences = Vec::with_capacity(texts.len());
        for text in texts {
            let inner = self.tokenise(text, self.max_tokens - SPECIALS)?;
            let mut ids = Vec::with_capacity(inner.len() + SPECIALS);
            ids.push(*cls);
            ids.extend(inner);
            ids.push(*sep);
            let types = vec![0; ids.len()];
            sequences.push(Sequence { ids, types });
        }
        let lengths: Vec<usize> = sequences.iter().map(|s| s.ids.len()).collect();
        let mut vectors = Vec::with_capacity(texts.len());
        for range in batches(&lengths, self.batch_tokens) {
            let batch = PackedBatch::new(&sequences[range], device)?;
            let states = encoder.forward(&batch)?;
            let flat = states
                .flatten_all()
                .and_then(|s| s.to_vec1::<f32>())
                .map_err(EncoderError::from)?;
            let width = encoder.config().hidden_size;
            for (start, length) in batch.offsets().spans() {
                let rows = &flat[start * width..(start + length) * width];
                vectors.push(pooling.apply(rows, width));
            }
        }
        Ok(vectors)
    }

    fn tokenise(&self, text: &str, limit: usize) -> Result<Vec<u32>, SentenceError> {
        let head = &text[..text.floor_char_boundary(self.max_tokens * BYTES_PER_TOKEN)];
        let encoding = self
            .tokenizer
            .encode(head, false)
            .map_err(|error| SentenceError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids();
        Ok(ids[..ids.len().min(limit)].to_vec())
    }
}

#[cfg(test)]
mod tests;

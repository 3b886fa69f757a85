//! A table with one vector a token, averaged over a text (model2vec): a thousand times cheaper than
//! an encoder, and worse.
//!
//! Knows no text: token ids in, a mean out.

use super::SentenceError;
use crate::policy::model_folder::{ModelFolderError, TOKENIZER_FILE, WEIGHTS_FILE, read_tensors};
use actors::types::{Digest, PolicySnapshot};
use std::path::Path;
use tokenizers::Tokenizer;

/// Tokens read of a text where nothing else is said; what model2vec itself reads.
pub(super) const TOKENS_MAX: usize = 512;
const TENSOR: &str = "embeddings";

/// The table.
pub(super) struct Table {
    rows: Vec<f32>,
    width: usize,
    /// Token that stands for what the vocabulary does not know; it says nothing.
    unknown: Option<u32>,
}

/// A table with what belongs to it.
pub(super) struct Loaded {
    pub(super) table: Table,
    pub(super) tokenizer: Tokenizer,
    pub(super) digest: Digest,
}

/// Loads `tokenizer.json` and `model.safetensors`.
pub(super) fn load(folder: &Path) -> Result<Loaded, SentenceError> {
    let path = folder.join(TOKENIZER_FILE);
    let malformed = |reason: String| ModelFolderError::Malformed { path: path.clone(), reason };
    let mut tokenizer =
        Tokenizer::from_file(&path).map_err(|error| malformed(error.to_string()))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
    let weights = folder.join(WEIGHTS_FILE);
    let bytes = std::fs::read(&weights)
        .map_err(|source| ModelFolderError::Io { path: weights.clone(), source })?;
    let (tensors, _) = read_tensors(&weights)?;
    let wrong = |reason: String| ModelFolderError::Tensor {
        name: TENSOR.to_owned(),
        path: weights.clone(),
        reason,
    };
    let tensor = tensors.get(TENSOR).ok_or_else(|| wrong("missing".to_owned()))?;
    if tensors.len() > 1 {
        let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
        let reason = format!("stands beside others ({}); expected it alone", names.join(", "));
        return Err(wrong(reason).into());
    }
    let (count, width) = tensor.dims2().map_err(|error| wrong(error.to_string()))?;
    if count < tokenizer.get_vocab_size(true) || width == 0 {
        let words = tokenizer.get_vocab_size(true);
        let reason = format!("expected {words} rows, found shape [{count}, {width}]");
        return Err(wrong(reason).into());
    }
    let rows = tensor
        .flatten_all()
        .and_then(|flat| flat.to_vec1())
        .map_err(|error| wrong(error.to_string()))?;
    let unknown = tokenizer.token_to_id("[UNK]");
    let digest = PolicySnapshot::digest_of(&bytes);
    Ok(Loaded { table: Table { rows, width, unknown }, tokenizer, digest })
}

impl Table {
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Mean of the rows of the known tokens; the row of the unknown token where none is known.
    pub(super) fn mean(&self, ids: &[u32]) -> Result<Vec<f32>, String> {
        let known: Vec<u32> = ids.iter().copied().filter(|id| Some(*id) != self.unknown).collect();
        let read = if known.is_empty() { vec![self.unknown.unwrap_or(0)] } else { known };
        let mut mean = vec![0.0_f32; self.width];
        for id in &read {
            let from = *id as usize * self.width;
            let row = self
                .rows
                .get(from..from + self.width)
                .ok_or_else(|| format!("token {id} has no row in the table"))?;
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let scale = 1.0 / read.len() as f32;
        mean.iter_mut().for_each(|x| *x *= scale);
        Ok(mean)
    }
}

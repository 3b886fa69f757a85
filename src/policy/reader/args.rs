//! The limits of a reader, as settings.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Limits of a [`PairReader`](super::PairReader).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReaderArgs {
    /// Longest sequence in tokens, specials included; the passage is cut to fit.
    pub max_tokens: usize,
    /// Longest question in tokens; the rest of it is not read.
    pub max_question_tokens: usize,
    /// Longest question in bytes; a longer one is refused.
    pub max_question_bytes: usize,
    /// Tokens encoded in one forward pass; bounds memory.
    pub batch_tokens: usize,
    /// Readings kept in memory; 0 keeps none.
    pub cache_capacity: usize,
    /// File in which readings are kept beyond the process, for work that reads the same pairs again
    /// and again (training, evaluation); it grows by about 1.6 KB a pair. Whoever loads the reader
    /// opens it.
    pub store: Option<PathBuf>,
}

impl Default for ReaderArgs {
    fn default() -> Self {
        Self {
            max_tokens: 192,
            max_question_tokens: 100,
            max_question_bytes: 16_384,
            batch_tokens: 4_096,
            cache_capacity: 20_000,
            store: None,
        }
    }
}

impl ReaderArgs {
    /// The limits that decide what is read of a pair.
    pub(super) fn lengths(&self) -> (usize, usize) {
        (self.max_tokens, self.max_question_tokens)
    }
}

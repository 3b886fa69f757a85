//! The bounds of one query, and what they may be.

use crate::bounds::all_at_least_one;
use serde::{Deserialize, Serialize};

/// What becomes of a query whose documents cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRetrievalFailure {
    /// It fails, so that the caller can come again.
    #[default]
    Fail,
    /// It is answered without documents, and marked as degraded. A query that the index refuses,
    /// or that found the retriever overloaded, fails all the same.
    Answer,
}

/// Bounds of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest time from admission to the end of generation, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Longest wait for a rewriter's proposals, milliseconds, ≥ 1; then the query is searched as
    /// asked.
    pub rewrite_deadline_ms: u64,
    /// Time kept for the log beyond that, milliseconds, ≥ 1.
    pub log_deadline_ms: u64,
    /// Times a stage is sent to an actor that died with it, ≥ 1.
    pub attempts_max: usize,
    /// Pause after a failed append, milliseconds, ≥ 1.
    pub backoff_ms: u64,
    /// Most candidates a query may bring or ask for, ≥ 1.
    pub candidates_max: usize,
    /// Longest query text, bytes, ≥ 1.
    pub query_bytes_max: usize,
    /// Most values in the filter of a query, over all its keys, ≥ 1.
    pub filter_values_max: usize,
    /// What becomes of a query when the index is away or too slow.
    pub on_retrieval_failure: OnRetrievalFailure,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline_ms: 30_000,
            rewrite_deadline_ms: 3_000,
            log_deadline_ms: 5_000,
            attempts_max: 4,
            backoff_ms: 50,
            candidates_max: 500,
            query_bytes_max: 16_384,
            filter_values_max: 256,
            on_retrieval_failure: OnRetrievalFailure::Fail,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("deadline_ms", self.deadline_ms),
            ("rewrite_deadline_ms", self.rewrite_deadline_ms),
            ("log_deadline_ms", self.log_deadline_ms),
            ("attempts_max", self.attempts_max as u64),
            ("backoff_ms", self.backoff_ms),
            ("candidates_max", self.candidates_max as u64),
            ("query_bytes_max", self.query_bytes_max as u64),
            ("filter_values_max", self.filter_values_max as u64),
        ])
    }
}

//! The bounds of the reranker, and what they may be.

use crate::bounds::all_at_least_one;
use serde::{Deserialize, Serialize};

/// Bounds of the reranker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most queries decided in one pass, ≥ 1.
    pub batch_max: usize,
    /// Queries that may wait for the next pass, ≥ 1.
    pub queue_max: usize,
    /// Longest wait of a caller for its decision, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Longest pass, load or swap; the model is given up after it, milliseconds, ≥ 1.
    pub compute_deadline_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch_max: 8, queue_max: 256, deadline_ms: 5_000, compute_deadline_ms: 30_000 }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("batch_max", self.batch_max as u64),
            ("queue_max", self.queue_max as u64),
            ("deadline_ms", self.deadline_ms),
            ("compute_deadline_ms", self.compute_deadline_ms),
        ])
    }
}

//! The bounds of the policy follower, and what they may be.

use crate::bounds::all_at_least_one;
use serde::{Deserialize, Serialize};

/// Bounds of the follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Champions remembered to fall back on when the newest cannot be loaded, ≥ 1.
    pub champions_max: usize,
    /// Longest time to fetch and swap one champion, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Records read in one step, ≥ 1.
    pub poll_max: usize,
    /// Longest wait for the first record of a step, milliseconds, ≥ 1.
    pub poll_wait_ms: u64,
    /// Pause after a failure, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            champions_max: 16,
            deadline_ms: 60_000,
            poll_max: 1_024,
            poll_wait_ms: 200,
            backoff_ms: 100,
            backoff_max_ms: 30_000,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("champions_max", self.champions_max as u64),
            ("deadline_ms", self.deadline_ms),
            ("poll_max", self.poll_max as u64),
            ("poll_wait_ms", self.poll_wait_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
        ])
    }
}

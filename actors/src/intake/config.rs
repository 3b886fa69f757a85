//! The bounds of the intake, and what they may be.

use crate::bounds::all_at_least_one;
use serde::{Deserialize, Serialize};

/// Bounds of the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether queries are read from the log at all.
    pub enabled: bool,
    /// Queries worked on at once, ≥ 1.
    pub concurrency: usize,
    /// Tries of one query while the door is full or a stage fails, ≥ 1.
    pub attempts_max: u32,
    /// Query names remembered in each partition to know repeats, ≥ 1.
    pub seen_max: usize,
    /// Longest wait for the first record of a step, milliseconds, ≥ 1.
    pub poll_wait_ms: u64,
    /// The same while queries are worked on, ≥ 1: their answers wait for it too.
    pub busy_wait_ms: u64,
    /// Pause after a failure, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            concurrency: 16,
            attempts_max: 8,
            seen_max: 100_000,
            poll_wait_ms: 50,
            busy_wait_ms: 5,
            backoff_ms: 50,
            backoff_max_ms: 5_000,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("concurrency", self.concurrency as u64),
            ("attempts_max", u64::from(self.attempts_max)),
            ("seen_max", self.seen_max as u64),
            ("poll_wait_ms", self.poll_wait_ms),
            ("busy_wait_ms", self.busy_wait_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
        ])
    }
}

//! The bounds of the replay buffer, and what they may be.

use crate::bounds::all_at_least_one;
use serde::{Deserialize, Serialize};

/// Bounds of the replay buffer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Judged episodes kept, ≥ 1, and as many that got no reward.
    pub capacity: usize,
    /// Episodes without a reward yet, and rewards without an episode yet, kept at most, ≥ 1 each.
    pub waiting_max: usize,
    /// Versions a sample may lag behind serving.
    pub staleness_max: u64,
    /// Share of the judged episodes held out for examinations, in [0, 1): the newest. Of exported
    /// questions this share by a hash.
    pub holdout_fraction: f64,
    /// Metadata key whose value groups questions that must not straddle the split of an export.
    pub holdout_key: String,
    /// Records read in one step, ≥ 1.
    pub poll_max: usize,
    /// Longest wait for the first record of a step, milliseconds, ≥ 1.
    pub poll_wait_ms: u64,
    /// Pause after a failure of the log, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            waiting_max: 10_000,
            staleness_max: 8,
            holdout_fraction: 0.2,
            holdout_key: "cluster".to_owned(),
            poll_max: 256,
            poll_wait_ms: 100,
            backoff_ms: 100,
            backoff_max_ms: 30_000,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.holdout_fraction) {
            return Err(format!("holdout_fraction: {} must lie in [0, 1)", self.holdout_fraction));
        }
        all_at_least_one(&[
            ("capacity", self.capacity as u64),
            ("waiting_max", self.waiting_max as u64),
            ("poll_max", self.poll_max as u64),
            ("poll_wait_ms", self.poll_wait_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
        ])
    }
}

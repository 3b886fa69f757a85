//! The bounds of the learner, and what they may be.

use crate::bounds::all_at_least_one;
use serde::{Deserialize, Serialize};

/// Bounds of the learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An update is due this long after the last if there is any new reward, milliseconds; 0:
    /// never.
    pub interval_ms: u64,
    /// An update is due once so many rewards are new; 0: never.
    pub min_new_rewards: u64,
    /// No update is due before the new rewards are this share of those that there are to learn from,
    /// percent: one over the same rewards finds the same weights, and each spends of the gate's α.
    pub min_new_percent: u64,
    /// How often the schedule is looked at, milliseconds, ≥ 1.
    pub tick_ms: u64,
    /// Most samples to train on, ≥ 1.
    pub train_max: usize,
    /// Most held-out samples.
    pub holdout_max: usize,
    /// Longest training, and longest examination, milliseconds, ≥ 1; what is under way then is
    /// cancelled.
    pub deadline_ms: u64,
    /// Threads that learning computes on, at most 256; 0: half of the cores.
    pub threads: usize,
    /// How far they stand back behind serving, from 0 (not at all) to 19; Linux only.
    pub nice: u8,
    /// Longest request to another actor or store while publishing, milliseconds, ≥ 1.
    pub publish_deadline_ms: u64,
    /// Pause after a failed start, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
    /// Records of `regrade.policies` read at the start, ≥ 1.
    pub policies_max: usize,
    /// Champions whose snapshots stay, with their parents; 0: nothing is ever removed.
    pub keep_versions: usize,
    /// A snapshot also stays this long after a record last named it, milliseconds: longer than any
    /// node needs to fetch it.
    pub keep_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval_ms: 60_000,
            min_new_rewards: 64,
            min_new_percent: 25,
            tick_ms: 500,
            train_max: 8_192,
            holdout_max: 2_048,
            deadline_ms: 600_000,
            threads: 0,
            nice: 10,
            publish_deadline_ms: 30_000,
            backoff_ms: 200,
            backoff_max_ms: 30_000,
            policies_max: 100_000,
            keep_versions: 16,
            keep_ms: 86_400_000,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if self.threads > 256 {
            return Err(format!("threads: {} must be at most 256", self.threads));
        }
        if self.min_new_percent > 100 {
            return Err(format!("min_new_percent: {} must be at most 100", self.min_new_percent));
        }
        if self.nice > 19 {
            return Err(format!("nice: {} must be at most 19", self.nice));
        }
        all_at_least_one(&[
            ("tick_ms", self.tick_ms),
            ("train_max", self.train_max as u64),
            ("deadline_ms", self.deadline_ms),
            ("publish_deadline_ms", self.publish_deadline_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
            ("policies_max", self.policies_max as u64),
        ])
    }
}

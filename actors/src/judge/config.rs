//! The bounds of the judge, and what they may be.

use crate::bounds::all_at_least_one;
use serde::{Deserialize, Serialize};

/// Bounds of the judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long an episode waits for feedback to be judged by, and feedback for its episode,
    /// milliseconds, ≥ 1.
    pub join_window_ms: u64,
    /// Episodes kept waiting, ≥ 1; beyond it the oldest expires early.
    pub pending_max: usize,
    /// Episodes due or being judged at which reading pauses, ≥ 1.
    pub backlog_max: usize,
    /// Feedback kept for a decision, ≥ 1, and with that the most revisions of its reward; more is
    /// refused.
    pub feedback_max: usize,
    /// Feedback kept whose decision is not known, ≥ 1; beyond it the oldest is given up.
    pub early_max: usize,
    /// Decisions remembered after their verdict, to know repeats of their episodes, ≥ 1.
    pub done_max: usize,
    /// Judge calls at once, ≥ 1.
    pub concurrency: usize,
    /// Longest judge call, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Judge calls for one episode since the start that may fail, ≥ 1; with the last of them it is
    /// given up.
    pub attempts_max: u32,
    /// Pause after a failed call of judge or log, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
    /// Records read in one step, ≥ 1.
    pub poll_max: usize,
    /// Longest wait for the first record of a step, milliseconds, ≥ 1; verdicts wait for it too.
    pub poll_wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            join_window_ms: 600_000,
            pending_max: 10_000,
            backlog_max: 1_000,
            feedback_max: 64,
            early_max: 10_000,
            done_max: 100_000,
            concurrency: 8,
            deadline_ms: 30_000,
            attempts_max: 20,
            backoff_ms: 100,
            backoff_max_ms: 30_000,
            poll_max: 256,
            poll_wait_ms: 100,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("join_window_ms", self.join_window_ms),
            ("pending_max", self.pending_max as u64),
            ("backlog_max", self.backlog_max as u64),
            ("feedback_max", self.feedback_max as u64),
            ("early_max", self.early_max as u64),
            ("done_max", self.done_max as u64),
            ("concurrency", self.concurrency as u64),
            ("deadline_ms", self.deadline_ms),
            ("attempts_max", u64::from(self.attempts_max)),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
            ("poll_max", self.poll_max as u64),
            ("poll_wait_ms", self.poll_wait_ms),
        ])
    }
}

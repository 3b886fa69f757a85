//! The generator and the judge as one environment: what would this selection have earned?

use crate::types::{Document, Query, Reward};

/// One selection to be tried on one query.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The query, with its reference answers.
    pub query: Query,
    /// The documents, in order.
    pub documents: Vec<Document>,
}

/// Why a trial has no reward.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The generator or the judge failed or abstained; the trial is left out, not scored 0.
    #[error("trial could not be scored: {0}")]
    Unscored(String),
}

/// Scores selections that were never served. Synchronous: it runs on the learner's thread.
pub trait Environment: Send + Sync {
    /// Answers and judges each trial; one result a trial, in order. Deterministic generators are
    /// cached, so repeats are free.
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>>;
}

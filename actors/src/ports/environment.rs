//! The generator and the judge as one environment: what would this selection have earned?

use crate::types::{Document, Query, Reward};
use serde::{Deserialize, Serialize};

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
    /// So many trials may cost more than what is left; nothing was asked.
    #[error("{0}")]
    Unaffordable(String),
}

/// What trials bought of models behind endpoints; models at home cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Purchases {
    /// Calls to the generator, each attempt one.
    pub generator_calls: u64,
    /// Tokens it read and wrote.
    pub generator_tokens: u64,
    /// Calls to the judge.
    pub judge_calls: u64,
    /// Tokens it read and wrote.
    pub judge_tokens: u64,
}

impl Purchases {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            generator_calls: self.generator_calls.saturating_add(other.generator_calls),
            generator_tokens: self.generator_tokens.saturating_add(other.generator_tokens),
            judge_calls: self.judge_calls.saturating_add(other.judge_calls),
            judge_tokens: self.judge_tokens.saturating_add(other.judge_tokens),
        }
    }

    /// What was bought since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            generator_calls: self.generator_calls.saturating_sub(before.generator_calls),
            generator_tokens: self.generator_tokens.saturating_sub(before.generator_tokens),
            judge_calls: self.judge_calls.saturating_sub(before.judge_calls),
            judge_tokens: self.judge_tokens.saturating_sub(before.judge_tokens),
        }
    }
}

/// Scores selections that were never served. Synchronous: it runs on the learner's thread.
pub trait Environment: Send + Sync {
    /// Answers and judges each trial; one result a trial, in order. Deterministic generators are
    /// cached, so repeats are free.
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>>;

    /// Whether a trial of a query without references has no reward, whatever is answered.
    fn needs_references(&self) -> bool {
        false
    }

    /// What was bought since the environment was made.
    fn bought(&self) -> Purchases {
        Purchases::default()
    }

    /// Asks whether so many trials, none of them cached, can be paid for.
    ///
    /// # Errors
    /// Why not, with the figures: what they would cost, and what is left.
    fn afford(&self, _trials: u64) -> Result<(), EnvironmentError> {
        Ok(())
    }
}

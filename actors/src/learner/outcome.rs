//! How updates end, and what is counted of them.
//!
//! Knows no actor.

use crate::ports::{Examination, LearnReport};
use crate::types::PolicyVersion;
use serde::{Deserialize, Serialize};

/// Why serving did not take new weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapFailure {
    /// The weights do not fit: they must not be published.
    #[error("{0}")]
    Refused(String),
    /// Serving could not be asked; it follows the published record later.
    #[error("{0}")]
    Unavailable(String),
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum UpdateOutcome {
    /// The candidate serves.
    Promoted {
        /// Its version.
        version: PolicyVersion,
        /// What training did.
        report: LearnReport,
        /// What the gate found.
        examination: Examination,
    },
    /// The candidate is on record; its stages begin.
    Proposed {
        /// Its version.
        version: PolicyVersion,
        /// What training did.
        report: LearnReport,
        /// What the gate found.
        examination: Examination,
    },
    /// The gate (or the reranker) refused the candidate.
    Rejected {
        /// Its version.
        version: PolicyVersion,
        /// Why.
        reason: String,
        /// What training did.
        report: LearnReport,
        /// What the gate found.
        examination: Examination,
    },
    /// There was not enough to learn from.
    TooLittle {
        /// What lacked.
        reason: String,
    },
    /// No candidate, or one that could not be published.
    Failed {
        /// Where: `sample`, `budget`, `train`, `examine`, `publish`.
        stage: String,
        /// Why.
        reason: String,
    },
    /// The learner panicked and was made anew.
    Panicked {
        /// What it said.
        reason: String,
    },
    /// A step took longer than its deadline: it was cancelled, and the learner made anew.
    TimedOut {
        /// How long it had.
        reason: String,
    },
}

impl UpdateOutcome {
    /// The word under which it is counted.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Promoted { .. } => "promoted",
            Self::Proposed { .. } => "proposed",
            Self::Rejected { .. } => "rejected",
            Self::TooLittle { .. } => "too_little",
            Self::Failed { .. } => "failed",
            Self::Panicked { .. } => "panicked",
            Self::TimedOut { .. } => "timed_out",
        }
    }
}

/// Counters since the last start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Whether this process is the one that learns; the others stand by.
    #[serde(default)]
    pub is_leading: bool,
    /// Whether the learner stands ready with its champion.
    pub is_loaded: bool,
    /// Whether an update runs.
    pub is_updating: bool,
    /// The start of the next update.
    pub champion: PolicyVersion,
    /// Updates over.
    pub updates: u64,
    /// Candidates that serve.
    pub promoted: u64,
    /// Candidates put on record for promotion by stages.
    #[serde(default)]
    pub proposed: u64,
    /// Candidates refused.
    pub rejected: u64,
    /// Updates without a candidate.
    pub failed: u64,
    /// Samples trained on.
    pub trained_samples: u64,
    /// How the last update ended.
    pub last_outcome: Option<UpdateOutcome>,
}

//! What callers of the service may be told instead of a reply.

use crate::episode::Failure;
use crate::types::{DecisionId, FeedbackFault};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The door (or a stage) is full; try later.
    #[error("service is overloaded, try again later")]
    Overloaded,
    /// The service is draining, or does not run the role asked for.
    #[error("not serving: {0}")]
    NotServing(String),
    /// The request itself is wrong; no retry helps.
    #[error("{0}")]
    Refused(String),
    /// What a stage needs is away; try later.
    #[error("{stage} is unavailable: {reason}")]
    Unavailable {
        /// `retrieve`.
        stage: &'static str,
        /// Why.
        reason: String,
    },
    /// A stage failed.
    #[error("{stage} failed: {reason}")]
    Failed {
        /// `retrieve`, `decide`, `generate`, `log` or `episode`.
        stage: &'static str,
        /// Why.
        reason: String,
        /// Whether time ran out.
        timed_out: bool,
    },
}

impl ServiceError {
    /// A stable word for the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::NotServing(_) => "not_serving",
            Self::Refused(_) => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::Failed { timed_out: true, .. } => "timed_out",
            Self::Failed { .. } => "failed",
        }
    }
}

impl From<Failure> for ServiceError {
    fn from(failure: Failure) -> Self {
        let Failure { stage, reason, timed_out, is_refused, is_overloaded, is_unavailable } =
            failure;
        if is_overloaded {
            Self::Overloaded
        } else if is_refused {
            Self::Refused(reason)
        } else if is_unavailable {
            Self::Unavailable { stage, reason }
        } else {
            Self::Failed { stage, reason, timed_out }
        }
    }
}

/// Why feedback was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedbackError {
    /// No such decision, or it was made too long ago.
    #[error("decision `{0}` is not known")]
    UnknownDecision(DecisionId),
    /// The feedback itself is wrong.
    #[error("{0}")]
    Refused(FeedbackFault),
    /// The decision has as much feedback as is kept of one.
    #[error(
        "decision `{0}` has {1} pieces of feedback already, the most that are kept of one \
         (`service.judge.feedback_max`); this one was not stored"
    )]
    Full(DecisionId, usize),
    /// It cannot be written now; try later.
    #[error("feedback cannot be taken now: {0}")]
    Unavailable(String),
}

/// Why a service did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration is out of range.
    #[error("configuration: {0}")]
    Config(String),
    /// A child did not start.
    #[error("cannot start the supervision tree: {0}")]
    Children(String),
}

/// Why an operator's wish was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// It makes no sense as things stand.
    #[error("{0}")]
    Refused(String),
    /// Another try may succeed.
    #[error("{0}")]
    Unavailable(String),
}

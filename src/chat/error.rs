//! Why there is no completion, by what a caller could do about it.

use serde_json::error::Category;
use std::time::Duration;

/// Why one attempt, or the request as a whole, came to nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChatError {
    /// Too many requests wait for this endpoint already.
    #[error("{waiting} requests wait for the endpoint already, no more may")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },
    /// The budget does not reach that far, or cannot be kept; nothing was asked.
    #[error("not asked: {0}")]
    Budget(String),
    /// The deadline passed.
    #[error("no reply within {0:?}")]
    Deadline(Duration),
    /// No connection was made.
    #[error("cannot connect to the endpoint: {0}")]
    Unreachable(String),
    /// The connection broke, or the reply ended in the middle.
    #[error("the reply was lost: {0}")]
    Lost(String),
    /// The server said nothing for too long.
    #[error("the server was silent for {0:?}")]
    Stalled(Duration),
    /// The server refused or failed, in its own words.
    #[error("the server answered {status}: {message}")]
    Status {
        /// HTTP status; 500 for an error within a stream.
        status: u16,
        /// The server's message, shortened.
        message: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// The reply is larger than allowed.
    #[error("the reply is larger than {limit} bytes: raise `reply_bytes_max` if that is right")]
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// The reply is no chat completion.
    #[error("the reply is no chat completion: {0}")]
    Malformed(String),
}

impl ChatError {
    /// Whether another attempt may succeed.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Lost(_) | Self::Stalled(_) => true,
            Self::Status { status, .. } => *status == 408 || *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// Whether the request is at fault, so that neither time nor another server of the kind helps.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 413 | 422, .. })
    }

    /// Whether the server may have done (and charged for) work that it never told us of.
    pub fn may_have_cost(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Unreachable(_) | Self::Budget(_) => false,
            Self::Status { status, .. } => *status >= 500,
            _ => true,
        }
    }

    /// A word for the outcome, of a closed set.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::Budget(_) => "budget",
            Self::Deadline(_) | Self::Stalled(_) => "timeout",
            Self::Unreachable(_) | Self::Lost(_) => "unreachable",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } | Self::Malformed(_) => "malformed",
        }
    }
}

/// A request that came to nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error} (attempts: {attempts})")]
pub struct ChatFailure {
    /// Why the last attempt failed.
    pub error: ChatError,
    /// Attempts made.
    pub attempts: u32,
    /// Of these, the ones that may have cost something.
    pub lost: u32,
}

/// What is wrong with JSON, and where; without the text itself, which may be a user's and must not
/// reach a log through an error.
pub fn shape_error(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io | Category::Eof => "it ends too early",
        Category::Syntax => "it is no JSON",
        Category::Data => "it has another shape than it should",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

//! Why a call of the server failed, sorted by what the caller can do about it.

use crate::adapters::resilience::{Advice, NotAdmitted, Outcome};
use actors::ports::SearchError;
use std::error::Error as _;
use std::time::Duration;
use tonic::{Code, Status};

/// Why there is no reply, or none that is of use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The server is away or in trouble; another try may succeed.
    #[error("{0}")]
    Away(String),
    /// It gave no reply in time; another try may succeed.
    #[error("no reply within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// It has too much to do, and perhaps said for how long.
    #[error("the server limits the rate of calls: {message}")]
    Exhausted {
        /// What it said.
        message: String,
        /// How long to stay away.
        retry_after: Option<Duration>,
    },
    /// Nobody was asked: the circuit breaker is open.
    #[error("{0}")]
    NotAdmitted(#[from] NotAdmitted),
    /// Server and configuration do not fit together; somebody has to act.
    #[error("{0}")]
    Misfit(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// What it means for the next attempt.
    pub(super) fn advice(&self) -> Advice {
        match self {
            Self::Away(_) | Self::Deadline(_) | Self::Exhausted { retry_after: None, .. } => {
                Advice::Again
            }
            Self::Exhausted { retry_after: Some(time), .. } => Advice::AgainAfter(*time),
            Self::NotAdmitted(_) | Self::Misfit(_) | Self::Refused(_) => Advice::GiveUp,
        }
    }

    /// What it says of the server's health. A server that answers with a limit or a refusal is up.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Away(_) | Self::Deadline(_) => Outcome::Failure,
            _ => Outcome::Neither,
        }
    }

    /// The word for it in the metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Away(_) => "unavailable",
            Self::Deadline(_) => "deadline",
            Self::Exhausted { .. } => "exhausted",
            Self::NotAdmitted(_) => "not_admitted",
            Self::Misfit(_) | Self::Refused(_) => "refused",
        }
    }

    /// Whether time alone may mend it.
    pub(super) fn is_passing(&self) -> bool {
        !matches!(self, Self::Misfit(_) | Self::Refused(_))
    }
}

impl From<Failure> for SearchError {
    fn from(failure: Failure) -> Self {
        match failure {
            // The caller of a search cannot mend a misfit; to him the index is away.
            Failure::Refused(reason) => Self::Refused(reason),
            failure => Self::Unavailable(format!("qdrant: {failure}")),
        }
    }
}

impl From<Status> for Failure {
    /// Servers and clients disagree on codes: a broken connection may come as `Unknown` or
    /// `Internal`, a call given up as `Cancelled`. All of them are worth another try.
    fn from(status: Status) -> Self {
        let text = described(&status);
        match status.code() {
            Code::ResourceExhausted => Self::Exhausted {
                message: text,
                retry_after: status
                    .metadata()
                    .get("retry-after")
                    .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                    .map(Duration::from_secs),
            },
            _ if is_no_grpc(&text) => Self::Misfit(format!(
                "what listens there does not speak gRPC: use the gRPC port, 6334 unless changed \
                 (6333 is the REST port), in `index.qdrant.url` ({text})"
            )),
            Code::Unauthenticated | Code::PermissionDenied => Self::Misfit(format!(
                "the server refuses the API key: put the right one into the environment variable \
                 that `index.qdrant.api_key_env` names ({text})"
            )),
            Code::NotFound => Self::Misfit(format!(
                "{text}: the collection was removed; start again to make it, and index again"
            )),
            Code::Unimplemented => {
                Self::Misfit(format!("{text}: the server is too old; use Qdrant 1.16 or newer"))
            }
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
                Self::Refused(text)
            }
            Code::AlreadyExists => Self::Refused(text),
            _ => Self::Away(text),
        }
    }
}

/// The message with the innermost cause, where that says more.
fn described(status: &Status) -> String {
    let mut text = status.message().trim().to_owned();
    if text.is_empty() {
        text = status.code().to_string();
    }
    let mut cause = status.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if error.source().is_none() && !inner.is_empty() && !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

/// Whether an error is what HTTP/1 on the other side looks like.
fn is_no_grpc(text: &str) -> bool {
    ["invalid size", "invalid HTTP version", "invalid compression flag", "invalid content-type"]
        .iter()
        .any(|sign| text.contains(sign))
}

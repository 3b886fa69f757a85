//! What the reranker understands, and what it says: replies, errors, counters.

use crate::ports::{DecideRequest, PolicyError};
use crate::types::{Decision, PolicySnapshot, PolicyStamp, PolicyVersion};
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::time::Instant;

/// Why there is no decision, or no swap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request cannot be decided.
    #[error("{0}")]
    Refused(String),
    /// The model failed on it.
    #[error("{0}")]
    Model(String),
    /// The model panicked on it, asked alone.
    #[error("policy panicked on this request: {0}")]
    Panicked(String),
    /// The weights do not fit; the old ones serve on.
    #[error("{0}")]
    Snapshot(String),
    /// The weights that were asked for are not here (any more).
    #[error("policy {0} is not hosted here")]
    NotHosted(PolicyVersion),
    /// Too many requests wait already.
    #[error("reranker is overloaded")]
    Overloaded,
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Self {
        match &error {
            PolicyError::Refused(_) => Self::Refused(error.to_string()),
            PolicyError::Model(_) => Self::Model(error.to_string()),
            PolicyError::Snapshot { .. } => Self::Snapshot(error.to_string()),
        }
    }
}

/// What the reranker understands.
#[derive(Debug)]
pub enum Message {
    /// Decides one query.
    Decide(Box<DecideRequest>, RpcReplyPort<Result<Decision, Error>>),
    /// Replaces the weights between two batches.
    Swap(Arc<PolicySnapshot>, RpcReplyPort<Result<PolicyStamp, Error>>),
    /// Takes the weights of a candidate beside the champion's.
    Host(Arc<PolicySnapshot>, RpcReplyPort<Result<PolicyStamp, Error>>),
    /// Drops all candidates but these.
    KeepOnly(Vec<PolicyVersion>),
    /// Drops one candidate; replies once nothing is decided by it any more.
    Forget(PolicyVersion, RpcReplyPort<()>),
    /// Makes a real forward pass.
    Probe(RpcReplyPort<Result<Decision, Error>>),
    /// The model is there, or not (sent by itself).
    Loaded(Result<PolicyStamp, String>),
    /// A pass is over (sent by itself).
    #[doc(hidden)]
    Decided(PassBox),
    /// A swap is over (sent by itself).
    #[doc(hidden)]
    Swapped(SwapBox),
    /// Candidates were dropped; those that are left (sent by itself).
    #[doc(hidden)]
    Kept(Result<Vec<PolicyVersion>, String>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

/// One result a request, in order.
pub type Results = Vec<Result<Decision, Error>>;

pub(super) type Reply = RpcReplyPort<Result<Decision, Error>>;
pub(super) type SwapReply = RpcReplyPort<Result<PolicyStamp, Error>>;

/// Requests that went through the model together.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) requests: Vec<DecideRequest>,
    pub(super) replies: Vec<Reply>,
    /// Whether the one request here was in a pass that panicked before.
    pub(super) is_again: bool,
}

#[doc(hidden)]
#[derive(Debug)]
pub struct PassBox(pub(super) Box<Over>);
#[doc(hidden)]
#[derive(Debug)]
pub struct SwapBox(pub(super) Box<SwapOver>);

/// A pass with its results, or why the policy broke; or why the whole model is lost.
pub(super) type Over = Result<(Pass, Result<Results, String>), String>;

#[derive(Debug)]
pub(super) struct SwapOver {
    /// Whether the weights are for the champion's place.
    pub(super) is_champion: bool,
    pub(super) snapshot: Arc<PolicySnapshot>,
    pub(super) reply: SwapReply,
    pub(super) began: Instant,
    pub(super) result: Result<Result<Result<PolicyStamp, Error>, String>, String>,
}

/// Counters since the last start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Whether the model is loaded.
    pub is_loaded: bool,
    /// Weights in use.
    pub policy: PolicyStamp,
    /// Decisions asked for.
    pub requested: u64,
    /// Decisions made.
    pub decided: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests refused because too many waited.
    pub refused: u64,
    /// Panics of the policy that were caught; it was made anew after each.
    pub panics: u64,
    /// Passes of the model.
    pub batches: u64,
    /// Largest batch.
    pub batch_largest: usize,
    /// Candidates hosted beside the champion.
    #[serde(default)]
    pub hosted: Vec<PolicyVersion>,
    /// Swaps done.
    pub swaps: u64,
    /// Swaps refused.
    pub swaps_refused: u64,
    /// Duration of the last swap, milliseconds.
    pub swap_last_ms: f64,
    /// Requests waiting.
    pub waiting: usize,
}

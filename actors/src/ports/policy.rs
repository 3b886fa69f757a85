//! What decides which documents reach the generator.

use crate::types::{
    Candidate, Decision, DecisionId, Exploration, PolicySnapshot, PolicyStamp, PolicyVersion,
    Query, SelectionLimits,
};
use rand::rngs::StdRng;

/// Everything one decision depends on, chance apart.
#[derive(Debug, Clone)]
pub struct DecideRequest {
    /// Name for the decision to be made.
    pub id: DecisionId,
    /// The query.
    pub query: Query,
    /// What can be chosen, in retrieval order.
    pub candidates: Vec<Candidate>,
    /// Masks.
    pub limits: SelectionLimits,
    /// How to draw.
    pub exploration: Exploration,
    /// The weights that are to decide, where it is not the champion.
    pub policy: Option<PolicyVersion>,
}

/// Why a decision or a swap failed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The request cannot be decided (no candidates, text that cannot be encoded).
    #[error("cannot decide: {0}")]
    Refused(String),
    /// The model failed on a sound request.
    #[error("policy model failed: {0}")]
    Model(String),
    /// The weights do not fit; the old ones stay.
    #[error("cannot load policy {version}: {reason}")]
    Snapshot {
        /// Version refused.
        version: String,
        /// What is wrong, naming the tensor where one is.
        reason: String,
    },
}

/// A policy over ordered selections. Synchronous: it runs on a compute thread.
pub trait Policy: Send {
    /// Decides each request; one result a request, in order. All of them are made by one set of
    /// weights, whose stamp each decision carries.
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>>;

    /// Replaces the weights, all or nothing, after checking digest, names and shapes.
    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError>;

    /// The weights in use.
    fn stamp(&self) -> PolicyStamp;
}

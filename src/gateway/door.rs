//! What the gateway needs of the service behind it, so that the wire is tested alone.
//!
//! The shapes are those of `actors::service::ServiceHandle`; until that branch is merged they stand
//! here. Then this file is `impl Door for ServiceHandle` and a re-export.

use actors::types::{
    Answer, DecisionId, Document, Exploration, Feedback, Gate, PolicyStamp, Query, QueryId,
    SelectionLimits,
};
use async_trait::async_trait;

/// What one caller asks for beyond the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// Limits of this selection.
    pub limits: Option<SelectionLimits>,
    /// How this decision is drawn.
    pub exploration: Option<Exploration>,
    /// Documents asked of the index.
    pub top_n: Option<usize>,
}

/// One chosen document.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The document.
    pub document: Document,
    /// Its place in the candidate list.
    pub index: u32,
    /// The policy's score, a logit.
    pub score: f32,
}

/// A query answered (or reranked) and logged.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// The query.
    pub query_id: QueryId,
    /// The decision; feedback names it.
    pub decision_id: DecisionId,
    /// `None` when only reranked.
    pub answer: Option<Answer>,
    /// The chosen documents, in order.
    pub documents: Vec<Ranked>,
    /// Whether documents were retrieved.
    pub gate: Gate,
    /// Which weights decided.
    pub policy: PolicyStamp,
    /// From admission to the answer, milliseconds.
    pub duration_ms: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceError {
    /// The door is full.
    Overloaded,
    /// Draining, or the role is not run here.
    NotServing(String),
    /// The request itself is wrong.
    Refused(String),
    /// A stage failed.
    Failed {
        /// `retrieve`, `decide`, `generate` or `log`.
        stage: &'static str,
        /// Why.
        reason: String,
        /// Whether its deadline passed.
        timed_out: bool,
    },
}

/// Why feedback was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedbackError {
    /// No such decision is remembered.
    UnknownDecision(DecisionId),
    /// The feedback is wrong.
    Refused(String),
    /// It could not be stored.
    Unavailable(String),
}

/// Whether the service can answer now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// The service as the gateway sees it.
#[async_trait]
pub trait Door: Send + Sync {
    /// Retrieves, decides, answers.
    async fn answer(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError>;

    /// Decides over the given candidates; nothing is generated.
    async fn rerank(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError>;

    /// Stores feedback; durable when it returns. Gives its id.
    async fn feedback(&self, feedback: Feedback) -> Result<String, FeedbackError>;

    /// A real forward pass and all children up.
    async fn ready(&self) -> Readiness;

    /// Which weights serve.
    fn policy(&self) -> PolicyStamp;
}

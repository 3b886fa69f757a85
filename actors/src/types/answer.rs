//! What the generator says, and what the caller gets.

use super::{DecisionId, Degraded, Document, DocumentId, Gate, PolicyStamp, QueryId};
use serde::{Deserialize, Serialize};

/// The answer to one query.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The text shown to the user; empty when the generator found no answer.
    pub text: String,
    /// Documents the answer rests on.
    pub citations: Vec<DocumentId>,
    /// Generator's own confidence where it has one; unbounded, comparable within one generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// What it cost.
    pub usage: Usage,
    /// Which generator answered, where there is more than one that might have; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub generator: String,
}

/// Tokens spent on one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the documents put before the generator.
    pub context_tokens: u32,
    /// Tokens the generator wrote.
    pub answer_tokens: u32,
}

/// One chosen document as the caller sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The document.
    pub document: Document,
    /// Its index among the candidates.
    pub index: u32,
    /// The policy's score (a logit); comparable within one decision.
    pub score: f32,
}

/// A query answered or reranked, and logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The query.
    pub query_id: QueryId,
    /// The decision; feedback refers to it.
    pub decision_id: DecisionId,
    /// The answer; `None` on the rerank-only path.
    pub answer: Option<Answer>,
    /// The chosen documents, in order.
    pub documents: Vec<Ranked>,
    /// Whether documents were fetched at all.
    pub gate: Gate,
    /// What the answer had to do without; `None` as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Degraded>,
    /// Which weights decided.
    pub policy: PolicyStamp,
    /// Probability of the whole decision under the behaviour policy, in (0, 1]; `None` when it was
    /// greedy, for chance had no part in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
    /// Whether exploration led to another selection than the greedy one; absent where that is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviates: Option<bool>,
    /// Where the time went.
    #[serde(default)]
    pub timings: Timings,
    /// From admission to the answer, milliseconds.
    pub duration_ms: u64,
}

/// Time spent in each stage of one query, milliseconds, waiting for the actor included; 0 for a
/// stage that was left out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// Finding candidates.
    pub retrieve_ms: f64,
    /// Choosing among them.
    pub decide_ms: f64,
    /// Answering from what was chosen.
    pub generate_ms: f64,
}

/// The record in `regrade.answers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// Schema of this record.
    pub schema: u32,
    /// The query.
    pub query_id: QueryId,
    /// What was served, if anything was.
    pub served: Option<Served>,
    /// Why nothing was, if so.
    pub error: Option<String>,
    /// When, milliseconds since the Unix epoch.
    pub time_ms: u64,
}

//! One query served, as data: what the log keeps of it.

use super::{
    Answer, Assignment, Candidate, Decision, DecisionId, Interleaved, Query, Rewrite,
    SCHEMA_VERSION,
};
use serde::{Deserialize, Serialize};

/// How an accepted query ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The user has an answer.
    Answered {
        /// The answer.
        answer: Answer,
    },
    /// The caller has an order of its own candidates; nothing was generated.
    Reranked,
    /// The user has an error that names the stage.
    Failed {
        /// Where: `retrieve`, `decide`, `generate`.
        stage: String,
        /// Why.
        reason: String,
    },
}

/// What an answer had to do without. Such an episode says nothing of the policy: it is never trained
/// on, and its gate is no decision of anybody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// The stage that gave nothing: `retrieve`.
    pub stage: String,
    /// Why.
    pub reason: String,
}

/// The trajectory of one query, written once it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Schema of this record.
    pub schema: u32,
    /// The query as admitted.
    pub query: Query,
    /// Other texts to search with that were proposed; the decision's `rewrite` counts them from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Rewrite>,
    /// What could be chosen, in retrieval order.
    pub candidates: Vec<Candidate>,
    /// What was chosen; `None` when the query failed before a decision.
    pub decision: Option<Decision>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What the answer had to do without; `None` as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Degraded>,
    /// Where it stood in the experiments of its time; absent in records of before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
    /// Whose the documents are, where two policies drafted the context together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interleaved: Option<Interleaved>,
    /// Why off-policy estimates may not rest on it (`greedy`, `budget_spent`, `direct`,
    /// `degraded`, `interleaved`, `no_decision`, `no_states`, `forced`); absent where they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable_for_ope: Option<String>,
    /// When it ended, milliseconds since the Unix epoch.
    pub finished_ms: u64,
    /// From admission to the answer, milliseconds.
    pub duration_ms: u64,
}

impl Episode {
    /// The schema this build writes.
    pub const SCHEMA: u32 = SCHEMA_VERSION;

    /// The decision's id, if there was a decision.
    pub fn decision_id(&self) -> Option<&DecisionId> {
        self.decision.as_ref().map(|d| &d.id)
    }
}

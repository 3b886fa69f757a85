//! What a candidate would have done with a live query: the record of a shadow decision.

use super::{DecisionId, PolicyStamp, Reward, SCHEMA_VERSION};
use serde::{Deserialize, Serialize};

/// How far two selections from the same candidates agree.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Agreement {
    /// Kendall's tau-b of the two score lists over all candidates, in [-1, 1]; 0 where either does
    /// not order them at all.
    pub kendall_tau: f64,
    /// Share of the champion's documents that the shadow chose too, in [0, 1]; 1 where both chose
    /// none.
    pub overlap: f64,
    /// Documents of the shadow less documents of the champion.
    pub k_difference: i64,
}

/// The record in `regrade.shadows`. It is written by best effort: shadows go first under load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowRecord {
    /// Schema of this record.
    pub schema: u32,
    /// The live decision beside it.
    pub decision_id: DecisionId,
    /// The candidate.
    pub policy: PolicyStamp,
    /// The champion, or whichever policy served.
    pub served: PolicyStamp,
    /// Chosen candidates, in order; empty where it failed.
    pub order: Vec<u32>,
    /// Context tokens of its documents.
    pub context_tokens: u64,
    /// Context tokens of the served documents.
    pub served_tokens: u64,
    /// How far it agrees with what was served; absent where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
    /// Time of its decision, milliseconds.
    pub decide_ms: f64,
    /// Why there is no decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Reward of its answer, where it was answered and judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Reward>,
    /// When, milliseconds since the Unix epoch.
    pub time_ms: u64,
}

impl ShadowRecord {
    /// The schema this build writes.
    pub const SCHEMA: u32 = SCHEMA_VERSION;
}

//! What a readiness check asks.

use crate::ports::DecideRequest;
use crate::types::{Candidate, DecisionId, Document, Exploration, Query, SelectionLimits};

/// The request of a readiness check: one query, one candidate, no chance.
pub(super) fn probe() -> DecideRequest {
    let text = "is the policy ready".to_owned();
    let document = Document { id: "probe".into(), text: text.clone(), ..Document::default() };
    DecideRequest {
        id: DecisionId::from("probe"),
        query: Query { text, ..Query::default() },
        candidates: vec![Candidate { document, score: 1.0, rank: 0 }],
        limits: SelectionLimits { k_min: 1, k_max: 1, token_budget: 512 },
        exploration: Exploration::Greedy,
        policy: None,
    }
}

//! A service that does as it is told.

use actors::rollout::Board;
use actors::service::{
    FeedbackError, KnownDecision, OperatorError, Overrides, Ranked, Readiness, Receipt, RolledBack,
    Served, ServiceError, Standing,
};
use actors::types::{
    Answer, DecisionId, Digest, Document, Feedback, Gate, PolicyRecord, PolicySnapshot,
    PolicyStamp, PolicyState, PolicyVersion, Query, Timings, Usage,
};
use async_trait::async_trait;
use regrade::gateway::Door;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Chooses the last candidates first, at most `k_max` of them.
pub(super) struct ScriptedDoor {
    /// Every query fails so.
    pub(super) fails: Option<ServiceError>,
    /// Whether `ready` says yes.
    pub(super) is_ready: bool,
    /// An answer takes one permit: none, and it waits.
    pub(super) permits: Arc<Semaphore>,
    /// Gets one permit for each query that has arrived.
    pub(super) arrived: Arc<Semaphore>,
}

impl Default for ScriptedDoor {
    fn default() -> Self {
        Self {
            fails: None,
            is_ready: true,
            permits: Arc::new(Semaphore::new(1_000)),
            arrived: Arc::new(Semaphore::new(0)),
        }
    }
}

impl ScriptedDoor {
    async fn serve(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError> {
        self.arrived.add_permits(1);
        if let Some(error) = &self.fails {
            return Err(error.clone());
        }
        self.permits.acquire().await.unwrap().forget();
        let k_max = overrides.limits.map_or(10, |limits| limits.k_max) as usize;
        let candidates = query.candidates.unwrap_or_else(|| vec![found("indexed")]);
        let documents = candidates
            .into_iter()
            .enumerate()
            .rev()
            .take(k_max)
            .map(|(index, document)| Ranked { document, index: index as u32, score: index as f32 })
            .collect();
        Ok(Served {
            deviates: None,
            query_id: query.id,
            decision_id: DecisionId("d-1".to_owned()),
            answer: None,
            documents,
            gate: Gate::Retrieve,
            degraded: None,
            policy: self.policy(),
            propensity: Some(0.25),
            timings: Timings { retrieve_ms: 0.5, decide_ms: 1.5, generate_ms: 1.0 },
            duration_ms: 3,
        })
    }
}

fn found(text: &str) -> Document {
    Document { id: text.into(), text: text.to_owned(), ..Document::default() }
}

#[async_trait]
impl Door for ScriptedDoor {
    async fn answer(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError> {
        let mut served = self.serve(query, overrides).await?;
        served.answer = Some(Answer {
            text: "Paris".to_owned(),
            citations: vec![served.documents[0].document.id.clone()],
            confidence: None,
            usage: Usage { context_tokens: 11, answer_tokens: 1 },
            generator: String::new(),
        });
        Ok(served)
    }

    async fn rerank(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError> {
        self.serve(query, overrides).await
    }

    async fn feedback(&self, feedback: Feedback) -> Result<Receipt, FeedbackError> {
        let is_repeat = feedback.id == "again";
        let status = match feedback.decision_id.as_str() {
            "d-1" => Standing::Joined,
            "d-2" => Standing::Revised,
            "d-3" => Standing::Pending,
            "d-full" => return Err(FeedbackError::Full(feedback.decision_id, 64)),
            _ => return Err(FeedbackError::UnknownDecision(feedback.decision_id)),
        };
        let (id, decision_id) = ("f-1".to_owned(), feedback.decision_id);
        Ok(Receipt { id, decision_id, status, is_repeat })
    }

    async fn decision(&self, id: &DecisionId) -> Result<KnownDecision, FeedbackError> {
        Err(FeedbackError::UnknownDecision(id.clone()))
    }

    async fn ready(&self) -> Readiness {
        let reasons = if self.is_ready { vec![] } else { vec!["reranker is down".to_owned()] };
        Readiness { ready: self.is_ready, reasons }
    }

    async fn board(&self) -> Result<Board, OperatorError> {
        let snapshot = PolicySnapshot::new(PolicyVersion(3), None, "test", vec![]);
        Ok(Board::of(&[PolicyRecord::of(&snapshot, PolicyState::Champion, "better", 1)]))
    }

    async fn rollback(
        &self,
        version: Option<PolicyVersion>,
        reason: &str,
        _wait: Duration,
    ) -> Result<RolledBack, OperatorError> {
        if reason == "unlucky" {
            return Err(OperatorError::Unavailable("the log is away".to_owned()));
        }
        match version.unwrap_or(PolicyVersion(3)) {
            version @ PolicyVersion(3) => Ok(RolledBack {
                version,
                from: PolicyState::Champion,
                champion: PolicyVersion(2),
                took_ms: 1.5,
            }),
            version => Err(OperatorError::Refused(format!("{version} is not under way"))),
        }
    }

    fn policy(&self) -> PolicyStamp {
        PolicyStamp { version: PolicyVersion(3), digest: Digest("abc".to_owned()) }
    }
}

//! What the gateway needs of the service behind it, so that the wire is tested alone.

use actors::rollout::Board;
use actors::service::{
    FeedbackError, KnownDecision, OperatorError, Overrides, Readiness, Receipt, RolledBack, Served,
    ServiceError, ServiceHandle,
};
use actors::types::{DecisionId, Feedback, PolicyStamp, PolicyVersion, Query};
use async_trait::async_trait;
use std::time::Duration;

/// The service as the gateway sees it; [`ServiceHandle`] is one.
#[async_trait]
pub trait Door: Send + Sync {
    /// Retrieves, decides, answers.
    async fn answer(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError>;

    /// Decides over the given candidates; nothing is generated.
    async fn rerank(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError>;

    /// Stores feedback; durable when it returns. Says where it stands.
    async fn feedback(&self, feedback: Feedback) -> Result<Receipt, FeedbackError>;

    /// All that is known of a decision.
    async fn decision(&self, id: &DecisionId) -> Result<KnownDecision, FeedbackError>;

    /// A real forward pass and all children up.
    async fn ready(&self) -> Readiness;

    /// What became of every version.
    async fn board(&self) -> Result<Board, OperatorError>;

    /// Takes a version back, or the champion; done when nobody is served by it here any more.
    async fn rollback(
        &self,
        version: Option<PolicyVersion>,
        reason: &str,
        wait: Duration,
    ) -> Result<RolledBack, OperatorError>;

    /// Which weights serve.
    fn policy(&self) -> PolicyStamp;
}

#[async_trait]
impl Door for ServiceHandle {
    async fn answer(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError> {
        ServiceHandle::answer(self, query, overrides).await
    }

    async fn rerank(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError> {
        ServiceHandle::rerank(self, query, overrides).await
    }

    async fn feedback(&self, feedback: Feedback) -> Result<Receipt, FeedbackError> {
        ServiceHandle::feedback(self, feedback).await
    }

    async fn decision(&self, id: &DecisionId) -> Result<KnownDecision, FeedbackError> {
        ServiceHandle::decision(self, id).await
    }

    async fn ready(&self) -> Readiness {
        ServiceHandle::ready(self).await
    }

    async fn board(&self) -> Result<Board, OperatorError> {
        ServiceHandle::board(self).await
    }

    async fn rollback(
        &self,
        version: Option<PolicyVersion>,
        reason: &str,
        wait: Duration,
    ) -> Result<RolledBack, OperatorError> {
        ServiceHandle::rollback(self, version, reason, wait).await
    }

    fn policy(&self) -> PolicyStamp {
        ServiceHandle::policy(self)
    }
}

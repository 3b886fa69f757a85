//! What proposes other texts to search with than the query as asked.

use crate::types::{Query, Rewrite};
use async_trait::async_trait;

/// Why there is no proposal.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The rewriter cannot be reached or is overloaded; the query is searched as asked.
    #[error("rewriter is unavailable: {0}")]
    Unavailable(String),
    /// The request itself is wrong, or what came back is of no use.
    #[error("rewriter refused the request: {0}")]
    Refused(String),
}

/// Proposes texts to search with in the place of a query.
#[async_trait]
pub trait Rewriter: Send + Sync {
    /// The proposals, the most promising first; none is legal. No proposal is empty.
    async fn propose(&self, query: &Query) -> Result<Vec<Rewrite>, RewriteError>;
}

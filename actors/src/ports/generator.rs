//! What answers a question from documents: the environment's step.

use crate::types::{Answer, Document, Query};
use async_trait::async_trait;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The generator cannot be reached or is overloaded; another try may succeed.
    #[error("generator is unavailable: {0}")]
    Unavailable(String),
    /// The request itself is wrong; no retry helps.
    #[error("generator refused the request: {0}")]
    Refused(String),
}

/// Answers a question from documents, in the order given; an empty list is legal.
#[async_trait]
pub trait Generator: Send + Sync {
    /// Answers the query. An empty answer text means "not found in these documents".
    async fn answer(&self, query: &Query, documents: &[Document]) -> Result<Answer, GenerateError>;
}

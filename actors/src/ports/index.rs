//! Where documents are found.

use crate::types::{Candidate, Document, DocumentId};
use async_trait::async_trait;

/// Why a search or a write failed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The index cannot be reached or is broken; another try may succeed.
    #[error("search index is unavailable: {0}")]
    Unavailable(String),
    /// The request itself is wrong; no retry helps.
    #[error("search index refused the request: {0}")]
    Refused(String),
}

/// A collection of passages that can be searched.
#[async_trait]
pub trait SearchIndex: Send + Sync {
    /// Returns at most `k` candidates, best first, ties by document id, ranks from 0. A query
    /// without any known term gives an empty list, not an error.
    async fn search(&self, query: &str, k: usize) -> Result<Vec<Candidate>, SearchError>;

    /// Adds passages, replacing those with the same id; searchable when it returns.
    async fn upsert(&self, documents: &[Document]) -> Result<(), SearchError>;

    /// Removes passages; unknown ids are ignored.
    async fn delete(&self, ids: &[DocumentId]) -> Result<(), SearchError>;

    /// Number of passages.
    async fn count(&self) -> Result<u64, SearchError>;
}

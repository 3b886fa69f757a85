//! Where documents are found.

use crate::types::{Candidate, Document, DocumentId, Filter, Query};
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

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// The text; any characters, of any length.
    pub text: String,
    /// Which passages may be found. An index may refuse keys that it keeps no index of.
    pub filter: Filter,
    /// Most candidates.
    pub k: usize,
}

impl Search {
    /// The `k` best of all passages.
    pub fn new(text: impl Into<String>, k: usize) -> Self {
        Self { text: text.into(), filter: Filter::new(), k }
    }

    /// The `k` best of those that a query lets through.
    pub fn of(query: &Query, k: usize) -> Self {
        Self { text: query.text.clone(), filter: query.filter.clone(), k }
    }

    /// Whether the filter lets a passage through.
    pub fn admits(&self, document: &Document) -> bool {
        self.filter.iter().all(|(key, values)| {
            document.metadata.get(key).is_some_and(|value| values.contains(value))
        })
    }
}

/// A collection of passages that can be searched.
#[async_trait]
pub trait SearchIndex: Send + Sync {
    /// Returns at most `k` candidates that the filter lets through, best first, ties by document
    /// id, ranks from 0. A text without any known term gives an empty list, not an error.
    async fn search(&self, search: &Search) -> Result<Vec<Candidate>, SearchError>;

    /// Adds passages, replacing those with the same id; searchable when it returns.
    async fn upsert(&self, documents: &[Document]) -> Result<(), SearchError>;

    /// Removes passages; unknown ids are ignored.
    async fn delete(&self, ids: &[DocumentId]) -> Result<(), SearchError>;

    /// Number of passages.
    async fn count(&self) -> Result<u64, SearchError>;
}

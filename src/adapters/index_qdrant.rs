//! The search index on a Qdrant server: `ports::SearchIndex` over gRPC.
//!
//! BM25 comes as sparse vectors made here, dense vectors from an [`Embedder`] if there is one; both
//! ranked lists are fetched in one call and fused here, so that an order repeats and a score can be
//! explained. Every call is bounded in time, retried with pauses, and searches stop for a while when
//! the server is away. The collection is made or checked before it is first used: a server that is
//! away at the start does not stop the service, one that does not fit does.

mod collection;
mod config;
mod connection;
mod failure;
mod points;
mod schema;

pub use config::QdrantConfig;

use crate::retrieval::Embedder;
use actors::ports::{Search, SearchError, SearchIndex};
use actors::types::{Candidate, Document, DocumentId};
use async_trait::async_trait;
use collection::Collection;
use failure::Failure;
use rand::rngs::StdRng;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout_at;

/// Counter of passages that the server has confirmed.
pub const WRITTEN_TOTAL: &str = "regrade_index_passages_written_total";
/// Largest batch, bytes of text: a server takes 32 MB in one call unless told otherwise.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// A collection of a Qdrant server. Clones share the connection.
#[derive(Clone)]
pub struct QdrantIndex {
    collection: Arc<Collection>,
}

impl QdrantIndex {
    /// Connects and makes or checks the collection; with an embedder search is hybrid. Pauses
    /// between attempts vary by `rng`. A server that is away now is looked for again at each call.
    ///
    /// # Errors
    /// A setting that makes no sense, a port that does not speak gRPC, a key that is refused, a
    /// collection that does not fit.
    pub async fn open(
        config: QdrantConfig,
        embedder: Option<Arc<dyn Embedder>>,
        rng: StdRng,
    ) -> Result<Self, SearchError> {
        config.validate().map_err(|(field, expected)| {
            SearchError::Refused(format!("`index.qdrant.{field}`: expected {expected}"))
        })?;
        let refused = |failure: Failure| SearchError::Refused(format!("qdrant: {failure}"));
        let url = config.url.clone();
        let collection = Collection::new(config, embedder, rng).map_err(refused)?;
        match collection.prepared(collection.write_budget()).await {
            Ok(()) => {}
            Err(failure) if failure.is_passing() => {
                tracing::warn!(url, %failure, "qdrant is away, looking for it at each call");
            }
            Err(failure) => return Err(refused(failure)),
        }
        Ok(Self { collection: Arc::new(collection) })
    }
}

#[async_trait]
impl SearchIndex for QdrantIndex {
    async fn search(&self, search: &Search) -> Result<Vec<Candidate>, SearchError> {
        let budget = self.collection.search_budget();
        let found = timeout_at(budget.deadline, self.collection.search(search, budget)).await;
        let time = Duration::from_millis(self.collection.config().search_deadline_ms);
        Ok(found.unwrap_or(Err(Failure::Deadline(time)))?)
    }

    async fn upsert(&self, documents: &[Document]) -> Result<(), SearchError> {
        let (last, mut written) = (last_of_each(documents), 0);
        for batch in batches(&last, self.collection.config().batch) {
            if let Err(failure) = self.collection.write(batch).await {
                return Err(broken_off(failure, written, last.len()));
            }
            written += batch.len();
            metrics::counter!(WRITTEN_TOTAL).increment(batch.len() as u64);
            tracing::debug!(written, of = last.len(), "passages written");
        }
        Ok(())
    }

    async fn delete(&self, ids: &[DocumentId]) -> Result<(), SearchError> {
        for batch in ids.chunks(self.collection.config().batch) {
            self.collection.remove(batch).await?;
        }
        Ok(())
    }

    async fn count(&self) -> Result<u64, SearchError> {
        Ok(self.collection.count().await?)
    }
}

/// Of passages with one id the last, at the place of the first.
fn last_of_each(documents: &[Document]) -> Vec<&Document> {
    let mut places: HashMap<&DocumentId, usize> = HashMap::new();
    let mut last: Vec<&Document> = Vec::with_capacity(documents.len());
    for document in documents {
        match places.get(&document.id).and_then(|place| last.get_mut(*place)) {
            Some(earlier) => *earlier = document,
            None => {
                places.insert(&document.id, last.len());
                last.push(document);
            }
        }
    }
    last
}

/// Runs of at most `max` passages and [`BATCH_BYTES_MAX`] bytes, but at least one passage each.
fn batches<'a>(
    documents: &'a [&'a Document],
    max: usize,
) -> impl Iterator<Item = &'a [&'a Document]> {
    let mut left = documents;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = left.iter().take(max).take_while(|document| {
            bytes += document.text.len() + document.title.len();
            bytes <= BATCH_BYTES_MAX
        });
        let count = fits.count().max(1).min(left.len());
        let (batch, rest) = left.split_at(count);
        left = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

fn broken_off(failure: Failure, written: usize, all: usize) -> SearchError {
    let text = format!(
        "{failure}; {written} of {all} passages are written: send them again, those that are \
         there are replaced, not doubled"
    );
    match failure {
        Failure::Refused(_) => SearchError::Refused(text),
        _ => SearchError::Unavailable(format!("qdrant: {text}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn passage(id: &str, text: String) -> Document {
        Document { id: id.into(), text, ..Document::default() }
    }

    #[test]
    fn batches_are_bounded_in_passages_and_in_bytes() {
        let big = "x".repeat(BATCH_BYTES_MAX / 2);
        let documents = [
            passage("a", "x".repeat(BATCH_BYTES_MAX * 2)),
            passage("b", big.clone()),
            passage("c", big),
            passage("d", "x".to_owned()),
            passage("e", "x".to_owned()),
            passage("f", "x".to_owned()),
        ];
        let all: Vec<&Document> = documents.iter().collect();
        let sizes = |max| batches(&all, max).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(100), [1, 2, 3]);
        assert_eq!(sizes(2), [1, 2, 2, 1]);
        assert_eq!(batches(&[], 4).count(), 0);
    }

    #[test]
    fn of_one_id_the_last_passage_is_kept() {
        let documents = ["a1", "b1", "a2"].map(|text| passage(&text[..1], text.to_owned()));
        let texts: Vec<&str> = last_of_each(&documents).iter().map(|d| d.text.as_str()).collect();
        assert_eq!(texts, ["a2", "b1"]);
    }
}

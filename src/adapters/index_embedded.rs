//! The search index in one local folder: `ports::SearchIndex` by BM25 on tantivy.
//!
//! tantivy keeps postings and passages; the scores are ours, because its BM25 has fixed constants
//! and rounded lengths. Title and text are indexed as one. Filters are applied before the best are
//! taken, so that a narrow one still finds its `k`. One process writes a folder at a time. Blocking
//! work runs on tokio's blocking threads.

mod bm25;
mod fields;

use crate::retrieval::tokens;
use actors::ports::{Search, SearchError, SearchIndex};
use actors::types::{Candidate, Document, DocumentId, Filter};
use async_trait::async_trait;
use bm25::Pool;
use fields::{Fields, schema};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyError, Term};

/// Longest document id, bytes.
const ID_BYTES_MAX: usize = 1_024;
/// Longest key of metadata with its value, bytes: what one term of the index may hold.
const METADATA_BYTES_MAX: usize = 16_384;

/// Settings of the embedded index.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedIndexConfig {
    /// How slowly further occurrences of a term saturate, ≥ 0.
    pub k1: f64,
    /// How much long passages are marked down, in [0, 1].
    pub b: f64,
    /// Query terms that occur in more than this share of the passages are left out, unless nothing
    /// else remains; in (0, 1].
    pub common_term_share: f64,
    /// Only in pools larger than this.
    pub common_term_pool_min: u64,
    /// Distinct terms of a query that are looked up, the first ones.
    pub query_terms_max: usize,
    /// Candidates returned at most, whatever is asked for.
    pub candidates_max: usize,
    /// Memory for passages on their way into the index, bytes; at least 15,000,000.
    pub writer_memory_bytes: usize,
}

impl Default for EmbeddedIndexConfig {
    fn default() -> Self {
        Self {
            k1: 0.9,
            b: 0.4,
            common_term_share: 0.2,
            common_term_pool_min: 2_000,
            query_terms_max: 256,
            candidates_max: 1_000,
            writer_memory_bytes: 64_000_000,
        }
    }
}

/// A BM25 index in a folder or in memory. Clones share it.
#[derive(Clone)]
pub struct EmbeddedIndex {
    shared: Arc<Shared>,
}

struct Shared {
    index: Index,
    fields: Fields,
    config: EmbeddedIndexConfig,
    reader: IndexReader,
    /// `None` until the first write and after a failed one, which kills tantivy's writer.
    writer: Mutex<Option<IndexWriter>>,
    /// What searches see: the state after the last write.
    pool: RwLock<Arc<Pool>>,
}

impl EmbeddedIndex {
    /// Opens or creates the index in `folder`, made if missing.
    pub async fn open(folder: &Path, config: EmbeddedIndexConfig) -> Result<Self, SearchError> {
        let folder = folder.to_owned();
        blocking(move || {
            let place = folder.display();
            let failed = |reason: String| {
                SearchError::Unavailable(format!("cannot open index `{place}`: {reason}"))
            };
            std::fs::create_dir_all(&folder).map_err(|error| failed(error.to_string()))?;
            let directory = tantivy::directory::MmapDirectory::open(&folder)
                .map_err(|error| failed(error.to_string()))?;
            let index =
                Index::open_or_create(directory, schema().0).map_err(|error| match error {
                    TantivyError::SchemaError(_) => failed(
                        "it was made with other fields; remove the folder and index again"
                            .to_owned(),
                    ),
                    error => failed(error.to_string()),
                })?;
            Self::on(index, config)
        })
        .await
    }

    /// An index in memory, gone when the last clone is dropped.
    pub fn in_memory(config: EmbeddedIndexConfig) -> Result<Self, SearchError> {
        Self::on(Index::create_in_ram(schema().0), config)
    }

    fn on(index: Index, config: EmbeddedIndexConfig) -> Result<Self, SearchError> {
        check(&config)?;
        let fields = schema().1;
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()
            .map_err(|error| unavailable("open", &error))?;
        let pool =
            Pool::load(reader.searcher(), fields).map_err(|error| unavailable("read", &error))?;
        let shared = Shared {
            index,
            fields,
            config,
            reader,
            writer: Mutex::new(None),
            pool: RwLock::new(Arc::new(pool)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

#[async_trait]
impl SearchIndex for EmbeddedIndex {
    async fn search(&self, search: &Search) -> Result<Vec<Candidate>, SearchError> {
        let shared = Arc::clone(&self.shared);
        let terms = query_terms(&search.text, shared.config.query_terms_max);
        let k = search.k.min(shared.config.candidates_max);
        if terms.is_empty() || k == 0 {
            return Ok(Vec::new());
        }
        let filter = search.filter.clone();
        blocking(move || {
            shared.search(&terms, k, &filter).map_err(|error| unavailable("search", &error))
        })
        .await
    }

    async fn upsert(&self, documents: &[Document]) -> Result<(), SearchError> {
        let long = |document: &&Document| document.id.0.len() > ID_BYTES_MAX;
        if let Some(document) = documents.iter().find(long) {
            return Err(SearchError::Refused(format!(
                "document id `{:.40}…` is longer than {ID_BYTES_MAX} bytes",
                document.id.0
            )));
        }
        documents.iter().try_for_each(check_metadata)?;
        if documents.is_empty() {
            return Ok(());
        }
        let (shared, documents) = (Arc::clone(&self.shared), documents.to_vec());
        blocking(move || {
            let fields = shared.fields;
            shared.write(|writer| {
                for document in &documents {
                    writer.delete_term(Term::from_field_text(fields.id, document.id.as_str()));
                    writer.add_document(fields.stored(document)?)?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn delete(&self, ids: &[DocumentId]) -> Result<(), SearchError> {
        if ids.is_empty() {
            return Ok(());
        }
        let (shared, ids) = (Arc::clone(&self.shared), ids.to_vec());
        blocking(move || {
            let field = shared.fields.id;
            shared.write(|writer| {
                for id in &ids {
                    writer.delete_term(Term::from_field_text(field, id.as_str()));
                }
                Ok(())
            })
        })
        .await
    }

    async fn count(&self) -> Result<u64, SearchError> {
        Ok(self.shared.pool().passages())
    }
}

impl Shared {
    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn search(
        &self,
        terms: &[String],
        k: usize,
        filter: &Filter,
    ) -> Result<Vec<Candidate>, TantivyError> {
        let pool = self.pool();
        let hits = pool.top(terms, k, filter, &self.config)?;
        let mut candidates = Vec::with_capacity(hits.len());
        for (rank, hit) in hits.into_iter().enumerate() {
            let document = self.fields.load(pool.searcher(), hit.address)?;
            candidates.push(Candidate { document, score: hit.score, rank: rank as u32 });
        }
        Ok(candidates)
    }

    /// Changes the index, commits, and shows the result to searches; nothing of it after an error.
    fn write(
        &self,
        change: impl FnOnce(&mut IndexWriter) -> Result<(), TantivyError>,
    ) -> Result<(), SearchError> {
        let mut slot = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self
                .index
                .writer_with_num_threads(1, self.config.writer_memory_bytes)
                .map_err(|error| match error {
                    TantivyError::LockFailure(..) => SearchError::Unavailable(
                        "another process writes to this index; stop it or use another folder"
                            .to_owned(),
                    ),
                    error => unavailable("write to", &error),
                })?,
        };
        // After an error the writer is dropped with all that was not committed.
        change(&mut writer)
            .and_then(|()| writer.commit())
            .map_err(|error| unavailable("write to", &error))?;
        *slot = Some(writer);
        self.reader.reload().map_err(|error| unavailable("reload", &error))?;
        let pool = Pool::load(self.reader.searcher(), self.fields)
            .map_err(|error| unavailable("read", &error))?;
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pool);
        Ok(())
    }
}

fn check_metadata(document: &Document) -> Result<(), SearchError> {
    let long = |(key, value): &(&String, &String)| key.len() + value.len() > METADATA_BYTES_MAX;
    match document.metadata.iter().find(long) {
        None => Ok(()),
        Some((key, _)) => Err(SearchError::Refused(format!(
            "metadata `{key:.40}` of document `{}` is longer than {METADATA_BYTES_MAX} bytes with \
             its value",
            document.id
        ))),
    }
}

/// The first distinct terms of a query, in order.
fn query_terms(query: &str, max: usize) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut terms = tokens(query);
    terms.retain(|term| seen.len() < max && seen.insert(term.clone()));
    terms
}

fn check(config: &EmbeddedIndexConfig) -> Result<(), SearchError> {
    let refused = |what: &str| Err(SearchError::Refused(format!("index setting {what}")));
    if !(config.k1.is_finite() && config.k1 >= 0.0) {
        return refused(&format!("`k1` is {}, expected a number of at least 0", config.k1));
    }
    if !(0.0..=1.0).contains(&config.b) {
        return refused(&format!("`b` is {}, expected a number in [0, 1]", config.b));
    }
    if !(config.common_term_share > 0.0 && config.common_term_share <= 1.0) {
        let share = config.common_term_share;
        return refused(&format!("`common_term_share` is {share}, expected a number in (0, 1]"));
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SearchError> + Send + 'static,
) -> Result<T, SearchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(SearchError::Unavailable(format!("index work stopped: {error}"))),
    }
}

fn unavailable(doing: &str, error: &TantivyError) -> SearchError {
    SearchError::Unavailable(format!("cannot {doing} the index: {error}"))
}

#[cfg(test)]
mod tests;

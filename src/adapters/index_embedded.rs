//! The search index in one local folder: `ports::SearchIndex` by BM25 on tantivy, and with an
//! embedder by dense vectors and the fusion of both.
//!
//! tantivy keeps postings and passages; the scores are ours, because its BM25 has fixed constants
//! and rounded lengths. Title and text are indexed as one. Filters are applied before the best are
//! taken, so that a narrow one still finds its `k`. One process writes a folder at a time. Blocking
//! work runs on tokio's blocking threads.

mod bm25;
mod dense;
mod fields;
mod hybrid;
mod settings;

pub use hybrid::{Dense, DenseConfig, SearchMode, WhenUnavailable};
pub use settings::EmbeddedIndexConfig;

use crate::retrieval::tokens;
use actors::ports::{Search, SearchError, SearchIndex};
use actors::types::{Candidate, Document, DocumentId, Filter};
use async_trait::async_trait;
use bm25::Pool;
use dense::{Rows, Vectors};
use fields::{Fields, schema};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tantivy::{DocAddress, Index, IndexReader, IndexWriter, ReloadPolicy, TantivyError, Term};

/// Longest document id, bytes.
const ID_BYTES_MAX: usize = 1_024;
/// Longest key of metadata with its value, bytes.
const METADATA_BYTES_MAX: usize = 16_384;
/// Passages embedded and written in one go when an index is completed.
const COMPLETED_AT_ONCE: usize = 1_000;

/// An index in a folder or in memory. Clones share it.
#[derive(Clone)]
pub struct EmbeddedIndex {
    shared: Arc<Shared>,
    mode: SearchMode,
}

struct Shared {
    index: Index,
    fields: Fields,
    config: EmbeddedIndexConfig,
    reader: IndexReader,
    /// `None` until the first write and after a failed one, which kills tantivy's writer.
    writer: Mutex<Option<IndexWriter>>,
    dense: Option<Dense>,
    /// Which vectors these are, written with each commit.
    fingerprint: Option<String>,
    /// The vectors as the writer changes them.
    rows: Mutex<Rows>,
    /// What searches see: the state after the last write.
    view: RwLock<Arc<View>>,
}

/// The index at one moment.
struct View {
    pool: Pool,
    vectors: Vectors,
}

impl EmbeddedIndex {
    /// Opens or creates the index in `folder`, made if missing.
    pub async fn open(folder: &Path, config: EmbeddedIndexConfig) -> Result<Self, SearchError> {
        Ok(Self::open_folder(folder, config, None).await?.0)
    }

    /// The same with vectors; passages without one are embedded before it returns.
    ///
    /// # Errors
    /// As [`EmbeddedIndex::open`]; an index with vectors of another embedder; an embedder that
    /// fails while passages have no vector.
    pub async fn open_hybrid(
        folder: &Path,
        config: EmbeddedIndexConfig,
        dense: Dense,
    ) -> Result<Self, SearchError> {
        let (index, missing) = Self::open_folder(folder, config, Some(dense)).await?;
        index.complete(&missing).await?;
        Ok(index)
    }

    async fn open_folder(
        folder: &Path,
        config: EmbeddedIndexConfig,
        dense: Option<Dense>,
    ) -> Result<(Self, Vec<DocumentId>), SearchError> {
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
            Self::on(index, config, dense)
        })
        .await
    }

    /// An index in memory, gone when the last clone is dropped.
    pub fn in_memory(config: EmbeddedIndexConfig) -> Result<Self, SearchError> {
        Ok(Self::on(Index::create_in_ram(schema().0), config, None)?.0)
    }

    /// The same with vectors.
    pub fn in_memory_hybrid(
        config: EmbeddedIndexConfig,
        dense: Dense,
    ) -> Result<Self, SearchError> {
        Ok(Self::on(Index::create_in_ram(schema().0), config, Some(dense))?.0)
    }

    /// The same index, searched in another way; without an embedder always by terms.
    pub fn searching(&self, mode: SearchMode) -> Self {
        Self { shared: Arc::clone(&self.shared), mode }
    }

    fn on(
        index: Index,
        config: EmbeddedIndexConfig,
        dense: Option<Dense>,
    ) -> Result<(Self, Vec<DocumentId>), SearchError> {
        settings::check(&config)?;
        let fields = schema().1;
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()
            .map_err(|error| unavailable("open", &error))?;
        let pool =
            Pool::load(reader.searcher(), fields).map_err(|error| unavailable("read", &error))?;
        let fingerprint = hybrid::fingerprint(&index, dense.as_ref(), pool.passages() == 0)?;
        let (rows, missing) = match &dense {
            None => (Rows::new(0), Vec::new()),
            Some(dense) => hybrid::load(pool.searcher(), fields, dense.embedder.dimension())
                .map_err(|error| unavailable("read the vectors of", &error))?,
        };
        let mode = dense.as_ref().map_or(SearchMode::Bm25, |dense| dense.config.rank_by);
        let shared = Shared {
            index,
            fields,
            config,
            reader,
            writer: Mutex::new(None),
            dense,
            fingerprint,
            view: RwLock::new(Arc::new(View { pool, vectors: rows.vectors() })),
            rows: Mutex::new(rows),
        };
        Ok((Self { shared: Arc::new(shared), mode }, missing))
    }

    /// Embeds passages that were written without an embedder.
    async fn complete(&self, missing: &[DocumentId]) -> Result<(), SearchError> {
        if !missing.is_empty() {
            tracing::info!(passages = missing.len(), "embedding passages that have no vector");
        }
        for batch in missing.chunks(COMPLETED_AT_ONCE) {
            let (shared, ids) = (Arc::clone(&self.shared), batch.to_vec());
            let documents = blocking(move || {
                shared.documents(&ids).map_err(|error| unavailable("read", &error))
            })
            .await?;
            self.upsert(&documents).await?;
        }
        Ok(())
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
        let mode = self.mode;
        let vector = match &self.shared.dense {
            Some(dense) if mode != SearchMode::Bm25 => dense.query(&search.text).await?,
            _ => None,
        };
        let filter = search.filter.clone();
        blocking(move || {
            let found = shared.search(&terms, (vector.as_deref(), mode), k, &filter);
            found.map_err(|error| unavailable("search", &error))
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
        let vectors = match &self.shared.dense {
            Some(dense) => dense.passages(documents).await?,
            None => vec![Vec::new(); documents.len()],
        };
        let (shared, documents) = (Arc::clone(&self.shared), documents.to_vec());
        blocking(move || {
            let fields = shared.fields;
            let add = |writer: &mut IndexWriter| {
                for (document, vector) in documents.iter().zip(&vectors) {
                    writer.delete_term(Term::from_field_text(fields.id, document.id.as_str()));
                    writer.add_document(fields.stored(document, vector)?)?;
                }
                Ok(())
            };
            shared.write(add, |rows| {
                for (document, vector) in documents.iter().zip(&vectors) {
                    if !vector.is_empty() {
                        rows.set(document.id.as_str(), &hybrid::from_bytes(vector));
                    }
                }
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
            let delete = |writer: &mut IndexWriter| {
                for id in &ids {
                    writer.delete_term(Term::from_field_text(field, id.as_str()));
                }
                Ok(())
            };
            shared.write(delete, |rows| ids.iter().for_each(|id| rows.remove(id.as_str())))
        })
        .await
    }

    async fn count(&self) -> Result<u64, SearchError> {
        Ok(self.shared.view().pool.passages())
    }
}

impl Shared {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// By terms where there is no vector of the query.
    fn search(
        &self,
        terms: &[String],
        (vector, mode): (Option<&[f32]>, SearchMode),
        k: usize,
        filter: &Filter,
    ) -> Result<Vec<Candidate>, TantivyError> {
        let view = self.view();
        let pool = &view.pool;
        let found: Vec<(DocAddress, f32)> = match (&self.dense, vector) {
            (Some(dense), Some(vector)) => {
                let by_terms = match mode {
                    SearchMode::Dense => None,
                    _ => Some(pool.top(terms, dense.config.depth.max(k), filter, &self.config)?),
                };
                let by_terms = by_terms.map(|hits| hits.into_iter().map(|hit| hit.id).collect());
                let sides = (pool, &view.vectors);
                let near = (vector, pool.admitted_ids(filter)?);
                hybrid::ranked(sides, (self.fields, &dense.config), near, by_terms, k)?
            }
            _ => {
                let hits = pool.top(terms, k, filter, &self.config)?;
                hits.into_iter().map(|hit| (hit.address, hit.score)).collect()
            }
        };
        let mut candidates = Vec::with_capacity(found.len());
        for (rank, (address, score)) in found.into_iter().enumerate() {
            let document = self.fields.load(pool.searcher(), address)?;
            candidates.push(Candidate { document, score, rank: rank as u32 });
        }
        Ok(candidates)
    }

    /// Those of some passages that are there.
    fn documents(&self, ids: &[DocumentId]) -> Result<Vec<Document>, TantivyError> {
        let view = self.view();
        let mut documents = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(address) = view.pool.address_of(self.fields.id, id.as_str())? {
                documents.push(self.fields.load(view.pool.searcher(), address)?);
            }
        }
        Ok(documents)
    }

    /// Changes the index, commits, and shows the result to searches; nothing of it after an error.
    /// `arrange` brings the vectors in memory after the passages.
    fn write(
        &self,
        change: impl FnOnce(&mut IndexWriter) -> Result<(), TantivyError>,
        arrange: impl FnOnce(&mut Rows),
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
            .and_then(|()| self.commit(&mut writer))
            .map_err(|error| unavailable("write to", &error))?;
        *slot = Some(writer);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        arrange(&mut rows);
        self.reader.reload().map_err(|error| unavailable("reload", &error))?;
        let pool = Pool::load(self.reader.searcher(), self.fields)
            .map_err(|error| unavailable("read", &error))?;
        let view = View { pool, vectors: rows.vectors() };
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }

    fn commit(&self, writer: &mut IndexWriter) -> Result<(), TantivyError> {
        let mut commit = writer.prepare_commit()?;
        if let Some(fingerprint) = &self.fingerprint {
            commit.set_payload(fingerprint);
        }
        commit.commit().map(drop)
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

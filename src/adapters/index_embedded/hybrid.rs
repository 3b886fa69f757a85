//! Dense vectors beside the terms: settings, embedding, what is stored, and the fused search.
//!
//! A passage's vector is stored with the passage, in the same commit: after a crash either both are
//! there or neither. What may be missing is the vector of a passage that was written while no
//! embedder was configured; opening the index with one completes it.

use super::bm25::Pool;
use super::dense::{Rows, Vectors};
use super::fields::Fields;
use super::unavailable;
use crate::adapters::bounded_cache::BoundedCache;
use crate::retrieval::telemetry::search_degraded;
use crate::retrieval::{
    EmbedError, Embedder, Purpose, RRF_K, checked, embedding_text, reciprocal_rank_fusion,
};
use actors::ports::SearchError;
use actors::types::{Document, DocumentId};
use half::f16;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tantivy::schema::Value as _;
use tantivy::{DocAddress, Index, Searcher, TantivyDocument, TantivyError};

/// What a search ranks by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    /// Terms alone.
    Bm25,
    /// Vectors alone.
    Dense,
    /// Both lists, fused by reciprocal rank.
    #[default]
    Hybrid,
}

/// What a search does when its query cannot be embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenUnavailable {
    /// Goes on by terms alone; counted.
    #[default]
    Bm25,
    /// Fails.
    Fail,
}

/// Settings of the dense side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseConfig {
    /// What a search ranks by.
    pub rank_by: SearchMode,
    /// Candidates taken from each list before they are fused, ≥ 1; never fewer than asked for.
    pub depth: usize,
    /// Passages whose cosine similarity to the query is not above this are not candidates, in
    /// [-1, 1].
    pub similarity_min: f32,
    /// When the embedder fails.
    pub when_unavailable: WhenUnavailable,
    /// Queries whose vectors are kept, so that one asked again is not embedded again; 0 keeps none.
    pub query_cache: usize,
}

impl DenseConfig {
    /// Fails with `(field, what is expected of it)` of the first setting out of bounds.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if self.depth == 0 {
            return Err(("depth", "a number above 0"));
        }
        if !(-1.0..=1.0).contains(&self.similarity_min) {
            return Err(("similarity_min", "a number from -1 to 1"));
        }
        Ok(())
    }
}

impl Default for DenseConfig {
    fn default() -> Self {
        Self {
            rank_by: SearchMode::Hybrid,
            depth: 100,
            similarity_min: 0.0,
            when_unavailable: WhenUnavailable::Bm25,
            query_cache: 1_000,
        }
    }
}

/// What makes an index hybrid. Clones share the embedder and the vectors of recent queries.
#[derive(Clone)]
pub struct Dense {
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) config: DenseConfig,
    recent: Arc<Mutex<BoundedCache<String, Vec<f32>>>>,
}

impl Dense {
    /// Embeds passages and queries with `embedder`.
    pub fn new(embedder: Arc<dyn Embedder>, config: DenseConfig) -> Self {
        let recent = Arc::new(Mutex::new(BoundedCache::new(config.query_cache)));
        Self { embedder, config, recent }
    }
}

/// Which vectors an index holds; kept in tantivy's commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    embedder: String,
    dimension: usize,
}

/// The fingerprint to write with every commit: the embedder's, or the one that is there.
///
/// Fails where the index holds vectors of another embedder.
pub(super) fn fingerprint(
    index: &Index,
    dense: Option<&Dense>,
    is_empty: bool,
) -> Result<Option<String>, SearchError> {
    let metas = index.load_metas().map_err(|error| unavailable("read", &error))?;
    let Some(dense) = dense else { return Ok(metas.payload) };
    let own =
        Fingerprint { embedder: dense.embedder.name(), dimension: dense.embedder.dimension() };
    if let Some(payload) = metas.payload.filter(|_| !is_empty) {
        let found: Fingerprint = serde_json::from_str(&payload).map_err(|error| {
            SearchError::Refused(format!("the mark of the index's vectors is broken: {error}"))
        })?;
        if found != own {
            return Err(SearchError::Refused(format!(
                "the index holds vectors of `{}` with {} values, the embedder is `{}` with {}: \
                 configure the first one, or remove the folder and index again",
                found.embedder, found.dimension, own.embedder, own.dimension
            )));
        }
    }
    let text = serde_json::to_string(&own)
        .map_err(|error| SearchError::Refused(format!("cannot write the mark: {error}")))?;
    Ok(Some(text))
}

/// Reads the vectors of all passages, and which passages have none.
pub(super) fn load(
    searcher: &Searcher,
    fields: Fields,
    width: usize,
) -> Result<(Rows, Vec<DocumentId>), TantivyError> {
    /// Blocks of the store kept while it is read once from start to end.
    const CACHED_BLOCKS: usize = 2;
    let (mut rows, mut missing) = (Rows::new(width), Vec::new());
    for reader in searcher.segment_readers() {
        let store = reader.get_store_reader(CACHED_BLOCKS)?;
        for stored in store.iter::<TantivyDocument>(reader.alive_bitset()) {
            let stored = stored?;
            let id = stored.get_first(fields.id).and_then(|v| v.as_str()).unwrap_or_default();
            let bytes = stored.get_first(fields.vector).and_then(|v| v.as_bytes());
            match bytes.map(from_bytes).filter(|vector| vector.len() == width) {
                Some(vector) => rows.set(id, &vector),
                None => missing.push(DocumentId(id.to_owned())),
            }
        }
    }
    Ok((rows, missing))
}

/// Half precision: the order of neighbours hardly changes and the size halves.
pub(super) fn to_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()
}

pub(super) fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    let (halves, _) = bytes.as_chunks::<2>();
    halves.iter().map(|half| f16::from_le_bytes(*half).to_f32()).collect()
}

impl Dense {
    /// The vectors of passages as they are stored.
    pub(super) async fn passages(
        &self,
        documents: &[Document],
    ) -> Result<Vec<Vec<u8>>, SearchError> {
        let texts: Vec<String> =
            documents.iter().map(|document| embedding_text(document).into_owned()).collect();
        let vectors = self.embed(&texts, Purpose::Passage).await.map_err(failed)?;
        Ok(vectors.iter().map(|vector| to_bytes(vector)).collect())
    }

    /// The vector of a query; `None` where the search goes on by terms.
    pub(super) async fn query(&self, query: &str) -> Result<Option<Vec<f32>>, SearchError> {
        if let Some(vector) = self.recent().get(&query.to_owned()) {
            return Ok(Some(vector));
        }
        match self.embed(&[query.to_owned()], Purpose::Query).await {
            Ok(mut vectors) => {
                let vector = vectors.pop();
                if let Some(vector) = &vector {
                    self.recent().insert(query.to_owned(), vector.clone());
                }
                Ok(vector)
            }
            Err(error) if self.config.when_unavailable == WhenUnavailable::Bm25 => {
                search_degraded(&error);
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn recent(&self) -> MutexGuard<'_, BoundedCache<String, Vec<f32>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn embed(&self, texts: &[String], purpose: Purpose) -> Result<Vec<Vec<f32>>, EmbedError> {
        let vectors = self.embedder.embed(texts, purpose).await?;
        checked(vectors, texts.len(), self.embedder.dimension())
    }
}

fn failed(error: EmbedError) -> SearchError {
    match error {
        EmbedError::Unavailable(_) => SearchError::Unavailable(error.to_string()),
        EmbedError::Refused(_) => SearchError::Refused(error.to_string()),
    }
}

/// Passages near the query (of those admitted, where that is given) and, where terms are given, those that match them, fused; best first.
pub(super) fn ranked(
    (pool, vectors): (&Pool, &Vectors),
    (fields, config): (Fields, &DenseConfig),
    (query, admitted): (&[f32], Option<HashSet<String>>),
    by_terms: Option<Vec<String>>,
    k: usize,
) -> Result<Vec<(DocAddress, f32)>, TantivyError> {
    let depth = if by_terms.is_some() { config.depth.max(k) } else { k };
    let near = vectors.top(query, depth, config.similarity_min, admitted.as_ref());
    let fused: Vec<(String, f32)> = match by_terms {
        None => near.into_iter().map(|(id, score)| (id.to_string(), score)).collect(),
        Some(by_terms) => {
            let near = near.into_iter().map(|(id, _)| id.to_string()).collect();
            let fused = reciprocal_rank_fusion(&[by_terms, near], RRF_K, k);
            fused.into_iter().map(|entry| (entry.id, entry.score as f32)).collect()
        }
    };
    let mut found = Vec::with_capacity(fused.len());
    for (id, score) in fused {
        if let Some(address) = pool.address_of(fields.id, &id)? {
            found.push((address, score));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

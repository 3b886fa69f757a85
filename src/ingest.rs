//! Loading a corpus into a search index: in pieces, incrementally, and safe to be killed.
//!
//! Owns which passages are sent, cut or deleted, and the order of writes that makes a kill
//! harmless. Knows the port of the index and no file format, embedder or configuration. What the
//! index holds is remembered in a [`Manifest`]: before a batch is sent its ids are noted, and its
//! digests only after the index took it, so that whatever was interrupted is sent again and
//! nothing that an interrupted run wrote is forgotten.

mod manifest;

pub use manifest::{Entry, Manifest, ManifestError};

use crate::retrieval::{ChunkError, Chunker};
use actors::ports::{SearchError, SearchIndex};
use actors::types::{Document, DocumentId};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

/// Why a corpus was not loaded to its end.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The index failed.
    #[error("cannot write to the index")]
    Index(#[from] SearchError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A passage cannot be cut.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A passage has no form that could be compared.
    #[error("cannot take the digest of passage `{id}`: {reason}")]
    Digest {
        /// The passage.
        id: DocumentId,
        /// Why.
        reason: String,
    },
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Passages that were new or changed.
    pub sent: u64,
    /// Passages that the index held as they are.
    pub unchanged: u64,
    /// Passages taken out.
    pub deleted: u64,
    /// Pieces written for the passages sent; as many as these where nothing is cut.
    pub chunks: u64,
    /// Time it took.
    pub seconds: f64,
}

/// A corpus on its way into an index.
pub struct Ingest {
    index: Arc<dyn SearchIndex>,
    manifest: Manifest,
    chunker: Option<Chunker>,
    /// Pieces in one write, ≥ 1.
    batch: usize,
    known: HashMap<String, Entry>,
    summary: Summary,
    started: Instant,
}

/// A passage that has to be sent.
struct Changed {
    document: Document,
    digest: [u8; 32],
}

impl Ingest {
    /// Reads what the index is known to hold. An empty index holds nothing, whatever the manifest
    /// remembers of an earlier one.
    ///
    /// # Errors
    /// The index or the manifest cannot be read.
    pub async fn open(
        index: Arc<dyn SearchIndex>,
        manifest: Manifest,
        chunker: Option<Chunker>,
        batch: usize,
    ) -> Result<Self, IngestError> {
        let mut known = manifest.entries().await?;
        if !known.is_empty() && index.count().await? == 0 {
            tracing::warn!(passages = known.len(), "the index is empty: everything is sent again");
            manifest.forget(known.drain().map(|(id, _)| id).collect()).await?;
        }
        let (summary, started) = (Summary::default(), Instant::now());
        Ok(Self { index, manifest, chunker, batch: batch.max(1), known, summary, started })
    }

    /// Sends the passages that are new or changed. `progress` is told how many more are sent, out of
    /// how many in all, first of all 0.
    ///
    /// # Errors
    /// The first failure; what was done before it stays done and is remembered.
    pub async fn load(
        &mut self,
        documents: Vec<Document>,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), IngestError> {
        let cutting = self.chunker.as_ref().map_or("whole", Chunker::fingerprint).to_owned();
        let mut changed = Vec::new();
        for document in documents {
            let digest = digest(&document, &cutting)?;
            match self.known.get(document.id.as_str()) {
                Some(entry) if entry.digest == Some(digest) => self.summary.unchanged += 1,
                _ => changed.push(Changed { document, digest }),
            }
        }
        let total = changed.len() as u64;
        progress(0, total);
        let mut batch: Vec<(Changed, Vec<Document>)> = Vec::new();
        let mut pieces = 0;
        for passage in changed {
            let cut = match &self.chunker {
                Some(chunker) => chunker.cut(&passage.document)?,
                None => vec![passage.document.clone()],
            };
            pieces += cut.len();
            batch.push((passage, cut));
            if pieces >= self.batch {
                let done = std::mem::take(&mut batch);
                progress(self.send(done).await?, total);
                pieces = 0;
            }
        }
        if !batch.is_empty() {
            progress(self.send(batch).await?, total);
        }
        Ok(())
    }

    /// Takes out what the index holds and a corpus of these ids does not.
    ///
    /// # Errors
    /// As [`Ingest::delete`].
    pub async fn delete_missing(&mut self, kept: &HashSet<String>) -> Result<(), IngestError> {
        let mut gone: Vec<String> =
            self.known.keys().filter(|id| !kept.contains(*id)).cloned().collect();
        gone.sort_unstable();
        self.delete(&gone).await
    }

    /// Takes passages out, with all their chunks. Ids that are not known are deleted as they stand;
    /// only known ones are counted.
    ///
    /// # Errors
    /// The index or the manifest failed; what was done before stays done.
    pub async fn delete(&mut self, ids: &[String]) -> Result<(), IngestError> {
        for batch in ids.chunks(self.batch) {
            let mut pieces = HashSet::new();
            for id in batch {
                pieces.insert(DocumentId(id.clone()));
                if let Some(entry) = self.known.get(id) {
                    pieces.extend(entry.pieces(id));
                }
            }
            let pieces: Vec<DocumentId> = pieces.into_iter().collect();
            self.index.delete(&pieces).await?;
            self.manifest.forget(batch.to_vec()).await?;
            let known = batch.iter().filter(|id| self.known.remove(*id).is_some()).count();
            self.summary.deleted += known as u64;
        }
        Ok(())
    }

    /// Pieces in the index, whoever sent them.
    ///
    /// # Errors
    /// The index cannot be asked.
    pub async fn count(&self) -> Result<u64, IngestError> {
        Ok(self.index.count().await?)
    }

    /// What was done since [`Ingest::open`].
    pub fn summary(&self) -> Summary {
        Summary { seconds: self.started.elapsed().as_secs_f64(), ..self.summary }
    }

    /// Sends one batch; gives the number of its passages.
    async fn send(&mut self, batch: Vec<(Changed, Vec<Document>)>) -> Result<u64, IngestError> {
        let is_cut = self.chunker.is_some();
        let (mut intents, mut marks) = (Vec::new(), Vec::new());
        let (mut pieces, mut stale) = (Vec::new(), Vec::new());
        for (passage, cut) in batch {
            let id = passage.document.id.0;
            let entry = Entry::of(passage.digest, is_cut.then_some(cut.len()));
            let before = self.known.get(&id).cloned().unwrap_or_default();
            let now: HashSet<DocumentId> = entry.pieces(&id).collect();
            stale.extend(before.pieces(&id).filter(|piece| !now.contains(piece)));
            intents.push((id.clone(), before.and(&entry)));
            marks.push((id, entry));
            pieces.extend(cut);
        }
        self.manifest.mark(intents.clone()).await?;
        self.known.extend(intents);
        self.index.upsert(&pieces).await?;
        if !stale.is_empty() {
            self.index.delete(&stale).await?;
        }
        self.manifest.mark(marks.clone()).await?;
        let sent = marks.len() as u64;
        self.known.extend(marks);
        self.summary.sent += sent;
        self.summary.chunks += pieces.len() as u64;
        Ok(sent)
    }
}

/// SHA-256 over all of a passage and how it is cut.
fn digest(document: &Document, cutting: &str) -> Result<[u8; 32], IngestError> {
    let bytes = serde_json::to_vec(document).map_err(|error| IngestError::Digest {
        id: document.id.clone(),
        reason: error.to_string(),
    })?;
    let mut hash = Sha256::new();
    hash.update((cutting.len() as u64).to_le_bytes());
    hash.update(cutting);
    hash.update(bytes);
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests;

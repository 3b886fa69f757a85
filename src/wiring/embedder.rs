//! The embedder of a configuration, what an index is called, and an index seen in several ways.
//!
//! Models and adapters do not know each other: the sentence encoder meets its adapter here.

use super::WiringError;
use crate::adapters::embedder_http::HttpEmbedder;
use crate::adapters::embedder_local::{LocalEmbedder, TextEncoder};
use crate::adapters::index_embedded::{Dense, SearchMode, WhenUnavailable};
use crate::config::{Config, EmbedderKind, IndexKind};
use crate::evaluate::retrieval::Retriever;
use crate::policy::model_folder::TOKENIZER_FILE;
use crate::policy::sentence::{SentenceArgs, SentenceEncoder};
use crate::retrieval::Embedder;
use actors::clock::Clock;
use actors::compute::{Compute, ComputeMode};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::path::PathBuf;
use std::sync::Arc;
use tokenizers::Tokenizer;

/// File of the manifest beside the index.
const MANIFEST_FILE: &str = "manifest.redb";
/// Digits of a digest that name weights.
const DIGEST_DIGITS: usize = 16;

/// A [`SentenceEncoder`] behind the adapter's trait.
struct Sentences(SentenceEncoder);

impl TextEncoder for Sentences {
    fn encode(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, String> {
        self.0.encode(texts).map_err(|error| error.to_string())
    }
}

/// The dense side of the index; `None` without an embedder.
pub(super) fn dense(config: &Config) -> Result<Option<Dense>, WiringError> {
    Ok(embedder(config)?.map(|embedder| Dense::new(embedder, config.index.dense)))
}

/// The embedder; `None` where none is configured.
pub(super) fn embedder(config: &Config) -> Result<Option<Arc<dyn Embedder>>, WiringError> {
    let settings = &config.index.embedder;
    match settings.kind {
        EmbedderKind::None => Ok(None),
        EmbedderKind::Local => {
            let local = settings.local.clone();
            let args =
                SentenceArgs { max_tokens: local.max_tokens, batch_tokens: local.batch_tokens };
            let device = super::device(config.policy.device)?;
            let encoder = SentenceEncoder::load(&local.model, args, device)
                .map_err(|error| WiringError::Embedder(error.to_string()))?;
            let weights = encoder.digest().as_str().get(..DIGEST_DIGITS).unwrap_or_default();
            let name = format!("sha256:{weights}, {} tokens", encoder.max_tokens());
            let (dimension, queue) = (encoder.dimension(), local.queue);
            let place = Compute::start("embedder", ComputeMode::Thread, queue, Sentences(encoder))?;
            Ok(Some(Arc::new(LocalEmbedder::new(place, &name, dimension, local))))
        }
        EmbedderKind::Http => {
            // Nothing depends on this seed but that processes pause differently.
            let seed = Clock::System.now_ms() ^ u64::from(std::process::id()).rotate_left(32);
            let variable = |name: &str| std::env::var(name).ok();
            let rng = StdRng::seed_from_u64(seed);
            let embedder = HttpEmbedder::new(settings.http.clone(), variable, rng)
                .map_err(|error| WiringError::Embedder(error.to_string()))?;
            Ok(Some(Arc::new(embedder)))
        }
    }
}

/// Which index a corpus goes to, and where it is remembered what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexTarget {
    /// Name of the index in the manifest.
    pub name: String,
    /// File of the manifest.
    pub manifest: PathBuf,
}

/// The index that a corpus can be loaded into; `None` for one that ends with the process.
pub fn index_target(config: &Config) -> Option<IndexTarget> {
    match config.index.kind {
        IndexKind::Memory => None,
        // Inside the folder: who removes the index removes what is known of it.
        IndexKind::Embedded => Some(IndexTarget {
            name: "embedded".to_owned(),
            manifest: config.index.folder.join(MANIFEST_FILE),
        }),
        IndexKind::Qdrant => {
            let server = &config.index.qdrant;
            Some(IndexTarget {
                name: format!("qdrant {} {}", server.url, server.collection),
                manifest: config.index.folder.join(MANIFEST_FILE),
            })
        }
    }
}

/// The tokenizer that passages are measured by: the embedder's own, else the policy's.
///
/// # Errors
/// The file is missing or broken.
pub fn chunk_tokenizer(config: &Config) -> Result<Tokenizer, WiringError> {
    let folder = match config.index.embedder.kind {
        EmbedderKind::Local => &config.index.embedder.local.model,
        EmbedderKind::None | EmbedderKind::Http => &config.policy.model,
    };
    let path = folder.join(TOKENIZER_FILE);
    Tokenizer::from_file(&path)
        .map_err(|error| WiringError::Tokenizer { path, reason: error.to_string() })
}

/// The index of a configuration in every way it can be searched: `bm25`, and with an embedder
/// `dense` and `hybrid`. A search whose query cannot be embedded fails: figures of a degraded
/// search would be those of another retriever.
///
/// # Errors
/// As [`super::index`].
pub async fn retrievers(config: &Config) -> Result<Vec<Retriever>, WiringError> {
    let mut config = config.clone();
    config.index.dense.when_unavailable = WhenUnavailable::Fail;
    if config.index.kind == IndexKind::Qdrant {
        return server_retrievers(&config).await;
    }
    let index = super::embedded_index(&config).await?;
    let mut ways = vec![("bm25", SearchMode::Bm25)];
    if config.index.embedder.kind != EmbedderKind::None {
        ways.extend([("dense", SearchMode::Dense), ("hybrid", SearchMode::Hybrid)]);
    }
    let retriever = |(name, mode): (&str, SearchMode)| Retriever {
        name: name.to_owned(),
        index: Arc::new(index.searching(mode)),
    };
    Ok(ways.into_iter().map(retriever).collect())
}

/// A server by terms alone, and with an embedder by both.
async fn server_retrievers(config: &Config) -> Result<Vec<Retriever>, WiringError> {
    let terms = super::qdrant_index(config, None).await?;
    let mut retrievers = vec![Retriever { name: "bm25".to_owned(), index: Arc::new(terms) }];
    if let Some(embedder) = embedder(config)? {
        let both = super::qdrant_index(config, Some(embedder)).await?;
        retrievers.push(Retriever { name: "hybrid".to_owned(), index: Arc::new(both) });
    }
    Ok(retrievers)
}

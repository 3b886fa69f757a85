//! What every search index shares: terms, embedding vectors, chunks, and the fusion of ranked
//! lists.
//!
//! Small functions and one small trait; no index, no wire and no configuration is known here.

mod chunks;
mod embedder;
mod fusion;
mod sparse;
pub mod telemetry;
mod tokens;

pub use chunks::{ChunkError, Chunker};
pub use embedder::{EmbedError, Embedder, Purpose, checked, embedding_text, to_unit_length};
pub use fusion::{RRF_K, Ranked, reciprocal_rank_fusion};
pub use sparse::{SparseBm25, SparseVector, TERM_SPACE, term_index};
pub use telemetry::embedded;
pub use tokens::tokens;

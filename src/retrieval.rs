//! What every search index shares: terms, embedding vectors, and the fusion of ranked lists.
//!
//! Pure functions and one small trait; no index, no wire and no configuration is known here.

mod embedder;
mod fusion;
mod sparse;
mod tokens;

pub use embedder::{EmbedError, Embedder, Purpose};
pub use fusion::{RRF_K, Ranked, reciprocal_rank_fusion};
pub use sparse::{SparseBm25, SparseVector, TERM_SPACE, term_index};
pub use tokens::tokens;

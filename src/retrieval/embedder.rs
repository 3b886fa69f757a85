//! The socket for what turns text into dense vectors.
//!
//! Knows no model and no wire.

use async_trait::async_trait;

/// What a text is embedded for; some models put another prefix before each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A passage that is stored.
    Passage,
    /// A query that is searched for.
    Query,
}

/// Why there are no vectors.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The model cannot be reached or is overloaded; another try may succeed.
    #[error("embedding model is unavailable: {0}")]
    Unavailable(String),
    /// The request itself is wrong, or the model gives vectors of another shape; no retry helps.
    #[error("embedding model refused the request: {0}")]
    Refused(String),
}

/// Turns texts into vectors of unit length, so that a dot product is the cosine similarity.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// One vector of [`Embedder::dimension`] finite values and unit length for each text, in order.
    async fn embed(&self, texts: &[String], purpose: Purpose) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// Values in a vector, ≥ 1.
    fn dimension(&self) -> usize;

    /// Names model and version: vectors of different names must never be compared.
    fn name(&self) -> String;
}

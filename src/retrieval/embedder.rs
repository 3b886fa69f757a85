//! The socket for what turns text into dense vectors.
//!
//! Knows no model and no wire.

use actors::types::Document;
use async_trait::async_trait;
use std::borrow::Cow;

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

/// What is embedded of a passage: title and text, or the text alone where there is no title.
pub fn embedding_text(document: &Document) -> Cow<'_, str> {
    if document.title.is_empty() {
        return Cow::Borrowed(&document.text);
    }
    Cow::Owned(format!("{} {}", document.title, document.text))
}

/// The vectors an embedder gave, if they are what it promises: one for each of `count` texts, of
/// its dimension, finite.
pub fn checked(
    vectors: Vec<Vec<f32>>,
    count: usize,
    dimension: usize,
) -> Result<Vec<Vec<f32>>, EmbedError> {
    if vectors.len() != count {
        let found = vectors.len();
        return Err(EmbedError::Refused(format!("{found} vectors for {count} texts")));
    }
    for (at, vector) in vectors.iter().enumerate() {
        if vector.len() != dimension {
            return Err(EmbedError::Refused(format!(
                "vector {at} has {} values, expected {dimension}",
                vector.len()
            )));
        }
        if !vector.iter().all(|value| value.is_finite()) {
            return Err(EmbedError::Refused(format!("vector {at} is not finite")));
        }
    }
    Ok(vectors)
}

/// Scales a vector to unit length; `false` for one without a finite direction, which stays.
pub fn to_unit_length(vector: &mut [f32]) -> bool {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    if !(square.is_finite() && square > 0.0) {
        return false;
    }
    let scale = (1.0 / square.sqrt()) as f32;
    vector.iter_mut().for_each(|x| *x *= scale);
    true
}

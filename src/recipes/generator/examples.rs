//! What the generator learns from: a question, its candidates as read, and which are right.
//!
//! Knows no weights.

use super::super::fit::RecipeError;
use super::super::instance::Instance;
use crate::policy::answer_head::Wanted;
use crate::policy::reader::{PairReader, Reading};
use crate::rewards::{ANSWER_TYPE, LABEL, LABELS, LONG, exact_match, is_unanswerable, token_f1};
use actors::types::{Document, Query};
use std::sync::Arc;

/// What kind of answer the metadata of a query ask for.
pub fn wanted(query: &Query) -> Wanted {
    match query.metadata.get(ANSWER_TYPE).map(String::as_str) {
        Some(LONG) => Wanted::Long,
        Some(LABEL) => {
            let labels = query.metadata.get(LABELS).map(String::as_str).unwrap_or_default();
            let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
            Wanted::Label(labels.map(str::to_owned).collect())
        }
        _ => Wanted::Short,
    }
}

/// One question with n candidates.
#[derive(Debug, Clone)]
pub struct Example {
    /// The query, with its gold answers as references.
    pub query: Query,
    /// What kind of answer.
    pub wanted: Wanted,
    /// (n) in retrieval order.
    pub documents: Vec<Document>,
    /// (n) what the reader says of each.
    pub readings: Vec<Arc<Reading>>,
    /// (n) how right the answer of each is: 1 where it equals a gold answer, else its F1 below 1.
    pub quality: Vec<f32>,
}

impl Example {
    /// An example of documents that are read; the two lists go together.
    pub fn new(query: Query, documents: Vec<Document>, readings: Vec<Arc<Reading>>) -> Self {
        let of = |reading: &Arc<Reading>| {
            if query.references.is_empty() || reading.answer.is_empty() {
                return 0.0;
            }
            let is_exact = exact_match(&reading.answer, &query.references) > 0.0;
            // Other words with F1 1 are another order of the same ones: nearly right.
            let near = (token_f1(&reading.answer, &query.references) as f32).min(0.99);
            if is_exact { 1.0 } else { near }
        };
        let quality = readings.iter().map(of).collect();
        Self { wanted: wanted(&query), query, documents, readings, quality }
    }

    /// The example of an instance; its pairs are known to the reader that laid it out.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn of(instance: &Instance, reader: &PairReader) -> Result<Self, RecipeError> {
        let question = instance.query.text.as_str();
        let pairs: Vec<_> = instance.candidates.iter().map(|c| (question, &c.document)).collect();
        let readings = reader.read(&pairs).map_err(|error| RecipeError::Question {
            question: instance.query.id.to_string(),
            reason: error.to_string(),
        })?;
        let documents = instance.candidates.iter().map(|c| c.document.clone()).collect();
        Ok(Self::new(instance.query.clone(), documents, readings))
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether nothing was retrieved.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Whether a right answer is known and could be given: not for a long answer, which is no span.
    pub fn is_taught(&self) -> bool {
        let is_known = !self.query.references.is_empty() || is_unanswerable(&self.query);
        !self.is_empty() && is_known && self.wanted != Wanted::Long
    }

    /// What tells two examples apart.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let documents = self.documents.iter().map(|d| d.id.0.as_str()).collect::<Vec<_>>();
        let margins: Vec<u32> = self.readings.iter().map(|r| r.margin().to_bits()).collect();
        let answers: Vec<&str> = self.query.references.iter().map(String::as_str).collect();
        format!("{} {documents:?} {margins:?} {answers:?};", self.query.id).into_bytes()
    }
}

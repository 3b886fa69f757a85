//! The pair reader as the generator's span reader: models and adapters do not know each other.

use crate::adapters::generator_reader::{SpanReader, SpanReaderError, SpanReading};
use crate::policy::reader::{PairReader, ReaderError};
use actors::types::Document;
use std::sync::Arc;

/// A [`PairReader`] behind the generator's trait.
#[derive(Debug)]
pub(super) struct DocumentReader {
    model: Arc<PairReader>,
}

impl DocumentReader {
    pub(super) fn new(model: Arc<PairReader>) -> Self {
        Self { model }
    }
}

impl SpanReader for DocumentReader {
    fn read_spans(
        &mut self,
        question: &str,
        documents: &[Document],
    ) -> Result<Vec<SpanReading>, SpanReaderError> {
        let pairs: Vec<_> = documents.iter().map(|document| (question, document)).collect();
        let readings = self.model.read(&pairs).map_err(|error| match error {
            ReaderError::QuestionTooLong { .. } | ReaderError::EmptyQuestion => {
                SpanReaderError::Refused(error.to_string())
            }
            _ => SpanReaderError::Failed(error.to_string()),
        })?;
        let spans = readings.iter().map(|reading| SpanReading {
            answer: reading.answer.clone(),
            span_score: reading.span_score,
            null_score: reading.null_score,
            tokens: reading.tokens,
        });
        Ok(spans.collect())
    }
}

//! The pair reader as the generator's span reader: models and adapters do not know each other.

use crate::adapters::generator_reader::{SpanReader, SpanReaderError, SpanReading};
use crate::adapters::readings_file::ReadingsFile;
use crate::policy::reader::{PairReader, ReaderError, ReadingStore, StoreError};
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

/// A file of readings as the reader's store.
#[derive(Debug)]
pub(super) struct KeptReadings(pub(super) Arc<ReadingsFile>);

impl ReadingStore for KeptReadings {
    fn get(&self, names: &[[u8; 32]]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.0.get(names).map_err(|error| StoreError(error.to_string()))
    }

    fn put(&self, entries: &[([u8; 32], Vec<u8>)]) -> Result<(), StoreError> {
        self.0.put(entries).map_err(|error| StoreError(error.to_string()))
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

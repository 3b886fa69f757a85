//! The built-in generator: `ports::Generator` that copies the best span out of the documents.
//!
//! Asks a reader about every document on its own and takes the answer whose span beats "no answer"
//! by most. Calls nothing outside the process. Knows no model: the reader stands behind
//! [`SpanReader`] and runs on a `Compute`.

use actors::compute::Compute;
use actors::ports::{GenerateError, Generator};
use actors::types::{Answer, Document, Query, Usage};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What a reader says of one document for one question.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpanReading {
    /// Text of the best span, copied from the document; empty where there is none.
    pub answer: String,
    /// Score of that span; unbounded.
    pub span_score: f32,
    /// Score of "the answer is not in here", on the same scale.
    pub null_score: f32,
    /// Tokens of the document as read.
    pub tokens: u32,
}

impl SpanReading {
    /// How much the span beats "no answer".
    fn margin(&self) -> f32 {
        self.span_score - self.null_score
    }
}

/// Why a reader gave no reading.
#[derive(Debug, thiserror::Error)]
pub enum SpanReaderError {
    /// The question cannot be read; no retry helps.
    #[error("{0}")]
    Refused(String),
    /// The model failed on a sound request.
    #[error("{0}")]
    Failed(String),
}

/// Reads documents for an answer to a question. Synchronous: it runs on a compute thread.
pub trait SpanReader: Send {
    /// One reading a document, in order.
    fn read_spans(
        &mut self,
        question: &str,
        documents: &[Document],
    ) -> Result<Vec<SpanReading>, SpanReaderError>;
}

/// Settings of the built-in generator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReaderGeneratorConfig {
    /// Least margin of the best span over "no answer"; below it the answer is empty. No threshold:
    /// there is always an answer if there is a span.
    pub no_answer_threshold: Option<f32>,
    /// Most documents read for one question; more are refused.
    pub documents_max: usize,
}

impl Default for ReaderGeneratorConfig {
    fn default() -> Self {
        Self { no_answer_threshold: None, documents_max: 500 }
    }
}

/// A reader as a generator.
#[derive(Debug, Clone)]
pub struct ReaderGenerator<R> {
    reader: Compute<R>,
    config: ReaderGeneratorConfig,
}

impl<R: SpanReader + 'static> ReaderGenerator<R> {
    /// Answers with the reader on its compute thread.
    pub fn new(reader: Compute<R>, config: ReaderGeneratorConfig) -> Self {
        Self { reader, config }
    }

    fn answer_from(&self, documents: &[Document], readings: &[SpanReading]) -> Answer {
        let context_tokens =
            readings.iter().fold(0_u32, |sum, reading| sum.saturating_add(reading.tokens));
        let mut answer =
            Answer { usage: Usage { context_tokens, answer_tokens: 0 }, ..Answer::default() };
        let mut best: Option<(&Document, &SpanReading)> = None;
        for (document, reading) in documents.iter().zip(readings) {
            // The first of equals stays, so the order of the documents settles ties.
            if best.is_none_or(|(_, leader)| reading.margin() > leader.margin()) {
                best = Some((document, reading));
            }
        }
        let Some((document, reading)) = best else { return answer };
        answer.confidence = Some(reading.margin());
        let is_sure = self.config.no_answer_threshold.is_none_or(|least| reading.margin() >= least);
        if is_sure && !reading.answer.is_empty() {
            answer.text = reading.answer.clone();
            answer.citations = vec![document.id.clone()];
            let words = reading.answer.split_whitespace().count();
            answer.usage.answer_tokens = u32::try_from(words).unwrap_or(u32::MAX);
        }
        answer
    }
}

#[async_trait]
impl<R: SpanReader + 'static> Generator for ReaderGenerator<R> {
    async fn answer(&self, query: &Query, documents: &[Document]) -> Result<Answer, GenerateError> {
        if documents.is_empty() {
            return Ok(Answer::default());
        }
        if documents.len() > self.config.documents_max {
            return Err(GenerateError::Refused(format!(
                "{} documents for one question, at most {} are read",
                documents.len(),
                self.config.documents_max
            )));
        }
        let (question, given) = (query.text.clone(), documents.to_vec());
        let readings = self
            .reader
            .run(move |reader| reader.read_spans(&question, &given))
            .await
            .map_err(|error| GenerateError::Unavailable(error.to_string()))?
            .map_err(|error| match error {
                SpanReaderError::Refused(reason) => GenerateError::Refused(reason),
                SpanReaderError::Failed(reason) => GenerateError::Unavailable(reason),
            })?;
        if readings.len() != documents.len() {
            let (found, expected) = (readings.len(), documents.len());
            let reason = format!("the reader gave {found} readings for {expected} documents");
            return Err(GenerateError::Unavailable(reason));
        }
        if let Some(index) = readings.iter().position(|reading| !reading.margin().is_finite()) {
            let reason = format!("the scores of document {} are not finite", documents[index].id);
            return Err(GenerateError::Unavailable(reason));
        }
        Ok(self.answer_from(documents, &readings))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::adapters::contract::check_generator;
    use actors::compute::ComputeMode;
    use std::sync::Arc;

    /// Reads documents of the form `answer|span score|null score|tokens`.
    struct Scripted;

    impl SpanReader for Scripted {
        fn read_spans(
            &mut self,
            question: &str,
            documents: &[Document],
        ) -> Result<Vec<SpanReading>, SpanReaderError> {
            match question {
                "refuse" => return Err(SpanReaderError::Refused("too long".to_owned())),
                "short" => return Ok(Vec::new()),
                "panic" => panic!("scripted"),
                _ => {}
            }
            let number = |field: Option<&str>| field.and_then(|f| f.parse().ok()).unwrap_or(1.0);
            let read = |document: &Document| {
                let mut fields = document.text.split('|');
                SpanReading {
                    answer: fields.next().unwrap_or_default().to_owned(),
                    span_score: number(fields.next()),
                    null_score: number(fields.next()),
                    tokens: number(fields.next()) as u32,
                }
            };
            Ok(documents.iter().map(read).collect())
        }
    }

    fn generator(threshold: Option<f32>) -> ReaderGenerator<Scripted> {
        let reader = Compute::start("reader", ComputeMode::Thread, 4, Scripted).unwrap();
        let config = ReaderGeneratorConfig { no_answer_threshold: threshold, documents_max: 4 };
        ReaderGenerator::new(reader, config)
    }

    fn documents(texts: &[&str]) -> Vec<Document> {
        let document = |(n, text): (usize, &&str)| Document {
            id: format!("d{n}").as_str().into(),
            text: (*text).to_owned(),
            ..Document::default()
        };
        texts.iter().enumerate().map(document).collect()
    }

    async fn ask(
        generator: &ReaderGenerator<Scripted>,
        question: &str,
        texts: &[&str],
    ) -> Result<Answer, GenerateError> {
        let query = Query { text: question.to_owned(), ..Query::default() };
        generator.answer(&query, &documents(texts)).await
    }

    #[tokio::test]
    async fn the_reader_keeps_the_contract() {
        check_generator(async || Arc::new(generator(None)) as Arc<dyn Generator>).await;
    }

    #[tokio::test]
    async fn the_span_with_the_largest_margin_wins_and_the_first_of_equals() {
        let generator = generator(None);
        let texts = ["high|9|8|10", "wide margin|5|1|20", "same margin|6|2|30"];
        let answer = ask(&generator, "q", &texts).await.unwrap();
        assert_eq!(answer.text, "wide margin");
        assert_eq!(answer.citations, ["d1".into()]);
        assert_eq!(answer.confidence, Some(4.0));
        assert_eq!(answer.usage, Usage { context_tokens: 60, answer_tokens: 2 });
    }

    #[tokio::test]
    async fn below_the_threshold_the_answer_is_empty_but_costs_the_same() {
        let sure = ask(&generator(Some(2.0)), "q", &["x|5|3|7"]).await.unwrap();
        assert_eq!(sure.text, "x", "the threshold itself is enough");
        let unsure = ask(&generator(Some(2.5)), "q", &["x|5|3|7"]).await.unwrap();
        assert_eq!((unsure.text.as_str(), unsure.citations.len()), ("", 0));
        assert_eq!(unsure.usage.context_tokens, 7);
        assert_eq!(unsure.confidence, Some(2.0));
        let nothing = ask(&generator(None), "q", &["|5|3|7"]).await.unwrap();
        assert!(nothing.citations.is_empty(), "no span cites nothing");
    }

    #[tokio::test]
    async fn errors_tell_a_bad_request_from_a_broken_reader() {
        let generator = generator(None);
        let refused = ["refuse"; 1];
        for question in refused {
            let answer = ask(&generator, question, &["x"]).await;
            assert!(matches!(answer, Err(GenerateError::Refused(_))), "{answer:?}");
        }
        let many = ask(&generator, "q", &["x"; 5]).await;
        assert!(matches!(many, Err(GenerateError::Refused(_))), "{many:?}");
        for (question, text) in [("short", "x"), ("q", "x|NaN|0|1"), ("panic", "x"), ("q", "x")] {
            let answer = ask(&generator, question, &[text]).await;
            assert!(matches!(answer, Err(GenerateError::Unavailable(_))), "{question} {answer:?}");
        }
    }
}

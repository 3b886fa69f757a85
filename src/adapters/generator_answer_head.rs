//! `ports::Generator` on a trained answer head: one answer from all passages, read together.
//!
//! Owns the bounds of a request, the threshold below which the answer is empty, and what is cited.
//! Knows no model: reader and head stand behind [`AnswerModel`] and run on a `Compute`. Without
//! documents there is nothing to read and the answer is empty: `generator_memory` answers then.

use actors::compute::Compute;
use actors::ports::{GenerateError, Generator};
use actors::types::{Answer, Document, Query, Usage};
use async_trait::async_trait;

/// What a model answers from some documents.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelAnswer {
    /// The answer; empty where there is none.
    pub text: String,
    /// Indices of the documents it rests on.
    pub cites: Vec<usize>,
    /// Log-odds of the answer, natural.
    pub confidence: f32,
    /// Tokens of the documents as read.
    pub context_tokens: u32,
}

/// Why a model gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerModelError {
    /// The question cannot be answered by this model; no retry helps.
    #[error("{0}")]
    Refused(String),
    /// The model failed on a sound request.
    #[error("{0}")]
    Failed(String),
}

/// Answers from documents in their order; never asked without any. Synchronous: it runs on a
/// compute thread.
pub trait AnswerModel: Send {
    /// The answer to one query, of the kind that its metadata ask for.
    fn answer(
        &mut self,
        query: &Query,
        documents: &[Document],
    ) -> Result<ModelAnswer, AnswerModelError>;
}

/// Settings of the generator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerHeadConfig {
    /// Least log-odds of an answer against all others and "none"; below it the answer is empty. No
    /// threshold: there is always an answer if there is a span.
    pub no_answer_threshold: Option<f32>,
    /// Most documents read for one question; more are refused.
    pub documents_max: usize,
}

/// An answer model as a generator.
#[derive(Debug, Clone)]
pub struct AnswerHeadGenerator<M> {
    model: Compute<M>,
    config: AnswerHeadConfig,
}

impl<M: AnswerModel + 'static> AnswerHeadGenerator<M> {
    /// Answers with the model on its compute thread.
    pub fn new(model: Compute<M>, config: AnswerHeadConfig) -> Self {
        Self { model, config }
    }

    fn answer_of(&self, documents: &[Document], found: ModelAnswer) -> Answer {
        let is_sure = self.config.no_answer_threshold.is_none_or(|least| found.confidence >= least);
        let usage = Usage { context_tokens: found.context_tokens, answer_tokens: 0 };
        let mut answer = Answer { confidence: Some(found.confidence), usage, ..Answer::default() };
        if is_sure && !found.text.is_empty() {
            let cited = found.cites.iter().filter_map(|&at| documents.get(at));
            answer.citations = cited.map(|document| document.id.clone()).collect();
            let words = found.text.split_whitespace().count();
            answer.usage.answer_tokens = u32::try_from(words).unwrap_or(u32::MAX);
            answer.text = found.text;
        }
        answer
    }
}

#[async_trait]
impl<M: AnswerModel + 'static> Generator for AnswerHeadGenerator<M> {
    async fn answer(&self, query: &Query, documents: &[Document]) -> Result<Answer, GenerateError> {
        if documents.is_empty() {
            return Ok(Answer::default());
        }
        let (count, limit) = (documents.len(), self.config.documents_max);
        if count > limit {
            let reason = format!("{count} documents for one question, at most {limit} are read");
            return Err(GenerateError::Refused(reason));
        }
        let (asked, given) = (query.clone(), documents.to_vec());
        let found = self
            .model
            .run(move |model| model.answer(&asked, &given))
            .await
            .map_err(|error| GenerateError::Unavailable(error.to_string()))?
            .map_err(|error| match error {
                AnswerModelError::Refused(reason) => GenerateError::Refused(reason),
                AnswerModelError::Failed(reason) => GenerateError::Unavailable(reason),
            })?;
        if !found.confidence.is_finite() {
            let reason = "the confidence of the answer is not finite".to_owned();
            return Err(GenerateError::Unavailable(reason));
        }
        Ok(self.answer_of(documents, found))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::adapters::contract::check_generator;
    use actors::compute::ComputeMode;
    use std::sync::Arc;

    /// Says the first document's text, sure by its number of documents.
    struct Scripted;

    impl AnswerModel for Scripted {
        fn answer(
            &mut self,
            query: &Query,
            documents: &[Document],
        ) -> Result<ModelAnswer, AnswerModelError> {
            match query.text.as_str() {
                "refuse" => Err(AnswerModelError::Refused("no such label".to_owned())),
                "fail" => Err(AnswerModelError::Failed("damaged".to_owned())),
                text => Ok(ModelAnswer {
                    text: documents[0].text.clone(),
                    cites: vec![0, 9],
                    confidence: if text == "NaN" { f32::NAN } else { documents.len() as f32 },
                    context_tokens: 7,
                }),
            }
        }
    }

    fn generator(threshold: Option<f32>) -> AnswerHeadGenerator<Scripted> {
        let model = Compute::start("answers", ComputeMode::Thread, 4, Scripted).unwrap();
        let config = AnswerHeadConfig { no_answer_threshold: threshold, documents_max: 3 };
        AnswerHeadGenerator::new(model, config)
    }

    async fn ask(
        generator: &AnswerHeadGenerator<Scripted>,
        question: &str,
        count: usize,
    ) -> Result<Answer, GenerateError> {
        let document = |n: usize| Document {
            id: format!("d{n}").as_str().into(),
            text: "two words".to_owned(),
            ..Document::default()
        };
        let query = Query { text: question.to_owned(), ..Query::default() };
        generator.answer(&query, &(0..count).map(document).collect::<Vec<_>>()).await
    }

    #[tokio::test]
    async fn the_answer_head_keeps_the_contract() {
        check_generator(async || Arc::new(generator(None)) as Arc<dyn Generator>).await;
    }

    #[tokio::test]
    async fn an_answer_has_its_cost_and_cites_only_what_was_given() {
        let answer = ask(&generator(None), "q", 2).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.confidence), ("two words", Some(2.0)));
        assert_eq!(answer.citations, ["d0".into()]);
        assert_eq!(answer.usage, Usage { context_tokens: 7, answer_tokens: 2 });
    }

    #[tokio::test]
    async fn below_the_threshold_the_answer_is_empty_but_costs_the_same() {
        let sure = ask(&generator(Some(2.0)), "q", 2).await.unwrap();
        assert_eq!(sure.text, "two words", "the threshold itself is enough");
        let unsure = ask(&generator(Some(2.0)), "q", 1).await.unwrap();
        assert_eq!((unsure.text.as_str(), unsure.citations.len()), ("", 0));
        assert_eq!((unsure.usage.context_tokens, unsure.confidence), (7, Some(1.0)));
    }

    #[tokio::test]
    async fn errors_tell_a_bad_request_from_a_broken_model() {
        let generator = generator(None);
        for (question, count) in [("refuse", 1), ("q", 4)] {
            let answer = ask(&generator, question, count).await;
            assert!(matches!(answer, Err(GenerateError::Refused(_))), "{answer:?}");
        }
        for question in ["fail", "NaN"] {
            let answer = ask(&generator, question, 1).await;
            assert!(matches!(answer, Err(GenerateError::Unavailable(_))), "{answer:?}");
        }
    }
}

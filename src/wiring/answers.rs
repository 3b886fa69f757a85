//! What answers in this process: the plain reader, or reader and answer head; and the memory.

use super::reader::DocumentReader;
use super::{READER_QUEUE, WiringError};
use crate::adapters::generator_answer_head::{
    AnswerHeadConfig, AnswerHeadGenerator, AnswerModel, AnswerModelError, ModelAnswer,
};
use crate::adapters::generator_memory::{Known, Memory, MemoryGenerator};
use crate::adapters::generator_reader::ReaderGenerator;
use crate::config::Config;
use crate::datasets;
use crate::policy::answer_head::{self, AnswerHead, Limits, Passages, decode};
use crate::policy::reader::{PairReader, ReaderError};
use crate::recipes::generator::wanted;
use crate::rewards::ANSWER_TYPE;
use actors::compute::{Compute, ComputeMode};
use actors::ports::Generator;
use actors::types::{Document, Query};
use candle_core::Device;
use std::sync::Arc;

/// The reader as a generator: with the answer head that the settings name, else by itself.
pub(super) fn reader_generator(
    config: &Config,
    model: Arc<PairReader>,
) -> Result<Arc<dyn Generator>, WiringError> {
    let (settings, mode) = (&config.generator, ComputeMode::Thread);
    let Some(folder) = &settings.answer_head else {
        let place = Compute::start("reader", mode, READER_QUEUE, DocumentReader::new(model))?;
        return Ok(Arc::new(ReaderGenerator::new(place, settings.limits)));
    };
    let head = answer_head::read(folder, model.digest(), &Device::Cpu)?;
    let limits = Limits { long_words_max: settings.long_words_max };
    let reader = ListReader { model, head, limits };
    let place = Compute::start("reader", mode, READER_QUEUE, reader)?;
    let config = AnswerHeadConfig {
        no_answer_threshold: settings.limits.no_answer_threshold,
        documents_max: settings.limits.documents_max,
    };
    Ok(Arc::new(AnswerHeadGenerator::new(place, config)))
}

/// The generator behind the memory that the settings name, if they name one.
pub(super) fn with_memory(
    config: &Config,
    generator: Arc<dyn Generator>,
) -> Result<Arc<dyn Generator>, WiringError> {
    let settings = &config.generator;
    if settings.memory.is_empty() {
        return Ok(generator);
    }
    let questions = datasets::load_questions(&settings.memory).map_err(WiringError::Memory)?;
    let known = questions.into_iter().filter_map(|question| {
        let mut metadata = question.to_query().metadata;
        let answer = question.answers.into_iter().next()?;
        let answer_type = metadata.remove(ANSWER_TYPE);
        Some(Known { question: question.question, answer, answer_type })
    });
    let memory = Memory::new(known, settings.memory_limits);
    tracing::info!(questions = memory.len(), "answers known by heart");
    Ok(Arc::new(MemoryGenerator::new(generator, memory)))
}

/// The pair reader and an answer head as the generator's model.
struct ListReader {
    model: Arc<PairReader>,
    head: AnswerHead,
    limits: Limits,
}

impl AnswerModel for ListReader {
    fn answer(
        &mut self,
        query: &Query,
        documents: &[Document],
    ) -> Result<ModelAnswer, AnswerModelError> {
        let question = query.text.as_str();
        let pairs: Vec<_> = documents.iter().map(|document| (question, document)).collect();
        let readings = self.model.read(&pairs).map_err(|error| match error {
            ReaderError::QuestionTooLong { .. } | ReaderError::EmptyQuestion => {
                AnswerModelError::Refused(error.to_string())
            }
            _ => AnswerModelError::Failed(error.to_string()),
        })?;
        let wanted = wanted(query);
        let passages = Passages { question, documents, readings: &readings };
        let found = decode(&self.head, passages, &wanted, self.limits)
            .map_err(|error| AnswerModelError::Failed(error.to_string()))?
            .ok_or_else(|| {
                let known = self.head.labels().join(", ");
                let reason = format!("{wanted:?} is wanted, and the answer head knows {known}");
                AnswerModelError::Refused(reason)
            })?;
        Ok(ModelAnswer {
            text: found.text,
            cites: found.cites,
            confidence: found.confidence,
            context_tokens: readings.iter().fold(0, |sum, r| sum.saturating_add(r.tokens)),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::adapters::contract::check_generator;
    use crate::policy::fixture::write_tiny_model;
    use crate::policy::reader::ReaderArgs;
    use crate::rewards::{LABEL, LABELS};
    use actors::ports::GenerateError;
    use std::path::Path;

    fn reader(folder: &Path, seed: u64) -> Arc<PairReader> {
        write_tiny_model(folder, seed).unwrap();
        Arc::new(PairReader::load(folder, ReaderArgs::default()).unwrap())
    }

    /// A configuration with an untrained answer head for the reader that is given too.
    fn place(folder: &Path) -> (Config, Arc<PairReader>) {
        let model = reader(&folder.join("model"), 3);
        let labels = ["SUPPORTS", "REFUTES"].map(str::to_owned);
        let head = AnswerHead::untrained(model.width(), &labels, 0, &Device::Cpu).unwrap();
        let head_folder = folder.join("head");
        answer_head::write(&head_folder, &head, ("untrained", model.digest()), None).unwrap();
        let mut config = Config::default();
        config.generator.model = folder.join("model");
        config.generator.answer_head = Some(head_folder);
        (config, model)
    }

    fn document() -> Document {
        Document { id: "d".into(), text: "bob is in the house".to_owned(), ..Document::default() }
    }

    #[tokio::test]
    async fn reader_and_answer_head_keep_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let (config, model) = place(folder.path());
        check_generator(async || reader_generator(&config, Arc::clone(&model)).unwrap()).await;
    }

    #[tokio::test]
    async fn a_label_is_answered_and_one_that_is_unknown_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (config, model) = place(folder.path());
        let generator = reader_generator(&config, model).unwrap();
        let mut query = Query { text: "bob is in".to_owned(), ..Query::default() };
        query.metadata.insert(ANSWER_TYPE.to_owned(), LABEL.to_owned());
        query.metadata.insert(LABELS.to_owned(), "REFUTES, other".to_owned());
        let answer = generator.answer(&query, &[document()]).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.citations.len()), ("REFUTES", 1));
        query.metadata.insert(LABELS.to_owned(), "yes,no".to_owned());
        let refused = generator.answer(&query, &[document()]).await.unwrap_err();
        assert!(matches!(refused, GenerateError::Refused(_)), "{refused}");
        assert!(refused.to_string().contains("knows SUPPORTS, REFUTES"), "{refused}");
    }

    #[tokio::test]
    async fn an_answer_head_of_another_reader_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let (config, _) = place(folder.path());
        let other = reader(&folder.path().join("other"), 4);
        let Err(error) = reader_generator(&config, other) else { panic!("accepted") };
        let WiringError::AnswerHead(cause) = error else { panic!("{error}") };
        assert!(cause.to_string().contains("name that reader's folder in `generator.model`"));
    }

    #[tokio::test]
    async fn what_the_memory_files_hold_is_answered_without_documents() {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, model) = place(folder.path());
        let file = folder.path().join("known.jsonl");
        std::fs::write(&file, "{\"question\": \"who is in?\", \"answers\": [\"bob\"]}\n").unwrap();
        config.generator.memory = vec![file];
        let inner = reader_generator(&config, model).unwrap();
        let generator = with_memory(&config, inner).unwrap();
        let query = |text: &str| Query { text: text.to_owned(), ..Query::default() };
        let known = generator.answer(&query("Who is in"), &[]).await.unwrap();
        assert_eq!((known.text.as_str(), known.generator.as_str()), ("bob", "memory"));
        let unknown = generator.answer(&query("where am I"), &[]).await.unwrap();
        assert_eq!((unknown.text.as_str(), unknown.confidence), ("", Some(0.0)));
        let read = generator.answer(&query("Who is in"), &[document()]).await.unwrap();
        assert!(read.generator.is_empty());
        config.generator.memory = vec!["missing.jsonl".into()];
        let none = reader_generator(&config, reader(&folder.path().join("model"), 3)).unwrap();
        assert!(matches!(with_memory(&config, none), Err(WiringError::Memory(_))));
    }
}

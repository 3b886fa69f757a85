//! The embedder in this process: `retrieval::Embedder` over a sentence encoder on its own thread.
//!
//! Owns prefixes and the size of one piece of work, so that a query waits for at most one piece of
//! a long list of passages. Knows no model: the encoder stands behind [`TextEncoder`] and runs on a
//! `Compute`.

use crate::retrieval::{EmbedError, Embedder, Purpose, embedded};
use actors::compute::Compute;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokio::time::Instant;

/// Turns texts into vectors. Synchronous: it runs on a compute thread.
pub trait TextEncoder: Send {
    /// One vector of unit length a text, in order; the error says what is wrong with which text.
    fn encode(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, String>;
}

/// Settings of the embedder in this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalEmbedderConfig {
    /// Folder with `config.json`, `tokenizer.json` and `model.safetensors` of a sentence encoder,
    /// as sentence-transformers writes them.
    pub model: PathBuf,
    /// Longest text in tokens, specials included; the rest is not read. Absent: what the folder
    /// says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Tokens encoded in one forward pass, ≥ 1; bounds memory.
    pub batch_tokens: usize,
    /// Texts in one piece of work, ≥ 1; a query waits for one piece at most.
    pub batch_texts: usize,
    /// Pieces of work that may wait for the thread, ≥ 1; callers beyond that wait in line.
    pub queue: usize,
    /// Put before each query (`query: ` for E5 models).
    pub query_prefix: String,
    /// Put before each passage (`passage: ` for E5 models).
    pub passage_prefix: String,
}

impl Default for LocalEmbedderConfig {
    fn default() -> Self {
        Self {
            model: PathBuf::new(),
            max_tokens: None,
            batch_tokens: 4_096,
            batch_texts: 32,
            queue: 64,
            query_prefix: String::new(),
            passage_prefix: String::new(),
        }
    }
}

impl LocalEmbedderConfig {
    /// Fails with `(field, what is expected of it)` of the first setting out of bounds.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if self.model.as_os_str().is_empty() {
            return Err(("model", "the folder of a sentence encoder"));
        }
        if self.max_tokens.is_some_and(|tokens| tokens < 3) {
            return Err(("max_tokens", "at least 3: two specials and a token of text"));
        }
        for (field, value) in [
            ("batch_tokens", self.batch_tokens),
            ("batch_texts", self.batch_texts),
            ("queue", self.queue),
        ] {
            if value == 0 {
                return Err((field, "a number above 0"));
            }
        }
        Ok(())
    }
}

/// A sentence encoder as an embedder.
#[derive(Debug)]
pub struct LocalEmbedder<E> {
    encoder: Compute<E>,
    dimension: usize,
    name: String,
    config: LocalEmbedderConfig,
}

impl<E: TextEncoder + 'static> LocalEmbedder<E> {
    /// Embeds with the encoder on its compute thread. `name` says which weights and limits these
    /// are; the prefixes are added to it, since they change the vectors too.
    pub fn new(
        encoder: Compute<E>,
        name: &str,
        dimension: usize,
        config: LocalEmbedderConfig,
    ) -> Self {
        let mut name = name.to_owned();
        if !(config.query_prefix.is_empty() && config.passage_prefix.is_empty()) {
            name = format!("{name} ({:?}, {:?})", config.query_prefix, config.passage_prefix);
        }
        Self { encoder, dimension, name, config }
    }
}

#[async_trait]
impl<E: TextEncoder + 'static> Embedder for LocalEmbedder<E> {
    async fn embed(&self, texts: &[String], purpose: Purpose) -> Result<Vec<Vec<f32>>, EmbedError> {
        let started = Instant::now();
        let prefix = match purpose {
            Purpose::Query => &self.config.query_prefix,
            Purpose::Passage => &self.config.passage_prefix,
        };
        let mut vectors = Vec::with_capacity(texts.len());
        for piece in texts.chunks(self.config.batch_texts.max(1)) {
            let prefixed: Vec<String> =
                piece.iter().map(|text| format!("{prefix}{text}")).collect();
            let encoded = self
                .encoder
                .run(move |encoder| encoder.encode(&prefixed))
                .await
                .map_err(|error| EmbedError::Unavailable(error.to_string()))?
                .map_err(EmbedError::Refused)?;
            vectors.extend(encoded);
        }
        embedded(purpose, texts.len(), started.elapsed());
        Ok(vectors)
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use actors::compute::ComputeMode;
    use std::sync::{Arc, Mutex};

    /// Notes what it is given; the length of a text is its vector.
    #[derive(Default)]
    struct Notes(Arc<Mutex<Vec<Vec<String>>>>);

    impl TextEncoder for Notes {
        fn encode(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, String> {
            if texts.iter().any(|text| text.contains("bad")) {
                return Err("text 0 is bad".to_owned());
            }
            assert!(!texts.iter().any(|text| text.contains("panic")), "scripted");
            self.0.lock().unwrap().push(texts.to_vec());
            Ok(texts.iter().map(|text| vec![text.len() as f32]).collect())
        }
    }

    type Seen = Arc<Mutex<Vec<Vec<String>>>>;

    fn embedder(config: LocalEmbedderConfig) -> (LocalEmbedder<Notes>, Seen) {
        let notes = Notes::default();
        let seen = Arc::clone(&notes.0);
        let compute = Compute::start("embedder", ComputeMode::Thread, 4, notes).unwrap();
        (LocalEmbedder::new(compute, "notes", 1, config), seen)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_long_list_goes_in_pieces_and_comes_back_in_order() {
        let config = LocalEmbedderConfig { batch_texts: 2, ..LocalEmbedderConfig::default() };
        let (embedder, seen) = embedder(config);
        let given = texts(&["a", "bb", "ccc", "dddd", "eeeee"]);
        let vectors = embedder.embed(&given, Purpose::Passage).await.unwrap();
        assert_eq!(vectors, [[1.0], [2.0], [3.0], [4.0], [5.0]]);
        let sizes: Vec<usize> = seen.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
    }

    #[tokio::test]
    async fn each_purpose_has_its_prefix_and_the_name_tells_them() {
        let config = LocalEmbedderConfig {
            query_prefix: "query: ".to_owned(),
            passage_prefix: "passage: ".to_owned(),
            ..LocalEmbedderConfig::default()
        };
        let (embedder, seen) = embedder(config);
        embedder.embed(&texts(&["x"]), Purpose::Query).await.unwrap();
        embedder.embed(&texts(&["x"]), Purpose::Passage).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [["query: x"], ["passage: x"]]);
        assert_eq!(embedder.name(), r#"notes ("query: ", "passage: ")"#);
    }

    #[tokio::test]
    async fn a_bad_text_is_refused_and_a_dead_thread_is_unavailable() {
        let (embedder, _) = embedder(LocalEmbedderConfig::default());
        let refused = embedder.embed(&texts(&["bad"]), Purpose::Query).await;
        assert!(matches!(refused, Err(EmbedError::Refused(_))), "{refused:?}");
        let gone = embedder.embed(&texts(&["panic"]), Purpose::Query).await;
        assert!(matches!(gone, Err(EmbedError::Unavailable(_))), "{gone:?}");
    }
}

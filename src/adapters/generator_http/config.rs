//! How an endpoint is asked for an answer.

use crate::chat::EndpointConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Settings of answers over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpGeneratorConfig {
    /// The server. Its attempts lie within each of `service.generator.attempts_max`, and all of them
    /// within `service.generator.deadline_ms`.
    pub endpoint: EndpointConfig,
    /// File of the prompt; absent: the one shipped as `configs/prompts/answer.jinja`.
    pub prompt: Option<PathBuf>,
    /// Most tokens of an answer, ≥ 1.
    pub max_tokens: u32,
    /// Softmax temperature, in [0, 2].
    pub temperature: f64,
    /// Nucleus sampling, in (0, 1]; absent: the server's default.
    pub top_p: Option<f64>,
    /// Texts at which an answer ends; at most 4, as in the API.
    pub stop: Vec<String>,
    /// Seed of the server's dice.
    pub seed: u64,
    /// Whether each query has a seed of its own, drawn from `seed` and its id and text: the same
    /// query repeats its answer, two queries share no luck.
    pub seed_per_query: bool,
    /// The words that mean "not found in these documents": such an answer is empty. Empty: none do.
    pub no_answer: String,
    /// Most tokens of one document, title and text each, by estimate; the rest is cut off. ≥ 1.
    pub document_tokens_max: u32,
    /// Most documents for one question; more are refused. ≥ 1.
    pub documents_max: usize,
    /// Whether `[1]` and its like stay in the text of the answer. They are in its citations either
    /// way, and scorers that compare texts take them for words.
    pub keeps_markers: bool,
}

impl Default for HttpGeneratorConfig {
    fn default() -> Self {
        Self {
            endpoint: EndpointConfig::default(),
            prompt: None,
            max_tokens: 256,
            temperature: 0.0,
            top_p: None,
            stop: Vec::new(),
            seed: 0,
            seed_per_query: true,
            no_answer: "NO ANSWER".to_owned(),
            document_tokens_max: 512,
            documents_max: 100,
            keeps_markers: false,
        }
    }
}

impl HttpGeneratorConfig {
    /// Checks every value; `Err` names the first field that is wrong and what it may be.
    ///
    /// # Errors
    /// `(field, what was expected)`.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let within = |field: &str, expected: &str| Err((field.to_owned(), expected.to_owned()));
        self.endpoint.validate().map_err(|(field, said)| (format!("endpoint.{field}"), said))?;
        let counts = [
            ("max_tokens", u64::from(self.max_tokens)),
            ("document_tokens_max", u64::from(self.document_tokens_max)),
            ("documents_max", self.documents_max as u64),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return within(field, "a number above 0");
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return within("temperature", "a number from 0 to 2");
        }
        if self.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return within("top_p", "a number above 0, at most 1");
        }
        if self.stop.len() > 4 || self.stop.iter().any(String::is_empty) {
            return within("stop", "at most 4 texts, none of them empty");
        }
        if !self.seed_per_query && self.seed >= 1 << 31 {
            return within("seed", "a number below 2^31, which is what servers take");
        }
        Ok(())
    }
}

//! One endpoint as it is configured, with the bounds of every value.

use serde::{Deserialize, Serialize};
use url::Url;

/// The field that carries the limit of a reply's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenField {
    /// `max_completion_tokens`, as the API has it today.
    #[default]
    MaxCompletionTokens,
    /// `max_tokens`, which older servers know alone.
    MaxTokens,
}

/// An OpenAI-compatible server and how it may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointConfig {
    /// Base URL, with the version: `/chat/completions` is put behind it.
    pub url: String,
    /// Model asked for; never empty.
    pub model: String,
    /// Environment variable that holds the key, sent as a bearer token; absent: no key is sent.
    pub api_key_env: Option<String>,
    /// Whether replies are streamed: a silent server is then noticed by `gap_ms`.
    pub stream: bool,
    /// The field that limits a reply.
    pub token_field: TokenField,
    /// Requests at once, ≥ 1.
    pub concurrency: usize,
    /// Requests that may wait beyond that; one more is refused at once.
    pub waiting_max: usize,
    /// Longest time to connect, milliseconds, ≥ 1.
    pub connect_ms: u64,
    /// Longest time from the request to the reply's first byte, and from there to the first word of
    /// a stream, milliseconds, ≥ 1. Without `stream` that is all the time of the model.
    pub first_byte_ms: u64,
    /// Longest silence within a reply that has begun, milliseconds, ≥ 1.
    pub gap_ms: u64,
    /// Longest time for one request over all attempts, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Attempts for one request, ≥ 1.
    pub attempts_max: u32,
    /// Pause after the first failed attempt, milliseconds, ≥ 1; doubled for each further one, and
    /// varied by chance. What `Retry-After` asks for counts where it is longer.
    pub backoff_ms: u64,
    /// Longest pause of our own, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
    /// Largest reply, bytes on the wire, ≥ 1.
    pub reply_bytes_max: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8000/v1".to_owned(),
            model: "default".to_owned(),
            api_key_env: None,
            stream: true,
            token_field: TokenField::MaxCompletionTokens,
            concurrency: 16,
            waiting_max: 64,
            connect_ms: 2_000,
            first_byte_ms: 15_000,
            gap_ms: 5_000,
            deadline_ms: 20_000,
            attempts_max: 3,
            backoff_ms: 200,
            backoff_max_ms: 5_000,
            reply_bytes_max: 1 << 20,
        }
    }
}

impl EndpointConfig {
    /// Checks every value; `Err` names the first field that is wrong and what it may be.
    ///
    /// # Errors
    /// `(field, what was expected)`.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let at_least_one = [
            ("concurrency", self.concurrency as u64),
            ("connect_ms", self.connect_ms),
            ("first_byte_ms", self.first_byte_ms),
            ("gap_ms", self.gap_ms),
            ("deadline_ms", self.deadline_ms),
            ("attempts_max", u64::from(self.attempts_max)),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
            ("reply_bytes_max", self.reply_bytes_max as u64),
        ];
        if let Some((field, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err((field, "a number above 0".to_owned()));
        }
        if self.model.trim().is_empty() {
            return Err(("model", "the name of a model".to_owned()));
        }
        if self.api_key_env.as_deref().is_some_and(|name| name.trim().is_empty()) {
            return Err(("api_key_env", "the name of an environment variable".to_owned()));
        }
        self.completions().map(drop).map_err(|expected| ("url", expected))
    }

    /// The address of the completions.
    ///
    /// # Errors
    /// What was expected of the URL.
    pub(super) fn completions(&self) -> Result<Url, String> {
        let expected = || "an http or https URL, as in `http://127.0.0.1:8000/v1`".to_owned();
        let text = format!("{}/chat/completions", self.url.trim_end_matches('/'));
        let url = Url::parse(&text).map_err(|error| format!("{} ({error})", expected()))?;
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        if is_http && url.query().is_none() { Ok(url) } else { Err(expected()) }
    }
}

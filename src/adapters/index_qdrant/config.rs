//! The settings of the Qdrant index and what they may be.

use crate::adapters::resilience::{BreakerConfig, RetryConfig};
use serde::{Deserialize, Serialize};

/// Where the server is, what is kept there, and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QdrantConfig {
    /// The server's gRPC address: `http://host:6334`, or `https://…` for TLS.
    pub url: String,
    /// The collection; made if it is not there.
    pub collection: String,
    /// Environment variable that holds the API key; without one no key is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Keys of metadata that queries may filter by: letters, digits, `_` and `-`. The server keeps
    /// an index of each.
    pub filter_fields: Vec<String>,
    /// BM25: how slowly further occurrences of a term saturate, ≥ 0.
    pub k1: f64,
    /// BM25: how much long passages are marked down, in [0, 1].
    pub b: f64,
    /// BM25: terms of a passage of ordinary length, > 0; one figure for all that is ever written.
    pub average_length: f64,
    /// Distinct terms of a query that are looked up, the first ones, ≥ 1.
    pub query_terms_max: usize,
    /// Passages taken from each ranked list before they are fused, ≥ 1.
    pub prefetch: usize,
    /// Candidates returned at most, whatever is asked for, ≥ 1.
    pub candidates_max: usize,
    /// Passages written in one call, in 1..=1024.
    pub batch: usize,
    /// Time to reach the server, milliseconds, ≥ 1.
    pub connect_timeout_ms: u64,
    /// Time of one attempt at a search, milliseconds, ≥ 1.
    pub search_timeout_ms: u64,
    /// Time of a search over all its attempts, milliseconds, ≥ 1; below
    /// `service.retriever.deadline_ms`, so that the reason of a failure is still told.
    pub search_deadline_ms: u64,
    /// Time of one attempt at writing a batch, milliseconds, ≥ 1.
    pub write_timeout_ms: u64,
    /// Time of one batch over all attempts, and of the checks at the start, milliseconds, ≥ 1.
    pub write_deadline_ms: u64,
    /// Attempts and pauses.
    pub retry: RetryConfig,
    /// When searches stop asking a server that is away.
    pub breaker: BreakerConfig,
}

impl Default for QdrantConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:6334".to_owned(),
            collection: "regrade".to_owned(),
            api_key_env: None,
            filter_fields: Vec::new(),
            k1: 0.9,
            b: 0.4,
            average_length: 100.0,
            query_terms_max: 256,
            prefetch: 100,
            candidates_max: 1_000,
            batch: 128,
            connect_timeout_ms: 1_000,
            search_timeout_ms: 700,
            search_deadline_ms: 1_600,
            write_timeout_ms: 20_000,
            write_deadline_ms: 60_000,
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }
}

impl QdrantConfig {
    /// The first field that is wrong (dotted, without its section), and what it may be.
    ///
    /// # Errors
    /// `(field, expected)`.
    pub fn validate(&self) -> Result<(), (String, &'static str)> {
        let wrong = |field: &str, expected| Err((field.to_owned(), expected));
        if !(self.url.starts_with("http://") || self.url.starts_with("https://")) {
            return wrong("url", "`http://host:6334`, or `https://…` for TLS");
        }
        if self.collection.is_empty() || self.collection.contains(['/', '\\', '\0', ' ']) {
            return wrong("collection", "a name without slashes and spaces");
        }
        if self.api_key_env.as_deref() == Some("") {
            return wrong("api_key_env", "the name of an environment variable");
        }
        if !self.filter_fields.iter().all(|field| is_plain(field)) {
            return wrong("filter_fields", "names of letters, digits, `_` and `-`");
        }
        if !(self.k1.is_finite() && self.k1 >= 0.0) {
            return wrong("k1", "a number ≥ 0");
        }
        if !(0.0..=1.0).contains(&self.b) {
            return wrong("b", "a number from 0 to 1");
        }
        if !(self.average_length.is_finite() && self.average_length > 0.0) {
            return wrong("average_length", "a number above 0");
        }
        if !(1..=1_024).contains(&self.batch) {
            return wrong("batch", "a number from 1 to 1024");
        }
        for (field, value) in [
            ("query_terms_max", self.query_terms_max as u64),
            ("prefetch", self.prefetch as u64),
            ("candidates_max", self.candidates_max as u64),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("search_timeout_ms", self.search_timeout_ms),
            ("search_deadline_ms", self.search_deadline_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            ("write_deadline_ms", self.write_deadline_ms),
        ] {
            if value == 0 {
                return wrong(field, "a number of at least 1");
            }
        }
        self.retry.validate().map_err(|(field, expected)| (format!("retry.{field}"), expected))?;
        self.breaker.validate().map_err(|(field, expected)| (format!("breaker.{field}"), expected))
    }
}

/// Whether a name needs no quotes in a path into the payload.
fn is_plain(field: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !field.is_empty() && field.chars().all(is_word)
}

//! The embedder behind an OpenAI-compatible server: `retrieval::Embedder` over `POST /v1/embeddings`.
//!
//! Owns batches, the limit on requests at once, prefixes, and what is tried again and for how long.
//! Knows no index. What goes over the wire is in `wire`; a server's vectors are scaled to unit
//! length, whatever it says of them.

mod retry;
mod wire;

use crate::retrieval::telemetry::embed_retried;
use crate::retrieval::{EmbedError, Embedder, Purpose, checked, embedded, to_unit_length};
use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use rand::rngs::StdRng;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use retry::{Pause, Trouble};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wire::Encoding;

pub use wire::Encoding as HttpEmbeddingEncoding;

/// Settings of an embedding server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpEmbedderConfig {
    /// Base of the interface, as in `http://127.0.0.1:8080/v1`; `/embeddings` is added.
    pub url: String,
    /// Model asked for.
    pub model: String,
    /// Numbers in a vector, ≥ 1; an answer with another number is refused.
    pub dimension: usize,
    /// Whether the server is asked to shorten its vectors to `dimension`, where the model can.
    pub send_dimension: bool,
    /// How the server is asked to write vectors.
    pub encoding: Encoding,
    /// Put before each query.
    pub query_prefix: String,
    /// Put before each passage.
    pub passage_prefix: String,
    /// Environment variable that holds the key; empty for a server without one.
    pub api_key_env: String,
    /// Texts in one request, ≥ 1.
    pub batch_texts: usize,
    /// Longest text sent, bytes, ≥ 1; the rest of it is left out.
    pub text_bytes_max: usize,
    /// Requests at once, ≥ 1.
    pub concurrency: usize,
    /// Time for one request, milliseconds, ≥ 1.
    pub timeout_ms: u64,
    /// Requests after the first one, when the server is busy or broken.
    pub retries: u32,
    /// Pause before the first repetition, milliseconds, ≥ 1; doubled for each further one.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds; a server that asks for a longer one is given up.
    pub backoff_max_ms: u64,
}

impl Default for HttpEmbedderConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            model: String::new(),
            dimension: 0,
            send_dimension: false,
            encoding: Encoding::Float,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            api_key_env: String::new(),
            batch_texts: 64,
            text_bytes_max: 16_384,
            concurrency: 4,
            timeout_ms: 30_000,
            retries: 4,
            backoff_ms: 250,
            backoff_max_ms: 30_000,
        }
    }
}

impl HttpEmbedderConfig {
    /// Fails with `(field, what is expected of it)` of the first setting out of bounds.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if endpoint(&self.url).is_none() {
            return Err(("url", "the base of the interface, as in `http://127.0.0.1:8080/v1`"));
        }
        if self.model.trim().is_empty() {
            return Err(("model", "the name of a model that the server has"));
        }
        if self.dimension == 0 {
            return Err(("dimension", "the numbers in a vector of the model"));
        }
        for (field, value) in [
            ("batch_texts", self.batch_texts as u64),
            ("text_bytes_max", self.text_bytes_max as u64),
            ("concurrency", self.concurrency as u64),
            ("timeout_ms", self.timeout_ms),
            ("backoff_ms", self.backoff_ms),
        ] {
            if value == 0 {
                return Err((field, "a number above 0"));
            }
        }
        if self.backoff_max_ms < self.backoff_ms {
            return Err(("backoff_max_ms", "at least `backoff_ms`"));
        }
        Ok(())
    }
}

fn endpoint(base: &str) -> Option<Url> {
    let url = Url::parse(&format!("{}/embeddings", base.trim_end_matches('/'))).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// A client of an embedding server.
#[derive(Debug)]
pub struct HttpEmbedder {
    client: reqwest::Client,
    endpoint: Url,
    key: Option<HeaderValue>,
    lanes: Semaphore,
    /// Draws the jitter of pauses.
    rng: Mutex<StdRng>,
    config: HttpEmbedderConfig,
}

impl HttpEmbedder {
    /// Makes the client; no request is sent. `variable` reads an environment variable, `rng` draws
    /// the jitter of pauses.
    ///
    /// # Errors
    /// A setting out of bounds, or a key that is named and not there.
    pub fn new(
        config: HttpEmbedderConfig,
        variable: impl Fn(&str) -> Option<String>,
        rng: StdRng,
    ) -> Result<Self, EmbedError> {
        let refused = |what: String| EmbedError::Refused(what);
        config.validate().map_err(|(field, expected)| {
            refused(format!("setting `{field}`: expected {expected}"))
        })?;
        let endpoint = endpoint(&config.url).ok_or_else(|| refused(config.url.clone()))?;
        let key = match config.api_key_env.as_str() {
            "" => None,
            name => Some(key(name, variable(name)).map_err(refused)?),
        };
        let mut client = reqwest::Client::builder()
            .timeout(Duration::from_millis(config.timeout_ms))
            .redirect(reqwest::redirect::Policy::none());
        // A server on this machine is never behind a proxy.
        if matches!(endpoint.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| refused(error.to_string()))?;
        let (lanes, rng) = (Semaphore::new(config.concurrency), Mutex::new(rng));
        Ok(Self { client, endpoint, key, lanes, rng, config })
    }

    /// One batch, with repetitions.
    async fn batch(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut pause = Pause::new(&self.config);
        loop {
            let trouble = match self.request(&texts).await {
                Ok(vectors) => return Ok(vectors),
                Err(trouble) => trouble,
            };
            match pause.after(&trouble, &self.rng) {
                Some(length) => {
                    embed_retried(trouble.reason());
                    tracing::debug!(%trouble, ?length, "embedding server failed, trying again");
                    tokio::time::sleep(length).await;
                }
                None => return Err(trouble.into_error(&self.config.url, pause.tried())),
            }
        }
    }

    async fn request(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Trouble> {
        let Ok(_lane) = self.lanes.acquire().await else {
            return Err(Trouble::Refused("the client is shut down".to_owned()));
        };
        let config = &self.config;
        let mut request = self.client.post(self.endpoint.clone()).json(&wire::Request {
            model: &config.model,
            input: texts,
            encoding_format: config.encoding,
            dimensions: config.send_dimension.then_some(config.dimension),
        });
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.clone());
        }
        let response = request.send().await.map_err(|error| Trouble::network(&error))?;
        let body = wire::read(response, texts.len(), config.dimension).await?;
        let vectors = wire::vectors(&body, texts.len())?;
        let mut vectors = checked(vectors, texts.len(), config.dimension)
            .map_err(|error| Trouble::Refused(error.to_string()))?;
        for (at, vector) in vectors.iter_mut().enumerate() {
            if !to_unit_length(vector) {
                return Err(Trouble::Refused(format!("vector {at} is zero")));
            }
        }
        Ok(vectors)
    }
}

fn key(name: &str, value: Option<String>) -> Result<HeaderValue, String> {
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else {
        return Err(format!(
            "`api_key_env` names the environment variable `{name}`, which is not set: set it, or \
             leave `api_key_env` out"
        ));
    };
    let mut header = HeaderValue::from_str(&format!("Bearer {}", value.trim()))
        .map_err(|_| format!("the key in `{name}` has characters that no header can carry"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[async_trait]
impl Embedder for HttpEmbedder {
    async fn embed(&self, texts: &[String], purpose: Purpose) -> Result<Vec<Vec<f32>>, EmbedError> {
        let started = Instant::now();
        let config = &self.config;
        let prefix = match purpose {
            Purpose::Query => &config.query_prefix,
            Purpose::Passage => &config.passage_prefix,
        };
        let prepared = |text: &String| {
            format!("{prefix}{}", &text[..text.floor_char_boundary(config.text_bytes_max)])
        };
        let requests: Vec<Vec<String>> = texts
            .chunks(config.batch_texts)
            .map(|batch| batch.iter().map(prepared).collect())
            .collect();
        let vectors: Vec<Vec<Vec<f32>>> = futures::stream::iter(requests)
            .map(|batch| self.batch(batch))
            .buffered(config.concurrency)
            .try_collect()
            .await?;
        embedded(purpose, texts.len(), started.elapsed());
        Ok(vectors.into_iter().flatten().collect())
    }

    fn dimension(&self) -> usize {
        self.config.dimension
    }

    fn name(&self) -> String {
        let HttpEmbedderConfig { model, query_prefix, passage_prefix, .. } = &self.config;
        if query_prefix.is_empty() && passage_prefix.is_empty() {
            return model.clone();
        }
        format!("{model} ({query_prefix:?}, {passage_prefix:?})")
    }
}

#[cfg(test)]
mod tests;

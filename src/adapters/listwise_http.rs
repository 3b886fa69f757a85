//! A language model that ranks windows of documents: `policy::listwise::WindowRanker` over `chat`.
//!
//! One request a window, in one turn, as RankZephyr has it; retries are the endpoint's. What the model
//! reads is cut and fenced, and numbers in brackets within it are put into round ones, so that no
//! document can pass for another. The repair of what comes back is the loop's. Knows no list.

use crate::chat::{
    ChatClient, ChatRequest, EndpointConfig, Finish, Prompt, PromptError, Shipped, fenced, seed_of,
    truncated,
};
use crate::policy::listwise::{WindowError, WindowRanker, permutation_of};
use actors::types::Document;
use async_trait::async_trait;
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::PathBuf;

const SHIPPED: Shipped = Shipped {
    file: "configs/prompts/listwise.jinja",
    text: include_str!("../../configs/prompts/listwise.jinja"),
};

/// Settings of a list-wise ranker over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpListwiseConfig {
    /// The server.
    pub endpoint: EndpointConfig,
    /// File of the prompt; absent: the shipped one, `configs/prompts/listwise.jinja`.
    pub prompt: Option<PathBuf>,
    /// Most tokens of a reply, ≥ 1; `[20] > ` is about five.
    pub max_tokens: u32,
    /// Softmax temperature, in [0, 2].
    pub temperature: f64,
    /// Seed of the server's dice; with the query it gives the seed of each request.
    pub seed: u64,
    /// Most tokens shown of a document, title included, by estimate, ≥ 1.
    pub document_tokens_max: u32,
    /// Most tokens shown of the question, by estimate, ≥ 1.
    pub question_tokens_max: u32,
    /// Most documents in one window, ≥ 2; a larger one is refused.
    pub documents_max: usize,
}

impl Default for HttpListwiseConfig {
    fn default() -> Self {
        Self {
            endpoint: EndpointConfig::default(),
            prompt: None,
            max_tokens: 256,
            temperature: 0.0,
            seed: 0,
            document_tokens_max: 512,
            question_tokens_max: 256,
            documents_max: 100,
        }
    }
}

impl HttpListwiseConfig {
    /// Checks every value; `Err` names the first field that is wrong and what it may be.
    ///
    /// # Errors
    /// `(field, what was expected)`.
    pub fn validate(&self) -> Result<(), (String, String)> {
        self.endpoint.validate().map_err(|(field, said)| (format!("endpoint.{field}"), said))?;
        let counts = [
            ("max_tokens", self.max_tokens),
            ("document_tokens_max", self.document_tokens_max),
            ("question_tokens_max", self.question_tokens_max),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err((field.to_owned(), "a number above 0".to_owned()));
        }
        if self.documents_max < 2 {
            return Err(("documents_max".to_owned(), "a number from 2".to_owned()));
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(("temperature".to_owned(), "a number from 0 to 2".to_owned()));
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct HttpWindowRanker {
    client: ChatClient,
    prompt: Prompt,
    config: HttpListwiseConfig,
    secret: u64,
}

impl HttpWindowRanker {
    /// Ranks through `client`, which need not be that of `config.endpoint`. `secret`: where the ids
    /// of the fences come from; whoever knows it can write data that closes its fence.
    ///
    /// # Errors
    /// The prompt cannot be used.
    pub fn new(
        client: ChatClient,
        config: HttpListwiseConfig,
        secret: u64,
    ) -> Result<Self, PromptError> {
        let shown = Shown { number: 1, fenced: "fenced".to_owned() };
        let sample = prompt_context("0", "fenced", &[shown]);
        let prompt = Prompt::load(config.prompt.as_deref(), SHIPPED, &[sample])?;
        Ok(Self { client, prompt, config, secret })
    }

    fn request(&self, query: &str, window: &[&Document]) -> Result<ChatRequest, WindowError> {
        let config = &self.config;
        let task = self.task(query, window);
        let show = |(n, document): (usize, &&Document)| {
            let text = match document.title.as_str() {
                "" => document.text.clone(),
                title => format!("{title}\n{}", document.text),
            };
            let text = round_brackets(truncated(&text, config.document_tokens_max));
            Shown { number: n + 1, fenced: fenced("document", &text, &task) }
        };
        let shown: Vec<Shown> = window.iter().enumerate().map(show).collect();
        let question = fenced("question", truncated(query, config.question_tokens_max), &task);
        let messages = self.prompt.render(&prompt_context(&task, &question, &shown));
        Ok(ChatRequest {
            messages: messages.map_err(|error| WindowError::Refused(error.to_string()))?,
            max_tokens: config.max_tokens,
            seed: Some(seed_of(&[&config.seed.to_string(), query])),
            temperature: Some(config.temperature),
            ..ChatRequest::default()
        })
    }

    /// An id that nobody can guess who does not know the secret: 64 bits in hexadecimal.
    fn task(&self, query: &str, window: &[&Document]) -> String {
        let mut hash = Sha256::new().chain_update(self.secret.to_le_bytes());
        for part in std::iter::once(query).chain(window.iter().map(|d| d.id.as_str())) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// A document as the template sees it.
#[derive(Debug, Serialize)]
struct Shown {
    number: usize,
    fenced: String,
}

fn prompt_context(task: &str, question: &str, documents: &[Shown]) -> Value {
    let count = documents.len();
    let documents = Value::from(minijinja::value::Serde(documents));
    context! { task, question, count, documents }
}

/// `[12]` becomes `(12)`: in the prompt square brackets hold the numbers of documents.
fn round_brackets(text: &str) -> String {
    let mut rounded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let (before, inside) = (&rest[..at], &rest[at + 1..]);
        let digits = inside.bytes().take_while(u8::is_ascii_digit).count();
        rounded.push_str(before);
        if digits > 0 && inside[digits..].starts_with(']') {
            let _ = write!(rounded, "({})", &inside[..digits]);
            rest = &inside[digits + 1..];
        } else {
            rounded.push('[');
            rest = inside;
        }
    }
    rounded + rest
}

#[async_trait]
impl WindowRanker for HttpWindowRanker {
    async fn rank(&self, query: &str, window: &[&Document]) -> Result<Vec<usize>, WindowError> {
        if window.len() > self.config.documents_max {
            return Err(WindowError::Refused(format!(
                "{} documents in one window, at most {} are read",
                window.len(),
                self.config.documents_max
            )));
        }
        let request = self.request(query, window)?;
        let reply = self.client.complete(&request).await.map_err(|failure| {
            let said = failure.to_string();
            if failure.error.is_refusal() {
                WindowError::Refused(said)
            } else {
                WindowError::Unavailable(said)
            }
        })?;
        if reply.finish == Finish::Filtered {
            return Err(WindowError::Refused("the server withheld the reply".to_owned()));
        }
        let said = permutation_of(&reply.text);
        let names_one = said.iter().any(|place| *place < window.len());
        if names_one { Ok(said) } else { Err(WindowError::NoPermutation) }
    }
}

#[cfg(test)]
mod tests;

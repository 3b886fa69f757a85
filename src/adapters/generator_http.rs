//! A language model behind an OpenAI-compatible endpoint: `ports::Generator` over `chat`.
//!
//! Puts the documents in the order given into a prompt, cuts each to its budget, and reads the
//! citations out of what comes back. Retries within one answer are the endpoint's.
//!
//! `usage.context_tokens` is the documents' share of the prompt tokens that the server counted,
//! shared out by estimate; where the server counts nothing, the estimate itself.

mod citations;
mod config;

pub use config::HttpGeneratorConfig;

use crate::chat::{
    ChatClient, ChatReply, ChatRequest, Finish, Message, Prompt, PromptError, Shipped, defused,
    estimated_tokens, seed_of, truncated,
};
use actors::ports::{GenerateError, Generator};
use actors::types::{Answer, Document, Query, Usage};
use async_trait::async_trait;
use citations::Citations;
use minijinja::value::Serde;
use minijinja::{Value, context};

const SHIPPED: Shipped = Shipped {
    file: "configs/prompts/answer.jinja",
    text: include_str!("../../configs/prompts/answer.jinja"),
};

const CITATIONS: &str = "regrade_generator_citations_total";
/// The metrics of this adapter.
pub const METRICS: [&str; 1] = [CITATIONS];

/// A chat endpoint as a generator.
#[derive(Debug, Clone)]
pub struct HttpGenerator {
    client: ChatClient,
    prompt: Prompt,
    config: HttpGeneratorConfig,
}

impl HttpGenerator {
    /// Answers through `client`, which need not be that of `config.endpoint`.
    ///
    /// # Errors
    /// The prompt cannot be used.
    pub fn new(client: ChatClient, config: HttpGeneratorConfig) -> Result<Self, PromptError> {
        let sample = |documents: &[Document]| {
            prompt_context("a question", &config.no_answer, &shown(documents, 64))
        };
        let one = Document {
            id: "d".into(),
            title: "a title".into(),
            text: "a text".into(),
            ..Document::default()
        };
        let samples = [sample(std::slice::from_ref(&one)), sample(&[])];
        let prompt = Prompt::load(config.prompt.as_deref(), SHIPPED, &samples)?;
        Ok(Self { client, prompt, config })
    }

    fn request(&self, query: &Query, messages: Vec<Message>) -> ChatRequest {
        let config = &self.config;
        let seed = if config.seed_per_query {
            seed_of(&[&config.seed.to_string(), query.id.as_str(), &query.text])
        } else {
            config.seed
        };
        ChatRequest {
            messages,
            max_tokens: config.max_tokens,
            seed: Some(seed),
            temperature: Some(config.temperature),
            top_p: config.top_p,
            stop: config.stop.clone(),
            response_format: None,
        }
    }

    fn answer_of(&self, reply: &ChatReply, documents: &[Document], context: Context) -> Answer {
        let model = if reply.model.is_empty() { &self.client.config().model } else { &reply.model };
        let mut answer = Answer {
            usage: Usage {
                context_tokens: context.tokens(reply),
                answer_tokens: reply.usage.completion,
            },
            generator: format!("http/{model}"),
            ..Answer::default()
        };
        let found = Citations::read(&reply.text, documents.len());
        if is_no_answer(&found.plain, &self.config.no_answer) {
            return answer;
        }
        for (fate, count) in [("kept", found.numbers.len()), ("out_of_range", found.out_of_range)] {
            metrics::counter!(CITATIONS, "fate" => fate).increment(count as u64);
        }
        let cited = found.numbers.iter().filter_map(|n| documents.get(n - 1));
        answer.citations = cited.map(|document| document.id.clone()).collect();
        answer.text =
            if self.config.keeps_markers { reply.text.trim().to_owned() } else { found.plain };
        answer
    }
}

#[async_trait]
impl Generator for HttpGenerator {
    async fn answer(&self, query: &Query, documents: &[Document]) -> Result<Answer, GenerateError> {
        if documents.len() > self.config.documents_max {
            return Err(GenerateError::Refused(format!(
                "{} documents for one question, at most {} are read",
                documents.len(),
                self.config.documents_max
            )));
        }
        let shown = shown(documents, self.config.document_tokens_max);
        let context = prompt_context(&query.text, &self.config.no_answer, &shown);
        let messages = self.prompt.render(&context);
        let messages = messages.map_err(|error| GenerateError::Refused(error.to_string()))?;
        let context = Context::of(&shown, &messages);
        let request = self.request(query, messages);
        let reply = self.client.complete(&request).await.map_err(|failure| {
            let said = failure.to_string();
            if failure.error.is_refusal() {
                GenerateError::Refused(said)
            } else {
                GenerateError::Unavailable(said)
            }
        })?;
        if reply.finish == Finish::Filtered {
            return Err(GenerateError::Refused("the server withheld the answer".to_owned()));
        }
        if reply.finish == Finish::Length && reply.text.trim().is_empty() {
            let reason = "the model spent `max_tokens` without a word of an answer".to_owned();
            return Err(GenerateError::Refused(reason));
        }
        Ok(self.answer_of(&reply, documents, context))
    }
}

/// A document as the template sees it.
#[derive(Debug, serde::Serialize)]
struct Shown {
    number: usize,
    title: String,
    text: String,
}

fn shown(documents: &[Document], tokens: u32) -> Vec<Shown> {
    let show = |(n, document): (usize, &Document)| Shown {
        number: n + 1,
        title: defused(truncated(&document.title, tokens)),
        text: defused(truncated(&document.text, tokens)),
    };
    documents.iter().enumerate().map(show).collect()
}

fn prompt_context(question: &str, no_answer: &str, documents: &[Shown]) -> Value {
    let documents = Value::from(Serde(documents));
    context! { question => defused(question), no_answer, documents }
}

/// What is known of the prompt before it is sent, by estimate.
#[derive(Debug, Clone, Copy)]
struct Context {
    documents: u32,
    prompt: u32,
}

impl Context {
    fn of(documents: &[Shown], messages: &[Message]) -> Self {
        let sum = |counts: &mut dyn Iterator<Item = u32>| counts.fold(0, u32::saturating_add);
        let of = |d: &Shown| estimated_tokens(&d.title).saturating_add(estimated_tokens(&d.text));
        Self {
            documents: sum(&mut documents.iter().map(of)),
            prompt: sum(&mut messages.iter().map(|m| estimated_tokens(&m.content))).max(1),
        }
    }

    fn tokens(self, reply: &ChatReply) -> u32 {
        if reply.usage.is_estimated {
            return self.documents;
        }
        let share = f64::from(self.documents.min(self.prompt)) / f64::from(self.prompt);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "≤ a u32")]
        let tokens = (share * f64::from(reply.usage.prompt)).round() as u32;
        tokens
    }
}

/// Whether the reply is the marker and no more; case and a full stop do not count.
fn is_no_answer(text: &str, marker: &str) -> bool {
    let bare = |text: &str| {
        text.trim_matches(|c: char| c.is_whitespace() || "\"'.`*".contains(c)).to_lowercase()
    };
    !marker.is_empty() && bare(text) == bare(marker)
}

#[cfg(test)]
mod tests;

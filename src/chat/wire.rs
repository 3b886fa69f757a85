//! The JSON of chat completions, out and in. Replies may carry fields that nobody here reads.

use super::{ChatRequest, EndpointConfig, Finish, TokenField, TokenUsage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Whoever gives the rules.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<&'a Value>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Body<'a> {
    pub(super) fn of(config: &'a EndpointConfig, request: &'a ChatRequest) -> Self {
        let limit = |field| (config.token_field == field).then_some(request.max_tokens);
        Self {
            model: &config.model,
            messages: &request.messages,
            stream: config.stream,
            stream_options: config.stream.then_some(StreamOptions { include_usage: true }),
            max_completion_tokens: limit(TokenField::MaxCompletionTokens),
            max_tokens: limit(TokenField::MaxTokens),
            seed: request.seed,
            temperature: request.temperature,
            top_p: request.top_p,
            stop: &request.stop,
            response_format: request.response_format.as_ref(),
        }
    }
}

/// A whole reply, or one event of a stream.
#[derive(Deserialize)]
pub(super) struct Completion {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    pub(super) error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, alias = "delta")]
    message: Option<Said>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}

/// A reply put together from one piece or from many.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) text: String,
    pub(super) model: String,
    pub(super) finish: Option<Finish>,
    pub(super) usage: Option<TokenUsage>,
    pub(super) has_choice: bool,
}

impl Gathered {
    /// Adds one piece; only the first choice counts, for no more was asked for.
    pub(super) fn add(&mut self, piece: Completion) {
        if let Some(model) = piece.model.filter(|_| self.model.is_empty()) {
            self.model = model;
        }
        if let Some(usage) = piece.usage {
            let Usage { prompt_tokens: prompt, completion_tokens: completion } = usage;
            self.usage = Some(TokenUsage { prompt, completion, is_estimated: false });
        }
        let Some(choice) = piece.choices.into_iter().next() else { return };
        self.has_choice = true;
        let mut is_refused = false;
        if let Some(said) = choice.message {
            self.text.push_str(said.content.as_deref().unwrap_or_default());
            is_refused = said.refusal.is_some();
        }
        self.finish = match choice.finish_reason.as_deref() {
            _ if is_refused => Some(Finish::Filtered),
            None => self.finish,
            Some("stop") => Some(Finish::Stop),
            Some("length") => Some(Finish::Length),
            Some("content_filter") => Some(Finish::Filtered),
            Some(_) => Some(Finish::Other),
        };
    }
}

/// What an error body says: `error.message` of the API, the shapes of its imitators, or the text.
pub(super) fn error_message(body: &[u8]) -> String {
    const CHARS_MAX: usize = 400;
    let text = String::from_utf8_lossy(body);
    let parsed: Option<Value> = serde_json::from_str(&text).ok();
    let said = parsed.as_ref().and_then(|value| {
        let of = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let code = of("/error/code").or_else(|| of("/error/type"));
        let message = of("/error/message").or_else(|| of("/error"));
        let message = message.or_else(|| of("/message")).or_else(|| of("/detail"));
        message.map(|message| match code {
            Some(code) => format!("{message} ({code})"),
            None => message,
        })
    });
    let said = said.unwrap_or_else(|| text.trim().to_owned());
    let said = if said.is_empty() { "no reason given".to_owned() } else { said };
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect()
}

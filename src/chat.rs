//! A client of OpenAI-compatible chat completions: what generator, judge and rewriter have in common.
//!
//! Owns one endpoint (the wire, streaming, concurrency, deadlines, retries, limits of size, tokens
//! spent and what may be) and how prompts are made from files. Knows no question, no answer and no verdict.

mod body;
mod budget;
mod client;
mod config;
mod error;
mod metrics;
mod prompt;
mod retry;
mod tokens;
mod wire;

pub use budget::{Budget, BudgetConfig, BudgetError, Reservation, Spend};
pub use client::{ChatClient, ClientError};
pub use config::{EndpointConfig, TokenField};
pub use error::{ChatError, ChatFailure, shape_error};
pub use metrics::METRICS;
pub use prompt::{Prompt, PromptError, Shipped, defused, fenced};
pub use tokens::{estimated_tokens, most_tokens, seed_of, truncated};
pub use wire::{Message, Role};

use serde_json::Value;

/// One completion to be asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatRequest {
    /// The conversation so far; at least one message.
    pub messages: Vec<Message>,
    /// Most tokens of the reply, ≥ 1.
    pub max_tokens: u32,
    /// Seed of the server's dice; servers promise best effort, no more.
    pub seed: Option<u64>,
    /// Softmax temperature, ≥ 0; absent: the server's own default.
    pub temperature: Option<f64>,
    /// Nucleus sampling, in (0, 1]; absent: the server's own default.
    pub top_p: Option<f64>,
    /// Texts at which the reply ends.
    pub stop: Vec<String>,
    /// The `response_format` field, as in the API; absent: free text.
    pub response_format: Option<Value>,
}

/// One completion.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatReply {
    /// The text of the first choice.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// The model as the server names it; empty where it does not.
    pub model: String,
    /// Tokens spent on the attempt that succeeded.
    pub usage: TokenUsage,
    /// Earlier attempts that may have cost something nobody will ever tell.
    pub lost: u32,
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or met a stop text.
    Stop,
    /// It met the limit of tokens.
    Length,
    /// The server withheld it.
    Filtered,
    /// Something else, or nothing was said.
    Other,
}

/// Tokens of one completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenUsage {
    /// Tokens read.
    pub prompt: u32,
    /// Tokens written.
    pub completion: u32,
    /// Whether these are [`estimated_tokens`], because the server told nothing.
    pub is_estimated: bool,
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

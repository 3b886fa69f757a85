//! A language model that proposes what to search with: `ports::Rewriter` over `chat`.
//!
//! Query2Doc (Wang et al., 2023) searches with the query, repeated, and a passage that the model
//! makes up; HyDE (Gao et al., 2022) with such a passage alone; a rewrite with another wording.
//! Proposals are kept by the query's text, for the same question comes again. Knows no index.

use super::bounded_cache::BoundedCache;
use crate::chat::{
    ChatClient, ChatRequest, EndpointConfig, Finish, Prompt, PromptError, Shipped, defused, seed_of,
};
use actors::ports::{RewriteError, Rewriter};
use actors::types::{Query, Rewrite};
use async_trait::async_trait;
use minijinja::context;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

const CACHE: &str = "regrade_rewrite_cache_total";
/// The metrics of this adapter.
pub const METRICS: [&str; 1] = [CACHE];

/// What the model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewriteMethod {
    /// A passage, searched for beside the query.
    Query2doc,
    /// A passage, searched for in place of the query.
    Hyde,
    /// Another wording of the query.
    Rewrite,
}

impl RewriteMethod {
    /// As in configuration and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query2doc => "query2doc",
            Self::Hyde => "hyde",
            Self::Rewrite => "rewrite",
        }
    }

    fn shipped(self) -> Shipped {
        match self {
            Self::Query2doc => Shipped {
                file: "configs/prompts/query2doc.jinja",
                text: include_str!("../../configs/prompts/query2doc.jinja"),
            },
            Self::Hyde => Shipped {
                file: "configs/prompts/hyde.jinja",
                text: include_str!("../../configs/prompts/hyde.jinja"),
            },
            Self::Rewrite => Shipped {
                file: "configs/prompts/rewrite.jinja",
                text: include_str!("../../configs/prompts/rewrite.jinja"),
            },
        }
    }
}

/// Settings of a rewriter over HTTP. How long a query waits for it is
/// `service.episode.rewrite_deadline_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpRewriterConfig {
    /// The server.
    pub endpoint: EndpointConfig,
    /// File of the prompt; absent: the shipped one of the method, in `configs/prompts`.
    pub prompt: Option<PathBuf>,
    /// Most tokens of a proposal, ≥ 1.
    pub max_tokens: u32,
    /// Softmax temperature, in [0, 2].
    pub temperature: f64,
    /// Seed of the server's dice; with the query's text it gives the seed of each request.
    pub seed: u64,
    /// Times the query stands before the passage of Query2Doc, ≥ 1: the weight of the query's own
    /// words in a sparse search. The paper has 5.
    pub query_repeats: usize,
    /// Longest proposal, bytes, ≥ 1; the rest is cut off.
    pub text_bytes_max: usize,
    /// Queries whose proposals are kept; 0 keeps none.
    pub cached_max: usize,
}

impl Default for HttpRewriterConfig {
    fn default() -> Self {
        Self {
            endpoint: EndpointConfig::default(),
            prompt: None,
            max_tokens: 128,
            temperature: 0.0,
            seed: 0,
            query_repeats: 5,
            text_bytes_max: 4_096,
            cached_max: 10_000,
        }
    }
}

impl HttpRewriterConfig {
    /// Checks every value; `Err` names the first field that is wrong and what it may be.
    ///
    /// # Errors
    /// `(field, what was expected)`.
    pub fn validate(&self) -> Result<(), (String, String)> {
        self.endpoint.validate().map_err(|(field, said)| (format!("endpoint.{field}"), said))?;
        let counts = [
            ("max_tokens", self.max_tokens as usize),
            ("query_repeats", self.query_repeats),
            ("text_bytes_max", self.text_bytes_max),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err((field.to_owned(), "a number above 0".to_owned()));
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(("temperature".to_owned(), "a number from 0 to 2".to_owned()));
        }
        Ok(())
    }
}

/// See the module.
pub struct HttpRewriter {
    method: RewriteMethod,
    client: ChatClient,
    prompt: Prompt,
    config: HttpRewriterConfig,
    cache: Mutex<BoundedCache<String, String>>,
}

impl HttpRewriter {
    /// Proposes by one method.
    ///
    /// # Errors
    /// The prompt cannot be used.
    pub fn new(
        method: RewriteMethod,
        client: ChatClient,
        config: HttpRewriterConfig,
    ) -> Result<Self, PromptError> {
        let sample = context! { question => "a question" };
        let prompt = Prompt::load(config.prompt.as_deref(), method.shipped(), &[sample])?;
        let cache = Mutex::new(BoundedCache::new(config.cached_max));
        Ok(Self { method, client, prompt, config, cache })
    }

    async fn ask(&self, question: &str) -> Result<String, RewriteError> {
        let messages = self.prompt.render(&context! { question => defused(question) });
        let request = ChatRequest {
            messages: messages.map_err(|error| RewriteError::Refused(error.to_string()))?,
            max_tokens: self.config.max_tokens,
            seed: Some(seed_of(&[&self.config.seed.to_string(), question])),
            temperature: Some(self.config.temperature),
            ..ChatRequest::default()
        };
        let reply = self.client.complete(&request).await.map_err(|failure| {
            let said = failure.to_string();
            if failure.error.is_refusal() {
                RewriteError::Refused(said)
            } else {
                RewriteError::Unavailable(said)
            }
        })?;
        let text = self.usable(&reply.text);
        if reply.finish == Finish::Filtered || text.is_empty() {
            return Err(RewriteError::Refused("the model proposed nothing".to_owned()));
        }
        Ok(text)
    }

    /// What of a reply can be searched with: one line of a rewrite, the text of a passage.
    fn usable(&self, reply: &str) -> String {
        let text = reply.trim();
        let text = match self.method {
            RewriteMethod::Rewrite => {
                text.lines().next().unwrap_or_default().trim_matches(['"', '\'', '`', ' '])
            }
            RewriteMethod::Query2doc | RewriteMethod::Hyde => text,
        };
        let end = (0..=self.config.text_bytes_max.min(text.len())).rev();
        let end = end.into_iter().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        // One space for every gap: a proposal is logged with each episode.
        text[..end].split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn search_text(&self, question: &str, proposed: &str) -> String {
        match self.method {
            RewriteMethod::Query2doc => {
                let mut parts = vec![question; self.config.query_repeats];
                parts.push(proposed);
                parts.join(" ")
            }
            RewriteMethod::Hyde | RewriteMethod::Rewrite => proposed.to_owned(),
        }
    }
}

#[async_trait]
impl Rewriter for HttpRewriter {
    async fn propose(&self, query: &Query) -> Result<Vec<Rewrite>, RewriteError> {
        let question = query.text.trim();
        let known = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(&question.to_owned())
        };
        let fate = if known.is_some() { "hit" } else { "miss" };
        metrics::counter!(CACHE, "fate" => fate).increment(1);
        let proposed = match known {
            Some(proposed) => proposed,
            None => {
                let proposed = self.ask(question).await?;
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                cache.insert(question.to_owned(), proposed.clone());
                proposed
            }
        };
        let text = self.search_text(question, &proposed);
        Ok(vec![Rewrite { kind: self.method.name().to_owned(), text }])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::chat::scripted::{Act, Scripted, prompt_of};

    fn rewriter(server: &Scripted, method: RewriteMethod) -> HttpRewriter {
        let endpoint = EndpointConfig { attempts_max: 1, ..server.endpoint() };
        let config = HttpRewriterConfig {
            endpoint: endpoint.clone(),
            query_repeats: 2,
            text_bytes_max: 60,
            ..HttpRewriterConfig::default()
        };
        config.validate().unwrap();
        HttpRewriter::new(method, server.client(endpoint), config).unwrap()
    }

    fn query(text: &str) -> Query {
        Query { text: text.to_owned(), ..Query::default() }
    }

    #[tokio::test]
    async fn each_method_searches_with_what_its_paper_says() {
        let said = "\"The White Nile\n drains Lake Victoria.\"\nsecond line";
        let server = Scripted::saying(said).await;
        for (method, kind, expected) in [
            (
                RewriteMethod::Query2doc,
                "query2doc",
                "which river? which river? \"The White Nile drains Lake Victoria.\" second line",
            ),
            (RewriteMethod::Hyde, "hyde", "\"The White Nile drains Lake Victoria.\" second line"),
            (RewriteMethod::Rewrite, "rewrite", "The White Nile"),
        ] {
            let found = rewriter(&server, method).propose(&query("which river?")).await.unwrap();
            assert_eq!(found, [Rewrite { kind: kind.to_owned(), text: expected.to_owned() }]);
        }
        assert!(prompt_of(&server.seen()[0]).contains("Question: which river?"));
    }

    #[tokio::test]
    async fn a_question_that_comes_again_is_not_asked_again_and_a_failure_is() {
        let server = Scripted::start([Act::Status(500, None, String::new())], |_| {
            Act::Say("better words".to_owned())
        })
        .await;
        let rewriter = rewriter(&server, RewriteMethod::Rewrite);
        let failed = rewriter.propose(&query("a")).await;
        assert!(matches!(failed, Err(RewriteError::Unavailable(_))), "{failed:?}");
        for text in ["a", "a", " a ", "b"] {
            assert_eq!(rewriter.propose(&query(text)).await.unwrap()[0].text, "better words");
        }
        assert_eq!(server.seen().len(), 3, "the failure, a and b");
    }

    #[tokio::test]
    async fn what_cannot_be_searched_with_is_refused_and_what_is_long_is_cut() {
        let server = Scripted::saying(" \n ").await;
        let nothing = rewriter(&server, RewriteMethod::Hyde).propose(&query("q")).await;
        assert!(matches!(nothing, Err(RewriteError::Refused(_))), "{nothing:?}");
        let server = Scripted::saying(&"é".repeat(100)).await;
        let cut = rewriter(&server, RewriteMethod::Hyde).propose(&query("q")).await.unwrap();
        assert_eq!(cut[0].text, "é".repeat(30), "60 bytes");
    }
}

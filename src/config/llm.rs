//! The sections about language models that are more than their adapter's own settings.

use crate::adapters::rewriter_http::{HttpRewriterConfig, RewriteMethod};
use crate::chat::EndpointConfig;
use serde::{Deserialize, Serialize};

/// Which generator stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackKind {
    /// The small extractive reader, in this process.
    #[default]
    Reader,
    /// Another endpoint, asked as the first is.
    Endpoint,
}

/// `[generator.fallback]`: what answers where the endpoint is away or too slow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FallbackConfig {
    /// Which generator.
    pub kind: FallbackKind,
    /// Time the first endpoint has for an answer, its retries included, milliseconds; less than
    /// `service.generator.deadline_ms`, of which the rest is left for the second.
    pub after_ms: u64,
    /// The second endpoint, for `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointConfig>,
}

impl Default for FallbackConfig {
    fn default() -> Self {
        Self { kind: FallbackKind::Reader, after_ms: 12_000, endpoint: None }
    }
}

/// What is searched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewriteKind {
    /// The query as asked.
    #[default]
    None,
    /// The query with a passage that a model makes up (Query2Doc).
    Query2doc,
    /// Such a passage alone (HyDE).
    Hyde,
    /// Another wording of the query.
    Rewrite,
}

impl RewriteKind {
    /// What the model is asked for, if one is.
    pub fn method(self) -> Option<RewriteMethod> {
        match self {
            Self::None => None,
            Self::Query2doc => Some(RewriteMethod::Query2doc),
            Self::Hyde => Some(RewriteMethod::Hyde),
            Self::Rewrite => Some(RewriteMethod::Rewrite),
        }
    }
}

/// `[rewrite]`: what to search with besides the query as asked. How long a query waits for it is
/// `service.episode.rewrite_deadline_ms`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewriteConfig {
    /// What is searched with.
    pub kind: RewriteKind,
    /// The endpoint and how it is asked, for every kind but `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<HttpRewriterConfig>,
}

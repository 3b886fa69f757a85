//! A chat endpoint that ranks windows of documents, as a policy to compare with.

use super::WiringError;
use super::llm::{client, seed};
use crate::adapters::listwise_http::{HttpListwiseConfig, HttpWindowRanker};
use crate::config::Config;
use crate::policy::listwise::{ListwiseArgs, ListwisePolicy};
use crate::policy::reader::PairReader;
use actors::ports::Policy;
use std::sync::Arc;
use tokio::runtime::Handle;

const SECTION: &str = "listwise";

/// The first `k` of a list that a language model reranked in windows, under a name for reports.
/// `reader` counts context tokens. To be called on the runtime that the requests run on, which must
/// be one with several threads.
///
/// # Errors
/// The endpoint or the prompt of `http` cannot be used.
pub fn listwise(
    config: &Config,
    http: &HttpListwiseConfig,
    (name, k): (&str, usize),
    reader: Arc<PairReader>,
) -> Result<Box<dyn Policy>, WiringError> {
    let client = client(config, (SECTION, SECTION), &http.endpoint)?;
    let ranker = HttpWindowRanker::new(client, http.clone(), seed(config))
        .map_err(|source| WiringError::Prompt { section: SECTION, source })?;
    let policy = ListwisePolicy::new(name, (Arc::new(ranker), reader), ListwiseArgs::default(), k);
    Ok(Box::new(policy.on(Handle::current())))
}

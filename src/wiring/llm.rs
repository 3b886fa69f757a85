//! Language models behind endpoints: generator with its fall-back, judge, rewriter.

use super::WiringError;
use crate::adapters::generator_fallback::FallbackGenerator;
use crate::adapters::generator_http::{HttpGenerator, HttpGeneratorConfig};
use crate::adapters::judge_http::{LlmJudge, Parts, TrialJudge};
use crate::adapters::judge_reference::ReferenceJudge;
use crate::adapters::rewriter_http::HttpRewriter;
use crate::chat::{ChatClient, EndpointConfig};
use crate::config::{Config, FallbackKind, JudgeKind};
use actors::clock::Clock;
use actors::ports::{Generator, Judge, Rewriter};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

/// The endpoint that answers, before its fall-back if there is one; `reader` makes the reader.
pub(super) fn generator(
    config: &Config,
    reader: impl FnOnce() -> Result<Arc<dyn Generator>, WiringError>,
) -> Result<Arc<dyn Generator>, WiringError> {
    let http = config.generator.http.clone().unwrap_or_default();
    let first = http_generator(config, ("generator", "generator.http"), &http.endpoint, &http)?;
    let Some(fallback) = &config.generator.fallback else { return Ok(first) };
    let (second, name) = match fallback.kind {
        FallbackKind::Reader => (reader()?, "reader"),
        FallbackKind::Endpoint => {
            let endpoint = fallback.endpoint.clone().unwrap_or_default();
            let place = ("generator_fallback", "generator.fallback.endpoint");
            (http_generator(config, place, &endpoint, &http)?, "endpoint")
        }
    };
    let patience = Duration::from_millis(fallback.after_ms);
    Ok(Arc::new(FallbackGenerator::new(first, second, name, patience)))
}

fn http_generator(
    config: &Config,
    (user, section): (&'static str, &'static str),
    endpoint: &EndpointConfig,
    http: &HttpGeneratorConfig,
) -> Result<Arc<dyn Generator>, WiringError> {
    let client = client(config, (user, section), endpoint)?;
    let generator = HttpGenerator::new(client, http.clone());
    let prompt = |source| WiringError::Prompt { section: "generator.http", source };
    Ok(Arc::new(generator.map_err(prompt)?))
}

/// Who judges what was served, and who, if not references alone, what the learner tries.
pub(super) struct Judges {
    pub(super) served: Arc<dyn Judge>,
    pub(super) trials: Option<Arc<dyn Judge>>,
}

/// The judges of this process. Where it has no use for a model it holds none: the model's budget
/// belongs to one process at a time.
pub(super) fn judges(config: &Config) -> Result<Judges, WiringError> {
    let llm = config.judge.llm.clone().unwrap_or_default();
    let (roles, is_llm) = (config.service.roles, config.judge.kind == JudgeKind::Llm);
    let judges_trials = is_llm && roles.learn && llm.judges_trials;
    if !(is_llm && roles.judge || judges_trials) {
        let blend = config.judge.weights.without_judge();
        return Ok(Judges { served: Arc::new(ReferenceJudge::new(blend)?), trials: None });
    }
    let parts = Parts {
        client: client(config, ("judge", "judge.llm"), &llm.endpoint)?,
        blend: config.judge.weights,
        clock: Clock::System,
        seed: seed(config),
    };
    let judge = Arc::new(LlmJudge::new(llm, parts)?);
    let trials = judges_trials.then(|| Arc::new(TrialJudge(Arc::clone(&judge))) as Arc<dyn Judge>);
    Ok(Judges { served: judge, trials })
}

/// The model that proposes what to search with, if one does.
pub(super) fn rewriter(config: &Config) -> Result<Option<Arc<dyn Rewriter>>, WiringError> {
    let Some(method) = config.rewrite.kind.method() else { return Ok(None) };
    let llm = config.rewrite.llm.clone().unwrap_or_default();
    let client = client(config, ("rewriter", "rewrite.llm"), &llm.endpoint)?;
    let rewriter = HttpRewriter::new(method, client, llm);
    let prompt = |source| WiringError::Prompt { section: "rewrite.llm", source };
    Ok(Some(Arc::new(rewriter.map_err(prompt)?)))
}

pub(super) fn client(
    config: &Config,
    (user, section): (&'static str, &'static str),
    endpoint: &EndpointConfig,
) -> Result<ChatClient, WiringError> {
    ChatClient::new(user, endpoint.clone(), Clock::System, seed(config))
        .map_err(|source| WiringError::Endpoint { section, source })
}

/// The service's seed, or one that nobody can know: task ids of the judge are made of it.
pub(super) fn seed(config: &Config) -> u64 {
    let drawn = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    config.service.seed.unwrap_or_else(drawn)
}

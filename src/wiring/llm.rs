//! Language models behind endpoints: generator with its fall-back, judge, rewriter.

use super::WiringError;
use crate::adapters::environment::Account;
use crate::adapters::generator_fallback::FallbackGenerator;
use crate::adapters::generator_http::{HttpGenerator, HttpGeneratorConfig};
use crate::adapters::judge_http::{LlmJudge, Parts, TrialJudge};
use crate::adapters::judge_reference::ReferenceJudge;
use crate::adapters::rewriter_http::HttpRewriter;
use crate::chat::{Budget, ChatClient, EndpointConfig, Spend};
use crate::config::{Config, FallbackKind, GeneratorKind, JudgeKind};
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

/// What answers the learner's trials, paid out of their own budget. Without the fall-back: what
/// that would have answered says nothing of the documents.
pub(super) fn trial_generator(
    config: &Config,
    budget: Arc<Budget>,
) -> Result<Arc<dyn Generator>, WiringError> {
    let http = config.generator.http.clone().unwrap_or_default();
    let client = client(config, ("generator_trials", "generator.http"), &http.endpoint)?;
    from_client(client.with_budget(budget), &http)
}

fn http_generator(
    config: &Config,
    (user, section): (&'static str, &'static str),
    endpoint: &EndpointConfig,
    http: &HttpGeneratorConfig,
) -> Result<Arc<dyn Generator>, WiringError> {
    from_client(client(config, (user, section), endpoint)?, http)
}

fn from_client(
    client: ChatClient,
    http: &HttpGeneratorConfig,
) -> Result<Arc<dyn Generator>, WiringError> {
    let generator = HttpGenerator::new(client, http.clone());
    let prompt = |source| WiringError::Prompt { section: "generator.http", source };
    Ok(Arc::new(generator.map_err(prompt)?))
}

/// Who judges what was served, and who, if not references alone, what the learner tries.
pub(super) struct Judges {
    pub(super) served: Arc<dyn Judge>,
    pub(super) trials: Option<Arc<dyn Judge>>,
    /// What the judge of trials is paid out of.
    pub(super) account: Option<Account>,
}

/// What answers to trials are paid out of, where they cost something.
pub(super) fn generator_account(config: &Config) -> Result<Option<Account>, WiringError> {
    let is_paid = config.generator.kind == GeneratorKind::Http
        && config.service.roles.learn
        && config.learner.objective.simulates();
    if !is_paid {
        return Ok(None);
    }
    let limits = config.learner.budget.generator.clone();
    let budget = Arc::new(Budget::open("learner-generator", limits, Clock::System)?);
    let written = config.generator.http.clone().unwrap_or_default().max_tokens;
    Ok(Some(Account { budget, per_trial: typical(config, written) }))
}

/// What a call about one selection costs before any is known: half of the context that is allowed,
/// a question with its instructions, and all that may be written.
fn typical(config: &Config, written: u32) -> Spend {
    let prompt = u64::from(config.service.limits.token_budget) / 2 + 256;
    Spend { calls: 1, tokens: prompt + u64::from(written), micros: 0 }
}

/// The judges of this process. Where it has no use for a model it holds none: the model's budget
/// belongs to one process at a time.
pub(super) fn judges(config: &Config) -> Result<Judges, WiringError> {
    let llm = config.judge.llm.clone().unwrap_or_default();
    let (roles, is_llm) = (config.service.roles, config.judge.kind == JudgeKind::Llm);
    let judges_trials = is_llm && roles.learn && llm.judges_trials;
    if !(is_llm && roles.judge || judges_trials) {
        let blend = config.judge.weights.without_judge();
        let served = Arc::new(ReferenceJudge::new(blend)?);
        return Ok(Judges { served, trials: None, account: None });
    }
    let mut account = None;
    if judges_trials && config.learner.objective.simulates() {
        let limits = config.learner.budget.judge.clone();
        let budget = Arc::new(Budget::open("learner-judge", limits, Clock::System)?);
        let per_trial = typical(config, llm.max_tokens).times(u64::from(llm.votes));
        account = Some(Account { budget, per_trial });
    }
    let parts = Parts {
        client: client(config, ("judge", "judge.llm"), &llm.endpoint)?,
        blend: config.judge.weights,
        clock: Clock::System,
        seed: seed(config),
    };
    let judge = Arc::new(LlmJudge::new(llm, parts)?);
    let budget = account.as_ref().map(|account| Arc::clone(&account.budget));
    let trials = || Arc::new(TrialJudge::new(Arc::clone(&judge), budget)) as Arc<dyn Judge>;
    let trials = judges_trials.then(trials);
    Ok(Judges { served: judge, trials, account })
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

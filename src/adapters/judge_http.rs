//! A language model as a judge: `ports::Judge` over `chat`, by a rubric in a file.
//!
//! Owns what makes such a judge bearable: votes with their spread, strict verdicts, a share of
//! episodes, a daily budget that is never passed, and prompts in which documents and answers cannot
//! speak. What cannot be read is an abstention, never a reward of 0. Episodes that the model is not
//! asked about abstain, or are judged by references. What people say is weighed beside the model.

mod config;
mod judgement;
mod pairwise;
mod rubric;
mod verdict;
mod votes;

pub use config::{LlmJudgeConfig, VerdictFormat, WithoutLlm};
pub use judgement::TrialJudge;
pub use pairwise::Preference;
pub use rubric::{Criterion, Rubric, RubricError};

use crate::chat::{Budget, BudgetError, ChatClient, Prompt, PromptError, Shipped};
use crate::rewards::Blend;
use actors::clock::Clock;
use actors::types::PolicySnapshot;
use minijinja::{Value, context};

const SHIPPED_JUDGE: Shipped = Shipped {
    file: "configs/prompts/judge.jinja",
    text: include_str!("../../configs/prompts/judge.jinja"),
};
const SHIPPED_COMPARE: Shipped = Shipped {
    file: "configs/prompts/compare.jinja",
    text: include_str!("../../configs/prompts/compare.jinja"),
};

const VOTES: &str = "regrade_judge_votes_total";
const ABSTENTIONS: &str = "regrade_judge_abstentions_total";
const PAIRS: &str = "regrade_judge_pairs_total";
/// The metrics of this adapter.
pub const METRICS: [&str; 3] = [VOTES, ABSTENTIONS, PAIRS];

/// Why the judge cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LlmJudgeError {
    /// A prompt cannot be used.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The rubric cannot be used.
    #[error(transparent)]
    Rubric(#[from] RubricError),
    /// What was spent today is not known.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The weights leave the judge no say.
    #[error("`judge.weights.judge` is {0}, expected a number above 0: the model would have no say")]
    NoWeight(f64),
}

/// What the judge is made of besides its configuration.
pub struct Parts {
    /// The endpoint.
    pub client: ChatClient,
    /// Weight of each part of the reward; the model's is `judge`.
    pub blend: Blend,
    /// Tells the day of the budget.
    pub clock: Clock,
    /// Where the ids of tasks come from. Whoever knows it can write data that closes its fence.
    pub seed: u64,
}

/// See the module.
pub struct LlmJudge {
    parts: Parts,
    config: LlmJudgeConfig,
    rubric: Rubric,
    prompt: Prompt,
    pair_prompt: Prompt,
    budget: Budget,
    name: String,
}

impl LlmJudge {
    /// Reads rubric, prompts and what was spent today.
    ///
    /// # Errors
    /// A file that cannot be used, or a weight without effect.
    pub fn new(config: LlmJudgeConfig, parts: Parts) -> Result<Self, LlmJudgeError> {
        if parts.blend.judge <= 0.0 {
            return Err(LlmJudgeError::NoWeight(parts.blend.judge));
        }
        let rubric = Rubric::load(config.rubric.as_deref())?;
        let prompt =
            Prompt::load(config.prompt.as_deref(), SHIPPED_JUDGE, &judge_samples(&rubric))?;
        let file = config.pair_prompt.as_deref();
        let pair_prompt = Prompt::load(file, SHIPPED_COMPARE, &pair_samples(&rubric))?;
        let budget = Budget::open("judge", config.budget.clone(), parts.clock)?;
        let name = name(&config, &rubric, &parts, [&prompt, &pair_prompt]);
        Ok(Self { parts, config, rubric, prompt, pair_prompt, budget, name })
    }
}

/// The name carries a hash of all that makes this judge judge as it does: change any of it, and it
/// is another judge.
fn name(config: &LlmJudgeConfig, rubric: &Rubric, parts: &Parts, prompts: [&Prompt; 2]) -> String {
    let model = &parts.client.config().model;
    let prompts = prompts.map(Prompt::source);
    let made_of = format!(
        "{rubric:?} {:?} {model} {} {:?} {:?} {} {} {prompts:?}",
        parts.blend,
        config.votes,
        config.temperature,
        config.format,
        config.documents_max,
        config.document_tokens_max
    );
    let digest = PolicySnapshot::digest_of(made_of.as_bytes());
    let short: String = digest.as_str().chars().take(12).collect();
    format!("llm/{model}/{}-{}/{short}", rubric.name, rubric.version)
}

/// What a judging template may use, with lists filled and empty.
fn judge_samples(rubric: &Rubric) -> [Value; 2] {
    [vec!["fenced"], Vec::new()].map(|list| {
        context! {
            question => "fenced", answer => "fenced", references => list.clone(),
            documents => list,
            ..rubric_context(rubric, "0")
        }
    })
}

/// The same for a comparing template.
fn pair_samples(rubric: &Rubric) -> [Value; 2] {
    [vec!["fenced"], Vec::new()].map(|list| {
        context! {
            question => "fenced", first => "fenced", second => "fenced", references => list,
            ..rubric_context(rubric, "0")
        }
    })
}

fn rubric_context(rubric: &Rubric, task: &str) -> Value {
    let criteria = Value::from(minijinja::value::Serde(&rubric.criteria));
    context! { task, criteria, scale_max => rubric.scale_max }
}

#[cfg(test)]
mod tests;

//! How a language model judges, with the bounds of every value.

use crate::chat::BudgetConfig;
use crate::chat::EndpointConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the server is told the shape of a verdict. What comes back is checked all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictFormat {
    /// `response_format` of type `json_schema`, as the API has it.
    #[default]
    JsonSchema,
    /// Of type `json_object` with the schema beside it, as llama.cpp's servers have it.
    JsonObject,
    /// Not at all: the prompt alone says it.
    None,
}

/// What becomes of an episode that the model is not asked about: not sampled, or no budget left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutLlm {
    /// The judge abstains and says why.
    #[default]
    Abstain,
    /// It is judged by references alone, or waits for feedback.
    Reference,
}

/// Settings of a judge over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlmJudgeConfig {
    /// The server.
    pub endpoint: EndpointConfig,
    /// File of the rubric; absent: the one shipped as `configs/rubrics/answer.toml`.
    pub rubric: Option<PathBuf>,
    /// File of the prompt; absent: the one shipped as `configs/prompts/judge.jinja`.
    pub prompt: Option<PathBuf>,
    /// File of the prompt that compares two answers; absent: `configs/prompts/compare.jinja`.
    pub pair_prompt: Option<PathBuf>,
    /// How the server is told the shape of a verdict.
    pub format: VerdictFormat,
    /// Times the model is asked about one episode, 1 to 99, each with a seed of its own; more than
    /// half of the votes must be readable. The reward carries their mean and spread.
    pub votes: u32,
    /// Softmax temperature, in [0, 2]; above 0 where there is more than one vote, or all are alike.
    pub temperature: f64,
    /// Most tokens of a verdict, ≥ 1.
    pub max_tokens: u32,
    /// Most documents shown, the first chosen ones.
    pub documents_max: usize,
    /// Most tokens of one document or of the answer, by estimate, ≥ 1; the rest is cut off.
    pub document_tokens_max: u32,
    /// Share of episodes that the model is asked about, in [0, 1]; a hash of the decision decides.
    pub sampling: f64,
    /// What becomes of the others, and of all when the budget is spent.
    pub otherwise: WithoutLlm,
    /// Whether the model is asked about the selections that the learner tries, too. Then episodes
    /// without references are learned from; it takes some twenty judgements for each. Otherwise
    /// what is tried is compared with references, and episodes without any are left out.
    pub judges_trials: bool,
    /// What may be spent in a day.
    pub budget: BudgetConfig,
}

impl Default for LlmJudgeConfig {
    fn default() -> Self {
        Self {
            endpoint: EndpointConfig::default(),
            rubric: None,
            prompt: None,
            pair_prompt: None,
            format: VerdictFormat::JsonSchema,
            votes: 1,
            temperature: 0.0,
            max_tokens: 256,
            documents_max: 10,
            document_tokens_max: 512,
            sampling: 1.0,
            otherwise: WithoutLlm::Abstain,
            judges_trials: false,
            budget: BudgetConfig::default(),
        }
    }
}

impl LlmJudgeConfig {
    /// Checks every value; `Err` names the first field that is wrong and what it may be.
    ///
    /// # Errors
    /// `(field, what was expected)`.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, expected: &str| Err((field.to_owned(), expected.to_owned()));
        self.endpoint.validate().map_err(|(field, said)| (format!("endpoint.{field}"), said))?;
        self.budget.validate().map_err(|(field, said)| (format!("budget.{field}"), said))?;
        if !(1..=99).contains(&self.votes) {
            return wrong("votes", "a number from 1 to 99");
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return wrong("temperature", "a number from 0 to 2");
        }
        if self.votes > 1 && self.temperature == 0.0 {
            return wrong("temperature", "a number above 0: without chance all votes are one vote");
        }
        if self.max_tokens == 0 {
            return wrong("max_tokens", "a number above 0");
        }
        if self.document_tokens_max == 0 {
            return wrong("document_tokens_max", "a number above 0");
        }
        if !(0.0..=1.0).contains(&self.sampling) {
            return wrong("sampling", "a share from 0 to 1");
        }
        Ok(())
    }
}

//! From a record to an example: which selection or answer is taught, and what is refused and why.
//!
//! A reranker learns the selection of a demonstration, or the better of two selections. A generator
//! learns the first reference answer (its own where none is known) from the chosen passages, or a
//! reference over an answer of its own that matches none (DynamicRAG's generator pairs). Nothing is
//! left out silently: every record gives an example or a [`Refused`]. Knows no file.

use super::limits::{Fitted, LimitError, Limits, Tokens};
use super::records::{Demonstration, Preference, TrainingRecord};
use super::shape::Target;
use super::wording::{Passage, Prompt, Role};
use crate::text::normalise;
use actors::types::{Candidate, Query};
use serde::Serialize;

/// What kind of data is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Prompts and completions.
    Sft,
    /// Prompts with a better and a worse completion.
    Preferences,
}

/// What becomes an example.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rules {
    /// What kind.
    pub task: Task,
    /// For which model.
    pub role: Role,
    /// Smallest reward of what is imitated; what nobody judged passes.
    pub min_reward: f64,
    /// Smallest difference between the rewards of two selections, ≥ 0; equal ones are never a pair.
    pub min_gap: f64,
    /// Longest prompt and completion.
    pub limits: Limits,
}

/// Why a record gives no example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// Its reward is below the smallest asked for.
    LowReward,
    /// Its two rewards are too close.
    SmallGap,
    /// Both selections are the same list.
    SameSelection,
    /// There is nothing to compare with: a demonstration where a preference is needed.
    NoContrast,
    /// No reference answer is known.
    NoReference,
    /// There is neither a reference nor an answer.
    NoAnswer,
    /// Every answer given matches a reference.
    NoWrongAnswer,
    /// Instruction and query, or one token a passage besides, are longer than a prompt may be.
    PromptTooLong,
    /// Nothing is left of a completion after it was cut.
    EmptyAfterCut,
    /// Better and worse are the same after they were cut.
    EqualAfterCut,
    /// Prompt and completions are those of an earlier example.
    Duplicate,
    /// There are as many examples as may be.
    OverLimit,
}

/// One example before it has a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// What is given.
    pub prompt: Prompt,
    /// What is taught.
    pub target: Target,
    /// Whether passages were cut.
    pub is_prompt_cut: bool,
    /// Whether a completion was cut.
    pub is_completion_cut: bool,
}

/// The example that a record gives, or why it gives none.
///
/// # Errors
/// The tokenizer fails.
pub fn example(
    record: &TrainingRecord,
    rules: &Rules,
    tokens: &Tokens,
) -> Result<Result<Example, Refused>, LimitError> {
    let maker = Maker { rules, tokens };
    match (rules.task, rules.role, record) {
        (Task::Sft, Role::Reranker, _) => maker.imitated_selection(&imitated(record)),
        (Task::Sft, Role::Generator, _) => maker.imitated_answer(&imitated(record)),
        (Task::Preferences, Role::Reranker, TrainingRecord::Preference(record)) => {
            maker.preferred_selection(record)
        }
        (Task::Preferences, Role::Reranker, _) => Ok(Err(Refused::NoContrast)),
        (Task::Preferences, Role::Generator, _) => {
            let answers = match record {
                TrainingRecord::Demonstration(record) => vec![record.answer.as_deref()],
                TrainingRecord::Preference(Preference { chosen, rejected, .. }) => {
                    vec![chosen.answer.as_deref(), rejected.answer.as_deref()]
                }
            };
            maker.preferred_answer(&imitated(record), answers.into_iter().flatten())
        }
    }
}

/// What a record shows that is worth imitating.
struct Imitated<'a> {
    query: &'a Query,
    candidates: &'a [Candidate],
    order: &'a [u32],
    answer: Option<&'a str>,
    reward: Option<f64>,
}

fn imitated(record: &TrainingRecord) -> Imitated<'_> {
    match record {
        TrainingRecord::Demonstration(Demonstration {
            query,
            candidates,
            order,
            answer,
            reward,
            ..
        }) => Imitated { query, candidates, order, answer: answer.as_deref(), reward: *reward },
        TrainingRecord::Preference(Preference { query, candidates, chosen, .. }) => Imitated {
            query,
            candidates,
            order: &chosen.order,
            answer: chosen.answer.as_deref(),
            reward: Some(chosen.reward),
        },
    }
}

type Made = Result<Result<Example, Refused>, LimitError>;

struct Maker<'a> {
    rules: &'a Rules,
    tokens: &'a Tokens,
}

impl Maker<'_> {
    fn is_too_poor(&self, reward: Option<f64>) -> bool {
        reward.is_some_and(|reward| reward < self.rules.min_reward)
    }

    fn imitated_selection(&self, shown: &Imitated<'_>) -> Made {
        if self.is_too_poor(shown.reward) {
            return Ok(Err(Refused::LowReward));
        }
        let text = self.rules.limits.selection(self.tokens, shown.order)?;
        self.complete(shown.query, &all(shown.candidates), text)
    }

    fn imitated_answer(&self, shown: &Imitated<'_>) -> Made {
        if self.is_too_poor(shown.reward) {
            return Ok(Err(Refused::LowReward));
        }
        let answer = shown.query.references.first().map(String::as_str).or(shown.answer);
        let Some(answer) = answer.filter(|answer| !answer.trim().is_empty()) else {
            return Ok(Err(Refused::NoAnswer));
        };
        let text = self.rules.limits.answer(self.tokens, answer)?;
        self.complete(shown.query, &chosen(shown.candidates, shown.order), text)
    }

    fn preferred_selection(&self, record: &Preference) -> Made {
        let Preference { query, candidates, chosen, rejected, .. } = record;
        if chosen.order == rejected.order {
            return Ok(Err(Refused::SameSelection));
        }
        let gap = chosen.reward - rejected.reward;
        if gap <= 0.0 || gap < self.rules.min_gap {
            return Ok(Err(Refused::SmallGap));
        }
        let limits = self.rules.limits;
        let better = limits.selection(self.tokens, &chosen.order)?;
        let worse = limits.selection(self.tokens, &rejected.order)?;
        self.pair(query, &all(candidates), better, worse)
    }

    fn preferred_answer<'a>(
        &self,
        shown: &Imitated<'_>,
        mut answers: impl Iterator<Item = &'a str>,
    ) -> Made {
        let references = &shown.query.references;
        let Some(best) = references.first() else { return Ok(Err(Refused::NoReference)) };
        let right: Vec<String> = references.iter().map(|text| normalise(text)).collect();
        let is_wrong =
            |answer: &&str| !answer.trim().is_empty() && !right.contains(&normalise(answer));
        let Some(wrong) = answers.find(is_wrong) else {
            return Ok(Err(Refused::NoWrongAnswer));
        };
        let limits = self.rules.limits;
        let better = limits.answer(self.tokens, best)?;
        let worse = limits.answer(self.tokens, wrong)?;
        self.pair(shown.query, &chosen(shown.candidates, shown.order), better, worse)
    }

    fn complete(
        &self,
        query: &Query,
        passages: &[Passage<'_>],
        text: Option<Fitted<String>>,
    ) -> Made {
        let Some(text) = text else { return Ok(Err(Refused::EmptyAfterCut)) };
        let is_completion_cut = text.is_cut;
        self.finish(query, passages, Target::Completion(text.value), is_completion_cut)
    }

    fn pair(
        &self,
        query: &Query,
        passages: &[Passage<'_>],
        better: Option<Fitted<String>>,
        worse: Option<Fitted<String>>,
    ) -> Made {
        let (Some(better), Some(worse)) = (better, worse) else {
            return Ok(Err(Refused::EmptyAfterCut));
        };
        if better.value == worse.value {
            return Ok(Err(Refused::EqualAfterCut));
        }
        let is_completion_cut = better.is_cut || worse.is_cut;
        let target = Target::Pair { chosen: better.value, rejected: worse.value };
        self.finish(query, passages, target, is_completion_cut)
    }

    fn finish(
        &self,
        query: &Query,
        passages: &[Passage<'_>],
        target: Target,
        is_completion_cut: bool,
    ) -> Made {
        let task = (self.rules.role, query.text.as_str());
        let Some(prompt) = self.rules.limits.prompt(self.tokens, task, passages)? else {
            return Ok(Err(Refused::PromptTooLong));
        };
        let is_prompt_cut = prompt.is_cut;
        Ok(Ok(Example { prompt: prompt.value, target, is_prompt_cut, is_completion_cut }))
    }
}

fn all(candidates: &[Candidate]) -> Vec<Passage<'_>> {
    candidates.iter().map(|candidate| Passage::from(&candidate.document)).collect()
}

fn chosen<'a>(candidates: &'a [Candidate], order: &[u32]) -> Vec<Passage<'a>> {
    let found = order.iter().filter_map(|at| candidates.get(*at as usize));
    found.map(|candidate| Passage::from(&candidate.document)).collect()
}

#[cfg(test)]
mod tests;

//! Judged episodes laid out as groups: several selections of one query, each with its reward.
//!
//! Owns which selections are tried and how the environment is asked; knows no loss.

use super::config::{Advantage, OnlineConfig};
use crate::policy::head::Head;
use crate::policy::selection::{Masks, Selection, SelectionLogits, log_probs, select};
use crate::recipes::online::Contender;
use actors::ports::{Environment, LearnError, Trial};
use actors::types::{CandidateStates, Exploration, Sample, SelectionLimits};
use candle_core::{Device, Tensor};
use rand::rngs::StdRng;

/// One selection that was served or tried.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    /// Chosen candidates in order.
    pub order: Vec<u32>,
    /// Natural log-probability of each step under the policy that drew it; empty for a selection
    /// that nothing drew (a candidate alone), which only preferences may use.
    pub behaviour: Vec<f64>,
    /// Reward after each document; the last is that of the whole selection. One value where prefix
    /// rewards are not wanted.
    pub rewards: Vec<f64>,
}

impl Tried {
    /// Reward of the whole selection.
    pub(super) fn reward(&self) -> f64 {
        self.rewards.last().copied().unwrap_or(f64::NAN)
    }
}

/// Several selections of one query.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    /// The judged episode: its texts are what a trunk under training reads.
    pub sample: &'a Sample,
    /// The champion's inputs.
    pub states: CandidateStates,
    /// Context tokens of each candidate.
    pub tokens: Vec<u32>,
    /// Masks of the served decision.
    pub limits: SelectionLimits,
    /// What was tried.
    pub tried: Vec<Tried>,
    /// Prefix rewards of the champion's greedy selection; the last is the whole selection's.
    pub baseline: Vec<f64>,
    /// Reward of each candidate alone, where it was tried.
    pub utilities: Vec<Option<f64>>,
}

impl Group<'_> {
    pub(super) fn masks(&self) -> Masks<'_> {
        Masks { tokens: &self.tokens, limits: self.limits }
    }
}

/// Mean reward of the served selections.
pub(super) fn reward_mean(samples: &[Sample]) -> f64 {
    let total: f64 = samples.iter().map(|s| s.reward.total).sum();
    total / samples.len().max(1) as f64
}

/// Head outputs of one list, without gradients.
pub(crate) fn logits(
    head: &Head,
    states: &CandidateStates,
    device: &Device,
) -> candle_core::Result<SelectionLogits> {
    let (n, width) = (states.rows(), states.width());
    let input = Tensor::from_slice(states.values(), (1, n, width), device)?;
    let present = Tensor::ones((1, n), candle_core::DType::F32, device)?;
    head.forward(&input, &present)?.logits(0, n)
}

/// Turns usable samples into groups; the second value counts the refused.
pub(super) fn collect<'a>(
    config: &OnlineConfig,
    champion: Contender<'_>,
    samples: &'a [Sample],
    environment: &dyn Environment,
    device: &Device,
    rng: &mut StdRng,
) -> Result<(Vec<Group<'a>>, u64), LearnError> {
    let mut groups = Vec::with_capacity(samples.len());
    let mut refused = 0;
    for sample in samples {
        match group(config, champion, sample, environment, device, rng)? {
            Some(group) => groups.push(group),
            None => refused += 1,
        }
    }
    Ok((groups, refused))
}

/// `None` when the sample cannot be learned from: another state width, a text that cannot be read,
/// a record that contradicts its masks, or a reference that could not be scored.
fn group<'a>(
    config: &OnlineConfig,
    champion: Contender<'_>,
    sample: &'a Sample,
    environment: &dyn Environment,
    device: &Device,
    rng: &mut StdRng,
) -> Result<Option<Group<'a>>, LearnError> {
    let Some(decision) = &sample.episode.decision else { return Ok(None) };
    let n = decision.states.rows();
    if decision.candidate_tokens.len() != n || !sample.reward.total.is_finite() {
        return Ok(None);
    }
    let Some(states) = champion.states(sample)? else { return Ok(None) };
    if !champion.is_readable(sample) {
        return Ok(None);
    }
    let logits = logits(champion.head, &states, device)
        .map_err(|error| LearnError::Model(error.to_string()))?;
    let masks = Masks { tokens: &decision.candidate_tokens, limits: decision.limits };
    let Ok(steps) = log_probs(&logits, masks, &decision.order, config.temperature, 0.0) else {
        return Ok(None);
    };
    let Ok(reference) = select(&logits, masks, Exploration::Greedy, rng) else {
        return Ok(None);
    };
    let mut selections = vec![reference.order];
    let singles = config.singles.min(n);
    selections.extend((0..singles as u32).map(|j| vec![j]));
    let mut rewards = try_all(config, sample, &selections, environment).into_iter();
    let Some(baseline) = rewards.next().flatten() else { return Ok(None) };

    let mut tried = Vec::with_capacity(config.rollouts + 1);
    if decision.is_explored() && steps.len() == decision.step_log_probs.len() {
        tried.push(Tried {
            order: decision.order.clone(),
            behaviour: decision.step_log_probs.clone(),
            rewards: vec![sample.reward.total],
        });
    }
    let mut utilities = vec![None; n];
    for (utility, reward) in utilities.iter_mut().zip(rewards) {
        *utility = reward.and_then(|r| r.last().copied());
    }
    Ok(Some(Group {
        sample,
        states: states.into_owned(),
        tokens: decision.candidate_tokens.clone(),
        limits: decision.limits,
        tried,
        baseline,
        utilities,
    }))
}

/// Adds to each group the selections that `head` draws on the group's states, with their rewards.
pub(super) fn draw_from(
    head: &Head,
    config: &OnlineConfig,
    groups: &mut [Group<'_>],
    environment: &dyn Environment,
    device: &Device,
    rng: &mut StdRng,
) -> Result<(), LearnError> {
    for group in groups {
        let logits = logits(head, &group.states, device)
            .map_err(|error| LearnError::Model(error.to_string()))?;
        let drawn = draw(config, &logits, group.masks(), rng)
            .map_err(|error| LearnError::Model(error.to_string()))?;
        let orders: Vec<Vec<u32>> = drawn.iter().map(|s| s.order.clone()).collect();
        let rewards = try_all(config, group.sample, &orders, environment);
        for (selection, rewards) in drawn.into_iter().zip(rewards) {
            if let Some(rewards) = rewards {
                let behaviour = selection.step_log_probs;
                group.tried.push(Tried { order: selection.order, behaviour, rewards });
            }
        }
    }
    Ok(())
}

fn draw(
    config: &OnlineConfig,
    logits: &SelectionLogits,
    masks: Masks<'_>,
    rng: &mut StdRng,
) -> Result<Vec<Selection>, crate::policy::selection::SelectionError> {
    let exploration =
        Exploration::Sample { temperature: config.temperature, epsilon: config.epsilon };
    (0..config.rollouts).map(|_| select(logits, masks, exploration, rng)).collect()
}

/// Rewards of each selection: after each document where prefixes are wanted, else of the whole.
/// `None` where any of them could not be scored.
fn try_all(
    config: &OnlineConfig,
    sample: &Sample,
    selections: &[Vec<u32>],
    environment: &dyn Environment,
) -> Vec<Option<Vec<f64>>> {
    let mut query = sample.episode.query.clone();
    query.references.clone_from(&sample.references);
    let prefixes = |order: &[u32]| -> Vec<usize> {
        match config.advantage {
            Advantage::Terminal => vec![order.len()],
            Advantage::SelfCritical | Advantage::Printed => (1..=order.len().max(1)).collect(),
        }
    };
    let mut trials = Vec::new();
    for order in selections {
        for length in prefixes(order) {
            let chosen = &order[..length.min(order.len())];
            let documents = chosen
                .iter()
                .filter_map(|&j| sample.episode.candidates.get(j as usize))
                .map(|c| c.document.clone())
                .collect();
            trials.push(Trial { query: query.clone(), documents });
        }
    }
    let mut results = environment.rewards(&trials).into_iter();
    selections
        .iter()
        .map(|order| {
            let scored: Vec<Option<f64>> = prefixes(order)
                .iter()
                .map(|_| results.next().and_then(Result::ok).map(|r| r.total))
                .collect();
            scored.into_iter().collect()
        })
        .collect()
}

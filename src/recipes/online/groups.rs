//! Judged episodes laid out as groups: several selections of one query, each with its reward.
//!
//! Owns which selections are tried and how the environment is asked: every reward in a group is the
//! environment's, for rewards of two judges cannot be compared. Knows no loss.

use super::config::{Advantage, OnlineConfig};
use super::live::Live;
use crate::policy::head::Head;
use crate::policy::selection::{Masks, Selection, SelectionLogits, log_probs, select};
use crate::recipes::online::Contender;
use crate::recipes::rollout::{Credit, Rollout, rewards};
use crate::recipes::stop::Continuation;
use actors::ports::{Environment, LearnError};
use actors::types::{CandidateStates, Exploration, Sample, SelectionLimits};
use candle_core::{Device, Tensor};
use rand::rngs::StdRng;

/// Several selections of one query.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    /// The judged episode: its texts are what a trunk under training reads.
    pub sample: &'a Sample,
    /// The champion's inputs.
    pub states: CandidateStates,
    /// The inputs of what drew the selections, where a trunk has moved since the champion.
    pub moved: Option<CandidateStates>,
    /// Context tokens of each candidate.
    pub tokens: Vec<u32>,
    /// Masks of the served decision.
    pub limits: SelectionLimits,
    /// The served selection with its logged propensity; `None` where it was not explored.
    pub served: Option<Rollout>,
    /// Selections drawn from one policy.
    pub drawn: Vec<Rollout>,
    /// Reward of each candidate alone, where it was tried.
    pub utilities: Vec<Option<f64>>,
    /// What the greedy list earns if it is made to go on.
    pub continuation: Continuation,
}

impl Group<'_> {
    pub(super) fn masks(&self) -> Masks<'_> {
        Masks { tokens: &self.tokens, limits: self.limits }
    }

    /// Inputs of the policy that drew.
    pub(super) fn drawing_states(&self) -> &CandidateStates {
        self.moved.as_ref().unwrap_or(&self.states)
    }

    /// What was served, in order; every group's was checked against its masks.
    pub(super) fn served_order(&self) -> &[u32] {
        self.sample.episode.decision.as_ref().map_or(&[], |decision| &decision.order)
    }

    /// Everything that was drawn from a known distribution.
    pub(super) fn tried(&self) -> impl Iterator<Item = &Rollout> {
        self.served.iter().chain(&self.drawn)
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

/// Turns usable samples into groups with the rewards of what was served and of single documents; the
/// second value counts the refused.
///
/// Refused is what cannot be learned from: another state width, a text that cannot be read, a record
/// that contradicts its masks, or a served selection that the environment cannot score.
pub(super) fn collect<'a>(
    config: &OnlineConfig,
    champion: Contender<'_>,
    samples: &'a [Sample],
    environment: &dyn Environment,
    device: &Device,
) -> Result<(Vec<Group<'a>>, u64), LearnError> {
    let mut groups = Vec::with_capacity(samples.len());
    for sample in samples {
        groups.extend(group(config, champion, sample, device)?);
    }
    let orders = |group: &Group<'_>| {
        let singles = config.singles.min(group.states.rows()) as u32;
        let mut orders = vec![group.served_order().to_vec()];
        orders.extend((0..singles).map(|j| vec![j]));
        orders
    };
    let asked: Vec<_> = groups.iter().map(|group| (group.sample, orders(group))).collect();
    let mut usable = Vec::with_capacity(groups.len());
    for (mut group, scored) in groups.into_iter().zip(rewards(environment, &asked, credit(config)))
    {
        let mut scored = scored.into_iter();
        let Some(served) = scored.next().flatten() else { continue };
        if let Some(rollout) = &mut group.served {
            rollout.rewards = served;
        }
        for (utility, reward) in group.utilities.iter_mut().zip(scored) {
            *utility = reward.and_then(|r| r.last().copied());
        }
        usable.push(group);
    }
    let refused = (samples.len() - usable.len()) as u64;
    Ok((usable, refused))
}

fn group<'a>(
    config: &OnlineConfig,
    champion: Contender<'_>,
    sample: &'a Sample,
    device: &Device,
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
    let logits = logits(champion.head, &states, device).map_err(super::model)?;
    let masks = Masks { tokens: &decision.candidate_tokens, limits: decision.limits };
    let Ok(steps) = log_probs(&logits, masks, &decision.order, config.temperature, 0.0) else {
        return Ok(None);
    };
    let is_explored = decision.is_explored() && steps.len() == decision.step_log_probs.len();
    let served = is_explored.then(|| Rollout {
        order: decision.order.clone(),
        step_log_probs: decision.step_log_probs.clone(),
        rewards: Vec::new(),
    });
    Ok(Some(Group {
        sample,
        states: states.into_owned(),
        moved: None,
        tokens: decision.candidate_tokens.clone(),
        limits: decision.limits,
        served,
        drawn: Vec::new(),
        utilities: vec![None; n],
        continuation: Continuation::default(),
    }))
}

/// Asks what the greedy list of each group under `live` earns if it is made to go on; `done`
/// steps have been made.
pub(super) fn go_on(
    (live, done): (&Live, u64),
    config: &OnlineConfig,
    groups: &mut [Group<'_>],
    environment: &dyn Environment,
    device: &Device,
) -> Result<(), LearnError> {
    let mut asked = Vec::with_capacity(groups.len());
    for group in groups.iter_mut() {
        group.moved = live.states(group, done)?;
        let logits = logits(&live.head, group.drawing_states(), device).map_err(super::model)?;
        group.continuation = Continuation::of(&logits, group.masks(), config.marginals)
            .map_err(|error| LearnError::Model(error.to_string()))?;
        asked.push((group.sample, group.continuation.prefixes(group.limits)));
    }
    let scored = rewards(environment, &asked, Credit::Whole);
    for (group, scored) in groups.iter_mut().zip(scored) {
        let scored: Vec<_> =
            scored.into_iter().map(|r| r.and_then(|r| r.last().copied())).collect();
        group.continuation.learn(&scored, group.limits);
    }
    Ok(())
}

/// Gives each group the selections that `live` draws, trunk and head as they are now, with their
/// rewards; `done` steps have been made.
pub(super) fn draw_from(
    (live, done): (&Live, u64),
    config: &OnlineConfig,
    groups: &mut [Group<'_>],
    environment: &dyn Environment,
    device: &Device,
    rng: &mut StdRng,
) -> Result<(), LearnError> {
    let exploration =
        Exploration::Sample { temperature: config.temperature, epsilon: config.epsilon };
    let mut drawn: Vec<Vec<Selection>> = Vec::with_capacity(groups.len());
    for group in groups.iter_mut() {
        group.moved = live.states(group, done)?;
        let logits = logits(&live.head, group.drawing_states(), device).map_err(super::model)?;
        let one = |_| select(&logits, group.masks(), exploration, rng);
        let selections: Result<Vec<_>, _> = (0..config.rollouts).map(one).collect();
        drawn.push(selections.map_err(|error| LearnError::Model(error.to_string()))?);
    }
    let orders = |drawn: &Vec<Selection>| drawn.iter().map(|s| s.order.clone()).collect();
    let asked: Vec<(&Sample, Vec<Vec<u32>>)> =
        groups.iter().zip(&drawn).map(|(group, drawn)| (group.sample, orders(drawn))).collect();
    let scored = rewards(environment, &asked, credit(config));
    for ((group, drawn), scored) in groups.iter_mut().zip(drawn).zip(scored) {
        let with_reward = |(selection, rewards): (Selection, Option<Vec<f64>>)| {
            let Selection { order, step_log_probs } = selection;
            Some(Rollout { order, step_log_probs, rewards: rewards? })
        };
        group.drawn = drawn.into_iter().zip(scored).filter_map(with_reward).collect();
    }
    Ok(())
}

/// Prefixes are asked for where credit is given by them.
fn credit(config: &OnlineConfig) -> Credit {
    match config.advantage {
        Advantage::Terminal => Credit::Whole,
        Advantage::SelfCritical | Advantage::Printed => Credit::Prefixes,
    }
}

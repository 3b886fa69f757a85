//! Selections drawn from a head, and what the environment says of them.
//!
//! The part of training that costs generator calls. Knows no loss.

use super::fit::RecipeError;
use super::instance::Instance;
use crate::policy::head::Head;
use crate::policy::selection::{Selection, SelectionLogits, select};
use actors::ports::{Environment, Trial};
use actors::types::{Candidate, CandidateStates, Exploration, Query, Sample, SelectionLimits};
use candle_core::{Device, Tensor};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::HashMap;

/// Lists whose logits are computed together.
const FORWARD_BATCH: usize = 32;
/// Trials put to the environment in one call.
const TRIALS_BATCH: usize = 512;

/// For which prefixes of a selection the environment is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// The whole selection only: one reward.
    Whole,
    /// After each document: as many rewards as documents (RRPO §2.1), one for an empty selection.
    Prefixes,
}

impl Credit {
    /// Lengths of the prefixes of a selection of `k` documents.
    fn lengths(self, k: usize) -> std::ops::RangeInclusive<usize> {
        match self {
            Credit::Whole => k..=k,
            Credit::Prefixes => k.min(1)..=k,
        }
    }
}

/// One selection with its rewards.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Chosen candidates in order.
    pub order: Vec<u32>,
    /// Natural log-probability of each step under the policy that drew it.
    pub step_log_probs: Vec<f64>,
    /// Rewards after each document, or of the whole selection: see [`Credit`]. Never empty.
    pub rewards: Vec<f64>,
}

impl Rollout {
    /// Reward of the whole selection.
    pub fn reward(&self) -> f64 {
        self.rewards.last().copied().unwrap_or(f64::NAN)
    }
}

/// States of lists padded to one length, for [`Head::forward`].
///
/// Returns states (B, n, width), present (B, n), and n ≥ 1.
pub fn pad(
    lists: &[&CandidateStates],
    width: usize,
    device: &Device,
) -> candle_core::Result<(Tensor, Tensor, usize)> {
    let n = lists.iter().map(|s| s.rows()).max().unwrap_or(0).max(1);
    let mut values = vec![0f32; lists.len() * n * width];
    let mut present = vec![0f32; lists.len() * n];
    for (b, states) in lists.iter().enumerate() {
        values[b * n * width..][..states.values().len()].copy_from_slice(states.values());
        present[b * n..][..states.rows()].fill(1.0);
    }
    let states = Tensor::from_vec(values, (lists.len(), n, width), device)?;
    Ok((states, Tensor::from_vec(present, (lists.len(), n), device)?, n))
}

/// Logits of each instance's list under `head`, without gradients.
pub fn logits(
    head: &Head,
    instances: &[&Instance],
    device: &Device,
) -> Result<Vec<SelectionLogits>, RecipeError> {
    let mut all = Vec::with_capacity(instances.len());
    for chunk in instances.chunks(FORWARD_BATCH) {
        let lists: Vec<_> = chunk.iter().map(|i| &i.states).collect();
        let (states, present, _) = pad(&lists, head.config().state_width(), device)?;
        let output = head.forward(&states, &present)?;
        for (b, instance) in chunk.iter().enumerate() {
            all.push(output.logits(b, instance.len())?);
        }
    }
    Ok(all)
}

/// Draws `count` selections; one that comes up twice is there twice, for draws that each count once
/// are no longer draws of the policy, and their ratio to it is not 1. Greedy gives one.
pub fn draw(
    logits: &SelectionLogits,
    instance: &Instance,
    limits: SelectionLimits,
    (exploration, count): (Exploration, usize),
    rng: &mut StdRng,
) -> Result<Vec<Selection>, RecipeError> {
    let count = if exploration == Exploration::Greedy { count.min(1) } else { count };
    let one = |_| select(logits, instance.masks(limits), exploration, rng);
    let drawn: Result<Vec<_>, _> = (0..count).map(one).collect();
    drawn.map_err(|error| instance_error(instance, &error))
}

fn instance_error(instance: &Instance, error: &dyn std::fmt::Display) -> RecipeError {
    RecipeError::Question { question: instance.query.id.to_string(), reason: error.to_string() }
}

/// Greedy selection of each instance.
pub fn greedy(
    head: &Head,
    instances: &[&Instance],
    limits: SelectionLimits,
    device: &Device,
) -> Result<Vec<Vec<u32>>, RecipeError> {
    // Greedy draws nothing; the generator only has to exist.
    let mut rng = StdRng::seed_from_u64(0);
    let logits = logits(head, instances, device)?;
    let each = instances.iter().zip(&logits).map(|(instance, logits)| {
        let drawn = draw(logits, instance, limits, (Exploration::Greedy, 1), &mut rng)?;
        Ok(drawn.into_iter().next().unwrap_or_default().order)
    });
    each.collect()
}

/// What the environment needs of a question: its query with references, and its documents.
pub trait Asked {
    /// The query, with its references.
    fn query(&self) -> Query;
    /// What a selection chooses from.
    fn candidates(&self) -> &[Candidate];
}

impl Asked for &Instance {
    fn query(&self) -> Query {
        self.query.clone()
    }

    fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }
}

impl Asked for &Sample {
    fn query(&self) -> Query {
        Query { references: self.references.clone(), ..self.episode.query.clone() }
    }

    fn candidates(&self) -> &[Candidate] {
        &self.episode.candidates
    }
}

/// Rewards of selections, `[question][selection]`; `None` where any of a selection's prefixes could
/// not be scored. What comes up twice for a question is asked once.
pub fn rewards<Q: Asked>(
    environment: &dyn Environment,
    asked: &[(Q, Vec<Vec<u32>>)],
    credit: Credit,
) -> Vec<Vec<Option<Vec<f64>>>> {
    let (mut trials, mut scores) = (Vec::new(), Vec::new());
    let mut put = |trials: &mut Vec<Trial>| {
        let scored = environment.rewards(trials);
        let found = scored.len();
        scores.extend(scored.into_iter().map(|r| r.ok().map(|r| r.total)));
        // An environment that gives too little has scored nothing of the rest.
        scores.extend((found..trials.len()).map(|_| None));
        trials.clear();
    };
    let mut places = Vec::with_capacity(asked.len());
    let mut next = 0;
    for (question, orders) in asked {
        let (query, candidates) = (question.query(), question.candidates());
        let mut known: HashMap<&[u32], usize> = HashMap::new();
        for order in orders {
            for length in credit.lengths(order.len()) {
                let prefix = &order[..length];
                if known.contains_key(prefix) {
                    continue;
                }
                known.insert(prefix, next);
                next += 1;
                let at = |&j: &u32| candidates.get(j as usize).map(|c| c.document.clone());
                let documents = prefix.iter().filter_map(at).collect();
                trials.push(Trial { query: query.clone(), documents });
                if trials.len() == TRIALS_BATCH {
                    put(&mut trials);
                }
            }
        }
        places.push(known);
    }
    put(&mut trials);
    let of = |known: &HashMap<&[u32], usize>, order: &Vec<u32>| -> Option<Vec<f64>> {
        let score = |length: usize| *scores.get(*known.get(&order[..length])?)?;
        credit.lengths(order.len()).map(|k| score(k).filter(|r| r.is_finite())).collect()
    };
    let all = asked.iter().zip(&places);
    all.map(|((_, orders), known)| orders.iter().map(|order| of(known, order)).collect()).collect()
}

/// Reward of the greedy selection of each instance; `None` where it could not be scored.
pub fn greedy_rewards(
    head: &Head,
    instances: &[&Instance],
    limits: SelectionLimits,
    environment: &dyn Environment,
    device: &Device,
) -> Result<Vec<Option<f64>>, RecipeError> {
    let orders = greedy(head, instances, limits, device)?;
    let asked: Vec<_> = instances.iter().zip(orders).map(|(i, order)| (*i, vec![order])).collect();
    let scored = rewards(environment, &asked, Credit::Whole).into_iter().flatten();
    Ok(scored.map(|r| r.and_then(|r| r.last().copied())).collect())
}

/// Mean reward of the greedy selections of `head`, over the instances that could be scored; `None`
/// where none could.
pub fn greedy_reward(
    head: &Head,
    instances: &[&Instance],
    limits: SelectionLimits,
    environment: &dyn Environment,
    device: &Device,
) -> Result<Option<f64>, RecipeError> {
    Ok(mean(&greedy_rewards(head, instances, limits, environment, device)?))
}

/// Mean of what is known; `None` where nothing is.
pub fn mean(rewards: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = rewards.iter().copied().flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

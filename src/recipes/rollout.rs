//! Selections drawn from a head, and what the environment says of them.
//!
//! The part of training that costs generator calls. Knows no loss.

use super::fit::RecipeError;
use super::instance::Instance;
use crate::policy::head::Head;
use crate::policy::selection::{Selection, SelectionLogits, select};
use actors::ports::{Environment, Trial};
use actors::types::{CandidateStates, Exploration, SelectionLimits};
use candle_core::{Device, Tensor};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::HashSet;

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

/// Draws `count` selections, each list once: where a draw comes up again it is dropped, so there may
/// be fewer. Greedy gives one.
pub fn draw(
    logits: &SelectionLogits,
    instance: &Instance,
    limits: SelectionLimits,
    (exploration, count): (Exploration, usize),
    rng: &mut StdRng,
) -> Result<Vec<Selection>, RecipeError> {
    let mut seen = HashSet::new();
    let mut drawn = Vec::with_capacity(count);
    let count = if exploration == Exploration::Greedy { count.min(1) } else { count };
    for _ in 0..count {
        let selection = select(logits, instance.masks(limits), exploration, rng)
            .map_err(|error| instance_error(instance, &error))?;
        if seen.insert(selection.order.clone()) {
            drawn.push(selection);
        }
    }
    Ok(drawn)
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

/// Rewards of selections, `[instance][selection]`; `None` where any of a selection's prefixes could
/// not be scored.
pub fn rewards(
    environment: &dyn Environment,
    asked: &[(&Instance, Vec<Vec<u32>>)],
    credit: Credit,
) -> Vec<Vec<Option<Vec<f64>>>> {
    let mut trials = Vec::new();
    let mut scores = Vec::new();
    let mut put = |trials: &mut Vec<Trial>| {
        let scored = environment.rewards(trials);
        let found = scored.len();
        scores.extend(scored.into_iter().map(|r| r.ok().map(|r| r.total)));
        // An environment that gives too little has scored nothing of the rest.
        scores.extend((found..trials.len()).map(|_| None));
        trials.clear();
    };
    for (instance, orders) in asked {
        for order in orders {
            for length in credit.lengths(order.len()) {
                let documents = instance.documents(&order[..length]);
                trials.push(Trial { query: instance.query.clone(), documents });
                if trials.len() == TRIALS_BATCH {
                    put(&mut trials);
                }
            }
        }
    }
    put(&mut trials);
    let mut scores = scores.into_iter();
    let mut of = |order: &Vec<u32>| -> Option<Vec<f64>> {
        let prefixes: Vec<Option<f64>> =
            credit.lengths(order.len()).map(|_| scores.next().flatten()).collect();
        prefixes.into_iter().map(|r| r.filter(|r| r.is_finite())).collect()
    };
    asked.iter().map(|(_, orders)| orders.iter().map(&mut of).collect()).collect()
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
    let orders = greedy(head, instances, limits, device)?;
    let asked: Vec<_> = instances.iter().zip(orders).map(|(i, order)| (*i, vec![order])).collect();
    let scored: Vec<f64> = rewards(environment, &asked, Credit::Whole)
        .into_iter()
        .flatten()
        .filter_map(|r| r?.last().copied())
        .collect();
    Ok((!scored.is_empty()).then(|| scored.iter().sum::<f64>() / scored.len() as f64))
}

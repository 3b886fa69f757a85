//! PPO over whole episodes: rollouts, advantages, clipped steps, and the weight of the penalty.
//!
//! One iteration is a function of (seed, its number, the weights), and a checkpoint is written at
//! its end, so a run that was stopped ends in the same weights, bit for bit. The weight of the KL
//! penalty is a variable without a gradient beside the weights: it is saved and restored with them.

use super::batch::{SelectionBatch, TurnBatch};
use super::config::{Rules, SmartRagConfig};
use super::policy::{SmartPolicy, Trajectory, Turn, play};
use super::world::World;
use crate::algorithms::advantage::whiten;
use crate::algorithms::divergence;
use crate::algorithms::gae;
use crate::algorithms::ppo::{Returns, Taken, objective};
use crate::policy::turn_head::moves::Open;
use crate::recipes::fit::{Fit, RecipeError, rng_of};
use crate::recipes::instance::Instance;
use actors::types::{Exploration, Query, SelectionLimits};
use candle_core::{Device, Tensor, Var};
use rand::seq::SliceRandom as _;
use serde::Serialize;
use std::sync::Arc;

/// Name of the phase in errors and checkpoints.
pub(super) const PHASE: &str = "ppo";

/// What one iteration did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Iteration {
    /// Number, from 1.
    pub iteration: u64,
    /// Mean of EM + F1 less costs, without the KL penalty.
    pub reward: f64,
    /// Searches an episode.
    pub retrievals: f64,
    /// Documents an episode.
    pub documents: f64,
    /// Mean of ln π − ln π_ref over the choices made, nats; may be slightly negative.
    pub kl: f64,
    /// Weight of the penalty during the rollouts.
    pub kl_weight: f64,
    /// Mean of the value loss over the steps.
    pub value_loss: f64,
    /// Share of choices at which the clip was active, over the last pass.
    pub clip_fraction: f64,
}

/// An episode with everything a step needs.
struct Prepared {
    trajectory: Trajectory,
    advantages: Vec<f64>,
    returns: Vec<f64>,
}

/// What an iteration works with.
pub(super) struct Scene<'a> {
    pub(super) world: &'a World,
    pub(super) queries: &'a [&'a Query],
    /// The warmed-up policy, frozen.
    pub(super) reference: &'a SmartPolicy,
    pub(super) config: &'a SmartRagConfig,
    pub(super) limits: SelectionLimits,
}

/// Optimiser steps of one iteration.
pub(super) fn steps_an_iteration(config: &SmartRagConfig) -> u64 {
    config.epochs * config.minibatches as u64
}

/// Makes iteration `number` (from 0).
///
/// # Errors
/// A port that failed, or a step that is not finite.
pub(super) async fn iterate(
    scene: &Scene<'_>,
    policy: &SmartPolicy,
    (fit, kl_weight): (&mut Fit, &Var),
    number: u64,
) -> Result<Iteration, RecipeError> {
    let config = scene.config;
    let weight = f64::from(kl_weight.to_vec1::<f32>()?.first().copied().unwrap_or(0.0));
    let trajectories = rollouts(scene, policy, number).await?;
    let (mut prepared, kl) = prepare(scene, trajectories, weight)?;
    // Before the steps, so that the checkpoint of the last one holds it.
    kl_weight.set(&Tensor::new(&[config.kl.adapted(weight, kl) as f32], policy.device())?)?;
    let count = prepared.len().max(1) as f64;
    let mean = |of: &dyn Fn(&Trajectory) -> f64| {
        prepared.iter().map(|p| of(&p.trajectory)).sum::<f64>() / count
    };
    let reward = mean(&|t| t.net_reward(config));
    let retrievals = mean(&|t| t.retrievals() as f64);
    let documents = mean(&|t| t.order.len() as f64);
    let (mut value_loss, mut clip_fraction) = (0.0, 0.0);
    for epoch in 0..config.epochs {
        prepared.shuffle(&mut rng_of(config.seed, "ppo order", number * config.epochs + epoch));
        clip_fraction = 0.0;
        for part in 0..config.minibatches {
            let batch: Vec<&Prepared> =
                prepared.iter().skip(part).step_by(config.minibatches).collect();
            let found = step(policy, fit, &batch, (scene.limits, config))?;
            value_loss += found.0 / (config.epochs as f64 * config.minibatches as f64);
            clip_fraction += found.1 / config.minibatches as f64;
        }
    }
    Ok(Iteration {
        iteration: number + 1,
        reward,
        retrievals,
        documents,
        kl,
        kl_weight: weight,
        value_loss,
        clip_fraction,
    })
}

/// Plays every question of the iteration `rollouts` times.
async fn rollouts(
    scene: &Scene<'_>,
    policy: &SmartPolicy,
    number: u64,
) -> Result<Vec<Trajectory>, RecipeError> {
    let config = scene.config;
    let mut rng = rng_of(config.seed, "ppo rollouts", number);
    let mut chosen: Vec<usize> = (0..scene.queries.len()).collect();
    chosen.shuffle(&mut rng);
    chosen.truncate(config.questions);
    // Temperature 1 and no mixing: the behaviour is the policy, and the ratio starts at 1.
    let exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.0 };
    let rules = Rules { exploration, ..Rules::greedy(config.retrievals_max, scene.limits) };
    let mut played = Vec::with_capacity(chosen.len() * config.rollouts);
    for index in chosen {
        for _ in 0..config.rollouts {
            let query = scene.queries[index];
            played.push(play(scene.world, policy, query, &rules, &mut rng).await?);
        }
    }
    Ok(played)
}

/// Advantages and returns under the KL penalty, and the mean divergence of a choice. What was
/// logged is the policy's own log-probability: rollouts are drawn at temperature 1 without mixing.
fn prepare(
    scene: &Scene<'_>,
    trajectories: Vec<Trajectory>,
    weight: f64,
) -> Result<(Vec<Prepared>, f64), RecipeError> {
    let config = scene.config;
    let rules = Rules::greedy(config.retrievals_max, scene.limits);
    let (mut prepared, mut sum, mut choices) = (Vec::new(), 0.0, 0.0);
    for trajectory in trajectories {
        let (ref_moves, ref_steps) = trajectory.log_probs_under(scene.reference, &rules)?;
        let mut rewards = trajectory.rewards(config);
        let (moves, steps) = (&trajectory.turns, &trajectory.step_log_probs);
        let mut ratios: Vec<f64> =
            moves.iter().zip(&ref_moves).map(|(p, r)| p.log_prob - r).collect();
        choices += trajectory.turns.iter().filter(|turn| turn.is_choice()).count() as f64;
        choices += steps.len() as f64;
        if let Some(last) = ratios.last_mut() {
            *last += steps.iter().zip(&ref_steps).map(|(p, r)| p - r).sum::<f64>();
        }
        for (reward, ratio) in rewards.iter_mut().zip(&ratios) {
            sum += ratio;
            *reward -= weight * ratio;
        }
        let values: Vec<f64> = trajectory.turns.iter().map(|turn| turn.value).collect();
        let estimate = gae::estimate(&rewards, &values, config.gamma, config.lambda);
        let (advantages, returns) = (estimate.advantages, estimate.returns);
        prepared.push(Prepared { trajectory, advantages, returns });
    }
    let mut all: Vec<f64> = prepared.iter().flat_map(|p| p.advantages.iter().copied()).collect();
    whiten(&mut all);
    let mut all = all.into_iter();
    for one in &mut prepared {
        one.advantages = all.by_ref().take(one.advantages.len()).collect();
    }
    Ok((prepared, sum / f64::max(choices, 1.0)))
}

/// One optimiser step; returns value loss and clip fraction.
fn step(
    policy: &SmartPolicy,
    fit: &mut Fit,
    batch: &[&Prepared],
    (limits, config): (SelectionLimits, &SmartRagConfig),
) -> Result<(f64, f64), RecipeError> {
    let laid = Laid::new(batch, policy, limits)?;
    let (log_probs, values, entropy) = laid.forward(policy, config.entropy_coefficient > 0.0)?;
    let found =
        objective(&log_probs, &laid.taken, (&values, &laid.returns), &entropy, config.terms())?;
    let value_loss = f64::from(found.value_loss.to_scalar::<f32>()?);
    fit.step(&found.loss)?;
    Ok((value_loss, found.clip_fraction))
}

/// A minibatch as tensors: its turns, then the steps of its selections.
pub(super) struct Laid {
    turns: TurnBatch,
    selections: Option<SelectionBatch>,
    choices: Tensor,
    pub(super) taken: Taken,
    returns: Returns,
}

impl Laid {
    fn new(
        batch: &[&Prepared],
        policy: &SmartPolicy,
        limits: SelectionLimits,
    ) -> Result<Self, RecipeError> {
        let device = policy.device();
        let turns: Vec<&Turn> = batch.iter().flat_map(|p| &p.trajectory.turns).collect();
        let rows: Vec<_> =
            turns.iter().map(|t| (t.state.as_slice(), &t.open as &Open, t.taken)).collect();
        let mut chosen: Vec<(Arc<Instance>, Vec<u32>)> = Vec::new();
        let mut of_selection: Vec<(&[f64], f64)> = Vec::new();
        for one in batch {
            let steps = &one.trajectory.step_log_probs;
            if let Some(list) = one.trajectory.list.as_ref().filter(|_| !steps.is_empty()) {
                chosen.push((Arc::clone(list), one.trajectory.order.clone()));
                // The answer and its documents are one turn, so they share its advantage.
                of_selection.push((steps, one.advantages.last().copied().unwrap_or(0.0)));
            }
        }
        let selections = SelectionBatch::new(&chosen, limits, &policy.head, device)?;
        let longest = match &selections {
            Some(selections) => selections.steps().dim(1)?,
            None => 0,
        };
        let choices: Vec<f32> = turns.iter().map(|t| f32::from(t.is_choice())).collect();
        let mut behaviour: Vec<f32> = turns.iter().map(|t| t.log_prob as f32).collect();
        let mut advantages: Vec<f32> =
            batch.iter().flat_map(|p| p.advantages.iter().map(|a| *a as f32)).collect();
        let mut steps = choices.clone();
        for (logged, advantage) in of_selection {
            let padding = std::iter::repeat_n(0.0, longest - logged.len());
            behaviour.extend(logged.iter().map(|l| *l as f32).chain(padding.clone()));
            advantages.extend(std::iter::repeat_n(advantage as f32, longest));
            steps.extend(logged.iter().map(|_| 1.0).chain(padding));
        }
        let old_values: Vec<f32> = turns.iter().map(|t| t.value as f32).collect();
        let returns: Vec<f32> =
            batch.iter().flat_map(|p| p.returns.iter().map(|r| *r as f32)).collect();
        let tensor = |values: Vec<f32>| Tensor::new(values, device);
        Ok(Self {
            turns: TurnBatch::new(&rows, device)?,
            selections,
            choices: tensor(choices)?,
            taken: Taken {
                behaviour: tensor(behaviour)?,
                advantages: tensor(advantages)?,
                steps: tensor(steps)?,
            },
            returns: Returns { old_values: tensor(old_values)?, returns: tensor(returns)? },
        })
    }

    /// (N) log-probabilities of all choices, (M) values, and the mean entropy of a move.
    fn forward(
        &self,
        policy: &SmartPolicy,
        with_entropy: bool,
    ) -> Result<(Tensor, Tensor, Tensor), RecipeError> {
        let figures = self.turns.figures(&policy.turn)?;
        let log_probs = match &self.selections {
            None => figures.taken,
            Some(selections) => {
                let steps = selections.log_probs(&policy.head)?.flatten_all()?;
                Tensor::cat(&[&figures.taken, &steps], 0)?
            }
        };
        let entropy = if with_entropy {
            divergence::entropy(&figures.all.unsqueeze(0)?, &self.choices.unsqueeze(0)?)?
        } else {
            Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?.to_device(policy.device())?
        };
        Ok((log_probs, figures.values, entropy))
    }
}

/// Ratio π/b of every choice of some episodes, as the loss sees it; for tests.
#[cfg(test)]
pub(super) fn ratios(
    policy: &SmartPolicy,
    trajectories: Vec<Trajectory>,
    limits: SelectionLimits,
) -> Result<Vec<f32>, RecipeError> {
    let prepared: Vec<Prepared> = trajectories
        .into_iter()
        .map(|trajectory| {
            let zeros = vec![0.0; trajectory.turns.len()];
            Prepared { trajectory, advantages: zeros.clone(), returns: zeros }
        })
        .collect();
    let batch: Vec<&Prepared> = prepared.iter().collect();
    let laid = Laid::new(&batch, policy, limits)?;
    let (log_probs, ..) = laid.forward(policy, false)?;
    Ok(((log_probs - &laid.taken.behaviour)? * &laid.taken.steps)?.exp()?.to_vec1()?)
}

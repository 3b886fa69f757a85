//! The loss of one minibatch of logged decisions.
//!
//! `−Ĵ(π) + β KL(π ‖ champion) + λ sqrt(Var / n)`, with Ĵ of `algorithms::doubly_robust`. The part that
//! the reward model carries, together with the KL, has a maximiser in closed form at each step; it is
//! the target of a cross-entropy (as in MPO, Abdolmaleki et al. 2018), whose gradient has no noise of
//! draws beyond which states they visit.

use super::Kind;
use super::config::LoggedConfig;
use super::reward_model::Values;
use super::rows::Row;
use crate::algorithms::divergence;
use crate::algorithms::doubly_robust::{
    WeightFigures, clipped_weights, corrections, deviation, self_normalised,
};
use crate::policy::head::Head;
use crate::policy::selection::{SelectionLogits, greedy_completions, select};
use crate::policy::trajectories::{Recorded, Trajectories};
use crate::recipes::rollout::pad;
use actors::types::{CandidateStates, Exploration};
use candle_core::{D, Device, Error, Result, Tensor};
use rand::rngs::StdRng;

/// What does not change during an update.
pub(super) struct Setting<'a> {
    pub config: &'a LoggedConfig,
    pub kind: Kind,
    /// Temperature of the softmax policy that is trained, > 0.
    pub temperature: f64,
    pub champion: &'a Head,
    /// Weight of the KL to the champion for as many answers as there are, in units of reward a nat.
    pub beta: f64,
    /// Weight of the correction beside the reward model, in [0, 1].
    pub correction: f64,
    /// Answered decisions with support in the whole update.
    pub answered: f64,
    /// Mean reward of the answered: the constant that `ips` subtracts.
    pub reward_mean: f64,
    pub device: &'a Device,
}

/// One row with its values by a model that has not seen its query.
pub(super) struct Valued<'a> {
    pub row: &'a Row<'a>,
    /// `None` without a reward model.
    pub values: Option<Values>,
}

/// A loss, and what to report of it.
pub(super) struct Step {
    pub loss: Tensor,
    pub kl: f64,
    pub figures: WeightFigures,
}

/// `None` where the minibatch has nothing to teach.
pub(super) fn loss(
    setting: &Setting<'_>,
    head: &Head,
    batch: &[&Valued<'_>],
    rng: &mut StdRng,
) -> Result<Option<Step>> {
    let device = setting.device;
    let rows: Vec<&Row<'_>> = batch.iter().map(|valued| valued.row).collect();
    let lists: Vec<&CandidateStates> = rows.iter().map(|row| row.states).collect();
    let (states, present, n) = pad(&lists, head.config().state_width(), device)?;
    let output = head.forward(&states, &present)?;
    let logits: Vec<SelectionLogits> = lists
        .iter()
        .enumerate()
        .map(|(list, states)| output.logits(list, states.rows()))
        .collect::<Result<_>>()?;
    let drawn = draw(setting, batch, &logits, rng)?;
    let logged: Vec<(usize, &Valued<'_>)> = batch
        .iter()
        .enumerate()
        .filter(|(_, v)| v.row.behaviour.is_some() && v.row.reward.is_some())
        .map(|(list, v)| (list, *v))
        .collect();
    let orders = drawn.iter().map(|(list, order)| (*list, order.as_slice()));
    let orders: Vec<(usize, &[u32])> =
        orders.chain(logged.iter().map(|(list, v)| (*list, v.row.order))).collect();
    if orders.is_empty() {
        return Ok(None);
    }
    let recorded: Vec<Recorded<'_>> = orders
        .iter()
        .map(|(list, order)| Recorded {
            list: *list as u32,
            candidates: rows[*list].states.rows(),
            masks: rows[*list].masks(),
            order,
        })
        .collect();
    let trajectories =
        Trajectories::new(&recorded, n, device).map_err(|error| Error::Msg(error.to_string()))?;
    let all = trajectories.all_log_probs(&output, setting.temperature)?;
    let whole = trajectories.taken(&all)?.sum(D::Minus1)?;
    let reference = setting.champion.forward(&states, &present)?;
    let reference = trajectories.all_log_probs(&reference, setting.temperature)?.detach();
    let kl = divergence::kl_categorical(&all, &reference, trajectories.steps())?;
    let kl_value = f64::from(kl.to_scalar::<f32>()?);

    let is_modelled =
        setting.kind == Kind::DoublyRobust && batch.iter().all(|v| v.values.is_some());
    let mut loss = if is_modelled && !drawn.is_empty() {
        let part = |t: &Tensor| t.narrow(0, 0, drawn.len());
        let parts = (&part(&all)?, &part(&reference)?, &part(trajectories.steps())?);
        (improvement(setting, (batch, &logits), &drawn, parts)? * setting.beta)?
    } else {
        (kl * setting.beta)?
    };
    let mut figures = WeightFigures::default();
    if !logged.is_empty() {
        let taken = whole.narrow(0, drawn.len(), logged.len())?;
        let (term, found) = correction(setting, &taken, &logged)?;
        loss = (loss + (term * if is_modelled { setting.correction } else { 1.0 })?)?;
        figures = found;
    }
    Ok(Some(Step { loss, kl: kl_value, figures }))
}

/// Selections drawn from the policy under training, each with its list.
fn draw(
    setting: &Setting<'_>,
    batch: &[&Valued<'_>],
    logits: &[SelectionLogits],
    rng: &mut StdRng,
) -> Result<Vec<(usize, Vec<u32>)>> {
    let exploration = Exploration::Sample { temperature: setting.temperature, epsilon: 0.0 };
    let mut drawn = Vec::with_capacity(batch.len() * setting.config.draws);
    for (list, (valued, logits)) in batch.iter().zip(logits).enumerate() {
        for _ in 0..setting.config.draws {
            let selection = select(logits, valued.row.masks(), exploration, rng)
                .map_err(|error| Error::Msg(error.to_string()))?;
            drawn.push((list, selection.order));
        }
    }
    Ok(drawn)
}

/// Cross-entropy from the improved policy to the policy under training, at the states that its own
/// draws visit.
///
/// The improved policy is the exact maximiser of `E_a Q(s, a) − β KL(· ‖ champion)` at each step: champion
/// times `exp(Q(s, a) / β)`, where Q(s, a) is q̂ of the list that action a leads to when all that follows
/// is greedy, as most traffic is served. So the stop is weighed against what would go on being chosen.
fn improvement(
    setting: &Setting<'_>,
    (batch, logits): (&[&Valued<'_>], &[SelectionLogits]),
    drawn: &[(usize, Vec<u32>)],
    (all, reference, steps): (&Tensor, &Tensor, &Tensor),
) -> Result<Tensor> {
    let (rows, length, actions) = all.dims3()?;
    let mut worth = vec![0f32; rows * length * actions];
    for (row, (list, order)) in drawn.iter().enumerate() {
        let valued = batch[*list];
        let Some(values) = &valued.values else { continue };
        let led_to = greedy_completions(&logits[*list], valued.row.masks(), order)
            .map_err(|error| Error::Msg(error.to_string()))?;
        for (step, mut lists) in led_to.into_iter().take(length).enumerate() {
            let base = (row * length + step) * actions;
            let value = |list: &Option<Vec<u32>>| {
                list.as_ref().map_or(0.0, |list| (values.of(list) / setting.beta) as f32)
            };
            worth[base + actions - 1] = value(&lists.pop().flatten());
            for (cell, list) in worth[base..].iter_mut().zip(&lists) {
                *cell = value(list);
            }
        }
    }
    let worth = Tensor::from_vec(worth, (rows, length, actions), setting.device)?;
    // Masked actions are about -1e9 in the reference and stay there.
    let target = candle_nn::ops::softmax(&(reference + worth)?, D::Minus1)?.detach();
    let terms = (target * all)?.sum(D::Minus1)?;
    let count = f64::from(steps.sum_all()?.to_scalar::<f32>()?).max(1.0);
    (terms * steps)?.sum_all()? / -count
}

/// The negative of what the logged rewards say beyond the model, with its pessimism.
fn correction(
    setting: &Setting<'_>,
    taken: &Tensor,
    logged: &[(usize, &Valued<'_>)],
) -> Result<(Tensor, WeightFigures)> {
    let (config, device) = (setting.config, setting.device);
    let column = |of: &dyn Fn(&Valued<'_>) -> f64| {
        let values: Vec<f32> = logged.iter().map(|(_, v)| of(v) as f32).collect();
        Tensor::from_vec(values, logged.len(), device)
    };
    let behaviour = column(&|v| v.row.behaviour.unwrap_or_default())?;
    let observed = column(&|v| v.row.weight)?;
    let (weights, figures) = clipped_weights(taken, &behaviour, config.clip)?;
    let reward = |v: &Valued<'_>| v.row.reward.unwrap_or_default();
    if setting.kind == Kind::SelfNormalised {
        let rewards = column(&reward)?;
        let value = self_normalised(&weights, &rewards, &observed)?.neg()?;
        let centred = column(&|v| reward(v) - setting.reward_mean)?;
        let terms = corrections(&weights, &centred, &observed)?;
        let noise = deviation(&terms, setting.answered)?;
        return Ok(((value + (noise * config.variance_weight)?)?, figures));
    }
    let model = |v: &Valued<'_>| match (&v.values, setting.kind) {
        (Some(values), Kind::DoublyRobust) => values.of(v.row.order),
        _ => setting.reward_mean,
    };
    let residuals = column(&|v| reward(v) - model(v))?;
    let terms = corrections(&weights, &residuals, &observed)?;
    let mean = terms.mean_all()?.neg()?;
    let noise = deviation(&terms, setting.answered)?;
    Ok(((mean + (noise * config.variance_weight)?)?, figures))
}

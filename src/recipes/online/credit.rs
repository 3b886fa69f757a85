//! What the steps of drawn selections are credited with, each against its own query's draws.
//!
//! Baseline and draws are of one policy: the draws themselves, leaving out the one that is credited.
//! The served selection, which another policy may have drawn, is compared with them and is no part
//! of a baseline. Knows no loss.

use super::config::{Advantage, Objective, OnlineConfig};
use super::groups::Group;
use crate::algorithms::advantage;
use crate::recipes::lists::over_steps;
use crate::recipes::rollout::Rollout;

/// Every selection that was drawn from a known distribution, with its list: the served one of a
/// group first.
pub(super) fn drawn<'a>(batch: &[&'a Group<'_>]) -> Vec<(usize, &'a Rollout)> {
    let of = |(list, group): (usize, &&'a Group<'_>)| {
        let group: &'a Group<'_> = group;
        group.tried().map(move |rollout| (list, rollout))
    };
    batch.iter().enumerate().flat_map(of).collect()
}

/// One advantage a step for each of [`drawn`], in its order.
pub(super) fn advantages(
    config: &OnlineConfig,
    objective: Objective,
    batch: &[&Group<'_>],
) -> Vec<Vec<f64>> {
    match objective {
        Objective::Grpo => batch.iter().flat_map(|group| by_group(group)).collect(),
        _ => by_siblings(config, batch),
    }
}

/// Against the other draws, then scaled over the minibatch.
fn by_siblings(config: &OnlineConfig, batch: &[&Group<'_>]) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = Vec::new();
    for group in batch {
        values.extend(group.served.iter().map(|rollout| against(config, rollout, group, None)));
        let each = group.drawn.iter().enumerate();
        values.extend(each.map(|(at, rollout)| against(config, rollout, group, Some(at))));
    }
    let mut flat: Vec<f64> = values.iter().flatten().copied().collect();
    match config.advantage {
        Advantage::Printed => advantage::whiten(&mut flat),
        Advantage::Terminal | Advantage::SelfCritical => advantage::scale(&mut flat),
    }
    let mut flat = flat.into_iter();
    for value in values.iter_mut().flatten() {
        *value = flat.next().unwrap_or(0.0);
    }
    values
}

/// Advantages of one selection against the draws of its group but the one at `itself`; the stop has
/// the credit of the whole. All 0 where there is no other draw.
fn against(
    config: &OnlineConfig,
    rollout: &Rollout,
    group: &Group<'_>,
    itself: Option<usize>,
) -> Vec<f64> {
    let steps = rollout.step_log_probs.len();
    let others = group.drawn.iter().enumerate().filter(|(at, _)| Some(*at) != itself);
    let others = others.map(|(_, other)| other.rewards.as_slice());
    let Some(baseline) = advantage::leave_one_out(others.clone(), rollout.rewards.len()) else {
        return vec![0.0; steps];
    };
    let whole: Vec<&[f64]> = others.map(|rewards| &rewards[rewards.len() - 1..]).collect();
    let whole = advantage::leave_one_out(whole.into_iter(), 1).map_or(0.0, |mean| mean[0]);
    let whole = rollout.reward() - whole;
    let credits = match config.advantage {
        Advantage::Terminal => vec![whole],
        Advantage::SelfCritical => {
            advantage::self_critical(&rollout.rewards, &baseline, config.gamma, config.lambda)
        }
        Advantage::Printed => {
            advantage::printed(&rollout.rewards, &baseline, config.gamma, config.lambda)
        }
    };
    let mut credits = over_steps(&credits, rollout.order.len(), steps);
    credits.iter_mut().skip(rollout.order.len()).for_each(|stop| *stop = whole);
    credits
}

/// Within the query's selections: rewards whitened, the same on every step.
fn by_group(group: &Group<'_>) -> Vec<Vec<f64>> {
    let mut credits: Vec<f64> = group.tried().map(Rollout::reward).collect();
    advantage::whiten(&mut credits);
    let steps = group.tried().map(|rollout| rollout.step_log_probs.len());
    credits.iter().zip(steps).map(|(credit, steps)| vec![*credit; steps]).collect()
}

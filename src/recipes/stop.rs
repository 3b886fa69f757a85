//! The stop, taught by what one more document is worth.
//!
//! A head's greedy list is made to go on, and the environment says what its prefixes earn: the gain
//! of a document is the reward with it, less the reward without it, less a price. The chance of the
//! stop against that document is regressed on (1 − gain) / 2, which is below one half exactly where
//! the expected gain is above 0. Scores and stop so have one scale, whatever the scores have learned
//! before; without it they drift apart, and the policy stops after one document or never.
//!
//! Owns which prefixes are asked for, the targets, and the calibration. Knows no loop.

use crate::algorithms::utility;
use crate::policy::head::HeadOutput;
use crate::policy::selection::{Masks, SelectionError, SelectionLogits, select};
use crate::policy::trajectories::{Recorded, Trajectories};
use actors::types::{Exploration, SelectionLimits};
use candle_core::{Device, Error, Result, Tensor, Var};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

/// Epochs of the regression of single documents for one in which the stop is trained beside it.
pub const EPOCHS_FOR_ONE: usize = 3;
/// What a document must add to be worth its tokens, in reward: of equals the shorter list is taken.
const PRICE: f64 = 0.01;
/// Nats of the stop's logit for one nat of its target: scores of utilities 0.1 apart at one half
/// differ by 0.4, and a gain of 0.1 moves the stop by twice that.
const SHARPNESS: f64 = 4.0;
/// How strongly the calibration is held near no change.
const RIDGE: f64 = 1e-4;
/// Steps of the calibration; it is convex in two numbers.
const CALIBRATION_STEPS: usize = 300;

/// A list that was made to go on, and what its prefixes earn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Continuation {
    /// Candidates in order.
    pub order: Vec<u32>,
    /// Rewards after 0, 1, … documents of `order`; `None` where that was not asked or not scored.
    pub rewards: Vec<Option<f64>>,
}

impl Continuation {
    /// The greedy list with `further` documents more than it must have, stops left out; without
    /// rewards.
    ///
    /// # Errors
    /// The logits do not fit the masks or are not finite.
    pub fn of(
        logits: &SelectionLogits,
        masks: Masks<'_>,
        further: usize,
    ) -> std::result::Result<Self, SelectionError> {
        let least = masks.limits.k_min.max(1);
        let k = least.saturating_add(further as u32).min(masks.limits.k_max);
        let limits = SelectionLimits { k_min: k, k_max: k, ..masks.limits };
        // Greedy draws nothing; the generator only has to exist.
        let mut rng = StdRng::seed_from_u64(0);
        let order = select(logits, Masks { limits, ..masks }, Exploration::Greedy, &mut rng)?.order;
        Ok(Self { rewards: vec![None; order.len() + 1], order })
    }

    /// The prefixes to be asked for: none where the stop is never a choice.
    pub fn prefixes(&self, limits: SelectionLimits) -> Vec<Vec<u32>> {
        let (from, to) = (limits.k_min as usize, self.order.len());
        if from >= to {
            Vec::new()
        } else {
            (from..=to).map(|k| self.order[..k].to_vec()).collect()
        }
    }

    /// Takes the rewards of [`Self::prefixes`], in that order.
    pub fn learn(&mut self, scored: &[Option<f64>], limits: SelectionLimits) {
        let places = self.rewards.iter_mut().skip(limits.k_min as usize);
        places.zip(scored).for_each(|(place, reward)| *place = *reward);
    }

    /// For each document: what the chance of stopping before it should be against taking it.
    fn targets(&self) -> Vec<Option<f64>> {
        let gain = |pair: &[Option<f64>]| Some(pair[1]? - pair[0]? - PRICE);
        self.rewards.windows(2).map(|pair| gain(pair).map(|gain| (1.0 - gain) / 2.0)).collect()
    }
}

/// A continuation of one list of a minibatch.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Row of the minibatch.
    pub list: usize,
    /// Candidates of the list.
    pub candidates: usize,
    /// Masks of its decision.
    pub masks: Masks<'a>,
    /// What it earned.
    pub continuation: &'a Continuation,
}

/// Where the stop was a choice, R continuations of up to T documents each.
#[derive(Debug)]
pub struct Choices {
    /// (R, T) f32: logit of the stop less that of the document that came next.
    margins: Tensor,
    /// (R, T) f32 in [0, 1].
    targets: Tensor,
    /// (R, T) f32: 1 where the gain is known.
    known: Tensor,
}

impl Choices {
    /// Lays out the choices of a minibatch whose lists are padded to `n`; `None` where there are
    /// none.
    pub fn new(
        output: &HeadOutput,
        shown: &[Shown<'_>],
        (n, device): (usize, &Device),
    ) -> Result<Option<Self>> {
        let has_gain = |s: &&Shown<'_>| s.continuation.targets().iter().any(Option::is_some);
        let shown: Vec<&Shown<'_>> = shown.iter().filter(has_gain).collect();
        if shown.is_empty() {
            return Ok(None);
        }
        let recorded: Vec<_> = shown
            .iter()
            .map(|s| Recorded {
                list: s.list as u32,
                candidates: s.candidates,
                masks: s.masks,
                order: &s.continuation.order,
            })
            .collect();
        let steps =
            Trajectories::new(&recorded, n, device).map_err(|e| Error::Msg(e.to_string()))?;
        let margins = steps.stop_margins(&steps.all_log_probs(output, 1.0)?)?;
        let (rows, width) = margins.dims2()?;
        let (mut targets, mut known) = (vec![0f32; rows * width], vec![0f32; rows * width]);
        for (row, shown) in shown.iter().enumerate() {
            for (t, target) in shown.continuation.targets().into_iter().enumerate() {
                if let Some(target) = target {
                    targets[row * width + t] = target.clamp(0.0, 1.0) as f32;
                    known[row * width + t] = 1.0;
                }
            }
        }
        let targets = Tensor::from_vec(targets, (rows, width), device)?;
        Ok(Some(Self { margins, targets, known: Tensor::from_vec(known, (rows, width), device)? }))
    }

    /// Cross-entropy of the stop's chance against the next document; scalar, mean over choices.
    pub fn loss(&self) -> Result<Tensor> {
        utility::regression(&(&self.margins / SHARPNESS)?, &self.targets, &self.known)
    }

    /// Every choice as (margin, documents before it, target).
    pub fn points(&self) -> Result<Vec<(f64, f64, f64)>> {
        let (margins, targets) = (self.margins.to_vec2::<f32>()?, self.targets.to_vec2::<f32>()?);
        let mut points = Vec::new();
        for (row, known) in self.known.to_vec2::<f32>()?.iter().enumerate() {
            for (t, _) in known.iter().enumerate().filter(|(_, known)| **known > 0.0) {
                let (margin, target) = (margins[row][t], targets[row][t]);
                points.push((f64::from(margin), t as f64, f64::from(target)));
            }
        }
        Ok(points)
    }
}

/// Shifts of the stop's logit, the first for every list and the second for each chosen document,
/// that fit the choices best: minimum of the mean of [`Choices::loss`] over the points.
///
/// Each step minimises a parabola that lies above the loss (σ' ≤ 1/4; Böhning and Lindsay 1988), so
/// it never overshoots, however far the scores have moved.
pub fn calibration(points: &[(f64, f64, f64)]) -> (f64, f64) {
    let count = points.len().max(1) as f64;
    let mean = |of: &dyn Fn(&(f64, f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let bound = 0.25 / (SHARPNESS * SHARPNESS);
    let curve = [
        RIDGE + bound,
        bound * mean(&|(_, chosen, _)| *chosen),
        RIDGE + bound * mean(&|(_, chosen, _)| chosen * chosen),
    ];
    let determinant = curve[0] * curve[2] - curve[1] * curve[1];
    let (mut a, mut b) = (0.0, 0.0);
    for _ in 0..CALIBRATION_STEPS {
        let miss = |(margin, chosen, target): &(f64, f64, f64)| {
            (1.0 / (1.0 + (-(margin + a + b * chosen) / SHARPNESS).exp()) - target) / SHARPNESS
        };
        let slope = RIDGE * a + mean(&miss);
        let slope_each = RIDGE * b + mean(&|point| miss(point) * point.1);
        let step = (curve[2] * slope - curve[1] * slope_each) / determinant;
        let step_each = (curve[0] * slope_each - curve[1] * slope) / determinant;
        (a, b) = (a - step, b - step_each);
    }
    (a, b)
}

/// Moves the stop of a head under training by what [`calibration`] found.
///
/// # Errors
/// The variables are not those of a head.
pub fn shift(variables: &BTreeMap<String, Var>, (all, each): (f64, f64)) -> Result<()> {
    for (name, by) in [("stop.bias", all), ("stop.per_document", each)] {
        let missing = || Error::Msg(format!("head has no tensor `{name}`"));
        let variable = variables.get(name).ok_or_else(missing)?;
        variable.set(&(variable.as_detached_tensor() + by)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

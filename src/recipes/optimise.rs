//! The loop of every phase over lists: batches, steps, a measure after each pass, the best weights.
//!
//! A recipe gives the loss of a minibatch and nothing else. Owns the choice between passes, and says
//! how much of it is noise. Knows no loss.

use super::fit::{Best, Fit, Point, RecipeError, batch, steps_per_pass};
use super::instance::Instance;
use super::lists::{PhaseReport, Schedule, Tools};
use super::rollout::{greedy_rewards, mean};
use crate::policy::head::Head;
use actors::types::SelectionLimits;
use candle_core::Tensor;
use serde::Serialize;

/// The smallest difference of mean rewards that a choice between passes should tell from none.
const TOLD_APART: f64 = 0.02;

/// One phase.
#[derive(Debug, Clone, Copy)]
pub struct Course<'a> {
    /// Its name, in checkpoints and reports.
    pub phase: &'a str,
    /// Seed of its batches.
    pub seed: u64,
    /// How long and how fast.
    pub schedule: &'a Schedule,
    /// What it learns from: questions, pairs or groups.
    pub count: usize,
    /// Questions that choose between passes (none: the last is taken), and the limits of their
    /// greedy selections.
    pub validation: (&'a [&'a Instance], SelectionLimits),
    /// Whether the weights that it starts from may be chosen too.
    pub may_keep_start: bool,
}

/// How well the validation questions tell weights apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choice {
    /// Questions that could be scored under the first and the last weights.
    pub questions: usize,
    /// Half-width of the 95% interval of the mean difference between the two, in reward.
    pub half_width: f64,
    /// Whether a difference of two points (0.02) is within that: then which pass was taken is
    /// chance, and the best reward among the passes is too high by about as much.
    pub is_noise: bool,
}

impl Choice {
    /// From the rewards of the same questions under two sets of weights; `None` for fewer than two.
    pub fn between(first: &[Option<f64>], last: &[Option<f64>]) -> Option<Self> {
        let both = first.iter().zip(last).filter_map(|(a, b)| Some((*b)? - (*a)?));
        let differences: Vec<f64> = both.collect();
        let count = differences.len() as f64;
        if count < 2.0 {
            return None;
        }
        let mean = differences.iter().sum::<f64>() / count;
        let squares = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
        let half_width = 1.96 * (squares / (count - 1.0) / count).sqrt();
        let is_noise = half_width > TOLD_APART;
        Some(Self { questions: differences.len(), half_width, is_noise })
    }
}

/// How a phase ended: a next one may go on from the last weights, for one may be too short to change
/// a greedy selection, and the best of all are taken in the end.
pub struct Round {
    /// The weights after its last step.
    pub last: Head,
    /// The best by validation reward, where that was measured.
    pub best: Option<Best>,
}

/// Runs a phase from `start`: `loss` is that of the lessons with the given numbers under the head, at
/// a step counted from 0.
///
/// # Errors
/// Those of the loss, a loss or gradient that is no number, or a checkpoint of another run.
pub fn optimise(
    course: &Course<'_>,
    start: &Head,
    tools: &mut Tools<'_>,
    loss: &mut dyn FnMut(&Head, (&[usize], u64), &Tools<'_>) -> Result<Tensor, RecipeError>,
) -> Result<(Round, PhaseReport), RecipeError> {
    let Course { phase, seed, schedule, count, validation, .. } = *course;
    let (head, variables) = start.trainable()?;
    let mut fit = Fit::start(phase, &variables, schedule.optimizer(count), tools.keep)?;
    let (per_pass, mut curve) = (steps_per_pass(count, schedule.batch_queries), Vec::new());
    let measure = |head: &Head, tools: &Tools<'_>| {
        let (questions, limits) = validation;
        greedy_rewards(head, questions, limits, tools.environment, tools.device)
    };
    let first = measure(start, tools)?;
    let mut last = first.clone();
    if fit.steps_done() == 0
        && course.may_keep_start
        && let Some(reward) = mean(&first)
    {
        fit.consider(reward)?;
    }
    while fit.steps_done() < schedule.steps(count) {
        let step = fit.steps_done();
        let chosen = batch(seed, phase, step, (count, schedule.batch_queries));
        fit.step(&loss(&head, (&chosen, step), tools)?)?;
        if fit.steps_done().is_multiple_of(per_pass) {
            last = measure(&head, tools)?;
            let reward = mean(&last);
            let point = Point { step: fit.steps_done(), loss: fit.mean_loss(), reward };
            (tools.progress)(phase, point);
            curve.push(point);
            if let Some(reward) = reward {
                fit.consider(reward)?;
            }
        }
    }
    let steps = fit.steps_done();
    let best = fit.finish_as_is()?;
    let report = PhaseReport {
        phase: phase.to_owned(),
        steps,
        examples: count,
        curve,
        best: best.as_ref().map(|(score, _)| *score),
        choice: Choice::between(&first, &last),
    };
    Ok((Round { last: head.snapshot()?, best }, report))
}

/// The better of two; of equals the later.
pub fn better(before: Option<Best>, now: Option<Best>) -> Option<Best> {
    match (before, now) {
        (Some(before), Some(now)) => Some(if now.0 >= before.0 { now } else { before }),
        (before, now) => now.or(before),
    }
}

/// The chosen weights as a head; `last` where there was nothing to choose by.
///
/// # Errors
/// Weights of another head.
pub fn taken(chosen: Option<Best>, last: Head) -> Result<Head, RecipeError> {
    match chosen {
        None => Ok(last),
        Some((_, tensors)) => {
            Head::from_tensors(last.config().clone(), tensors).map_err(RecipeError::Model)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_choice_by_few_questions_is_said_to_be_noise() {
        // Differences 1, −1, 0, 0 and one that is unknown: variance 2/3, half-width 1.96 · √(1/6).
        let first = [Some(0.0), Some(1.0), Some(0.5), Some(0.2), None];
        let last = [Some(1.0), Some(0.0), Some(0.5), Some(0.2), Some(1.0)];
        let choice = Choice::between(&first, &last).unwrap();
        assert_eq!(choice.questions, 4);
        assert!((choice.half_width - 1.96 * (1.0f64 / 6.0).sqrt()).abs() < 1e-12);
        assert!(choice.is_noise);
        // Ten thousand such questions tell two points apart: 1.96 · √(0.5 / 10,000) = 0.014.
        let many = |of: &[Option<f64>]| of[..4].repeat(2_500);
        let choice = Choice::between(&many(&first), &many(&last)).unwrap();
        assert!(!choice.is_noise && (choice.half_width - 0.01386).abs() < 1e-4, "{choice:?}");
        assert_eq!(Choice::between(&first[..1], &last[..1]), None);
    }
}

//! Warm-up on single documents: each score learns what its document alone earns.
//!
//! A selection of one document is a prefix of length 1, so its reward is RRPO's r_1 for that action.
//! Asking for all of them costs n generator calls a question, once, and makes the first step's
//! credit exact instead of sampled. None of the papers does this; 0 epochs leaves it out.

use super::fit::{Fit, Point, RecipeError, batch, steps_per_pass};
use super::instance::Instance;
use super::lists::{Lists, PhaseReport, Schedule, Tools, rows};
use super::rollout::{Credit, greedy_reward, rewards};
use crate::algorithms::utility;
use crate::policy::head::Head;
use actors::types::SelectionLimits;

/// Name of the phase in checkpoints.
pub const PHASE: &str = "utilities";

/// Regresses the scores on the rewards of single documents. Adds the trials made to the counter.
///
/// The weights after the epoch with the best greedy reward on the validation questions under
/// `limits` are taken, those of `start` included: with few questions the regression may do harm.
///
/// # Errors
/// No document could be scored, a loss that is no number, or a checkpoint of another run.
pub fn warm_up(
    (seed, schedule): (u64, &Schedule),
    start: &Head,
    instances: &[&Instance],
    (validation, limits, trials): (&[&Instance], SelectionLimits, &mut u64),
    tools: &mut Tools<'_>,
) -> Result<(Head, PhaseReport), RecipeError> {
    let alone = |i: &Instance| (0..i.len() as u32).map(|j| vec![j]).collect::<Vec<_>>();
    let asked: Vec<_> = instances.iter().map(|i| (*i, alone(i))).collect();
    *trials += asked.iter().map(|(_, orders)| orders.len() as u64).sum::<u64>();
    let scored = rewards(tools.environment, &asked, Credit::Whole);
    let known = |r: &Option<Vec<f64>>| r.as_ref().and_then(|r| r.last().copied());
    let lessons: Vec<(&Instance, Vec<Option<f64>>)> = instances
        .iter()
        .zip(scored)
        .map(|(i, scores)| (*i, scores.iter().map(known).collect::<Vec<_>>()))
        .filter(|(_, scores)| scores.iter().any(Option::is_some))
        .collect();
    if lessons.is_empty() {
        let reason = "no document could be scored: do the questions have answers?".to_owned();
        return Err(RecipeError::Nothing { phase: PHASE.to_owned(), reason });
    }
    let (head, variables) = start.trainable()?;
    let count = lessons.len();
    let mut fit = Fit::start(PHASE, &variables, schedule.optimizer(count), tools.keep)?;
    let (width, mut curve) = (head.config().state_width(), Vec::new());
    let measure = |head: &Head, tools: &Tools<'_>| {
        greedy_reward(head, validation, limits, tools.environment, tools.device)
    };
    if fit.steps_done() == 0
        && let Some(reward) = measure(&head, tools)?
    {
        fit.consider(reward)?;
    }
    while fit.steps_done() < schedule.steps(count) {
        let step = fit.steps_done();
        let chosen = batch(seed, PHASE, step, (count, schedule.batch_queries));
        let batch: Vec<&Instance> = chosen.iter().map(|&i| lessons[i].0).collect();
        let hide = (schedule.dropout, (seed, PHASE, step));
        let lists = Lists::new(&batch, width, hide, tools.device)?;
        let of = |value: fn(&Option<f64>) -> f64| -> Vec<Vec<f64>> {
            chosen.iter().map(|&i| lessons[i].1.iter().map(value).collect()).collect()
        };
        let targets = rows(&of(|r| r.unwrap_or(0.0)), lists.n, tools.device)?;
        let known = rows(&of(|r| f64::from(u8::from(r.is_some()))), lists.n, tools.device)?;
        fit.step(&utility::regression(&lists.forward(&head)?.scores, &targets, &known)?)?;
        if fit.steps_done().is_multiple_of(steps_per_pass(count, schedule.batch_queries)) {
            let reward = measure(&head, tools)?;
            let point = Point { step: fit.steps_done(), loss: fit.mean_loss(), reward };
            (tools.progress)(PHASE, point);
            curve.push(point);
            if let Some(reward) = reward {
                fit.consider(reward)?;
            }
        }
    }
    let steps = fit.steps_done();
    let best = fit.finish()?;
    let phase = PhaseReport { phase: PHASE.to_owned(), steps, examples: count, curve, best };
    Ok((head.snapshot()?, phase))
}

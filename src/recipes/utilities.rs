//! Warm-up on single documents: each score learns what its document alone earns, and the stop what
//! one more document adds.
//!
//! A selection of one document is a prefix of length 1, so its reward is RRPO's r_1 for that action.
//! Asking for all of them costs n generator calls a question, once, and makes the first step's
//! credit exact instead of sampled. The stop is then calibrated to the scores as they have become,
//! and both are trained together (`stop.rs`), for a few calls more. None of the papers does this; 0
//! epochs leaves it out.

use super::fit::RecipeError;
use super::instance::Instance;
use super::lists::{Lists, PhaseReport, Schedule, Tools, rows};
use super::optimise::{Course, better, optimise, taken};
use super::rollout::{Credit, logits, rewards};
use super::stop::{self, Choices, Continuation, Shown};
use crate::algorithms::utility;
use crate::policy::head::{Head, HeadOutput};
use actors::types::SelectionLimits;
use candle_core::Tensor;

/// Name of the phase in checkpoints.
pub const PHASE: &str = "utilities";
/// Name of the phase that trains the stop too.
pub const STOP: &str = "stop";
/// Documents that a list is made to go on beyond those it must have.
const FURTHER: usize = 3;
/// Lists whose choices are laid out together for the calibration.
const CALIBRATION_BATCH: usize = 64;

/// A question with what was asked of it.
struct Lesson<'a> {
    instance: &'a Instance,
    /// Reward of each document alone; `None` where it could not be scored.
    alone: Vec<Option<f64>>,
    continuation: Continuation,
}

/// Regresses the scores on the rewards of single documents, and the stop on what one more document
/// adds where stopping is a choice. Adds the trials made to the counter.
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
) -> Result<(Head, Vec<PhaseReport>), RecipeError> {
    let mut lessons = alone(instances, trials, tools);
    if lessons.is_empty() {
        let reason = "no document could be scored: do the questions have answers?".to_owned();
        return Err(RecipeError::Nothing { phase: PHASE.to_owned(), reason });
    }
    let course = |phase, schedule, may_keep_start| Course {
        phase,
        seed,
        schedule,
        count: lessons.len(),
        validation: (validation, limits),
        may_keep_start,
    };
    let singles = course(PHASE, schedule, true);
    let (round, report) = optimise(&singles, start, tools, &mut |head, (chosen, step), tools| {
        let picked: Vec<&Lesson<'_>> = chosen.iter().map(|&i| &lessons[i]).collect();
        let hide = (schedule.dropout, (seed, PHASE, step));
        Ok(loss(head, &picked, limits, hide, tools)?.0)
    })?;
    let shorter =
        Schedule { epochs: schedule.epochs.div_ceil(stop::EPOCHS_FOR_ONE as u64), ..*schedule };
    let with_stop = course(STOP, &shorter, true);
    let warmed = taken(round.best.clone(), round.last)?;
    go_on(&warmed, &mut lessons, (limits, trials), tools)?;
    let Some(calibrated) = calibrated(&warmed, &lessons, limits, tools)? else {
        return Ok((warmed, vec![report]));
    };
    let (after, second) =
        optimise(&with_stop, &calibrated, tools, &mut |head, (chosen, step), tools| {
            let picked: Vec<&Lesson<'_>> = chosen.iter().map(|&i| &lessons[i]).collect();
            let hide = (shorter.dropout, (seed, STOP, step));
            let (scores, choices) = loss(head, &picked, limits, hide, tools)?;
            match choices {
                None => Ok(scores),
                Some(choices) => Ok((scores + choices.loss()?)?),
            }
        })?;
    let head = taken(better(round.best, after.best), after.last)?;
    Ok((head, vec![report, second]))
}

/// Each document alone; questions of which none could be scored are left out.
fn alone<'a>(instances: &[&'a Instance], trials: &mut u64, tools: &Tools<'_>) -> Vec<Lesson<'a>> {
    let each = |i: &Instance| (0..i.len() as u32).map(|j| vec![j]).collect::<Vec<_>>();
    let asked: Vec<_> = instances.iter().map(|i| (*i, each(i))).collect();
    *trials += asked.iter().map(|(_, orders)| orders.len() as u64).sum::<u64>();
    let known = |r: &Option<Vec<f64>>| r.as_ref().and_then(|r| r.last().copied());
    let scored = rewards(tools.environment, &asked, Credit::Whole);
    let lesson = |(instance, scores): (&&'a Instance, Vec<_>)| Lesson {
        instance,
        alone: scores.iter().map(known).collect(),
        continuation: Continuation::default(),
    };
    let lessons = instances.iter().zip(scored).map(lesson);
    lessons.filter(|lesson| lesson.alone.iter().any(Option::is_some)).collect()
}

/// Asks what each question's greedy list under `head` earns if it is made to go on.
fn go_on(
    head: &Head,
    lessons: &mut [Lesson<'_>],
    (limits, trials): (SelectionLimits, &mut u64),
    tools: &Tools<'_>,
) -> Result<(), RecipeError> {
    if limits.k_min >= limits.k_max {
        return Ok(());
    }
    let instances: Vec<&Instance> = lessons.iter().map(|l| l.instance).collect();
    let mut asked = Vec::with_capacity(lessons.len());
    for (lesson, logits) in lessons.iter_mut().zip(logits(head, &instances, tools.device)?) {
        let masks = lesson.instance.masks(limits);
        lesson.continuation = Continuation::of(&logits, masks, FURTHER)
            .map_err(|error| RecipeError::Model(error.to_string()))?;
        asked.push((lesson.instance, lesson.continuation.prefixes(limits)));
    }
    *trials += asked.iter().map(|(_, orders)| orders.len() as u64).sum::<u64>();
    let scored = rewards(tools.environment, &asked, Credit::Whole);
    for (lesson, scored) in lessons.iter_mut().zip(scored) {
        let scored: Vec<_> =
            scored.into_iter().map(|r| r.and_then(|r| r.last().copied())).collect();
        lesson.continuation.learn(&scored, limits);
    }
    Ok(())
}

/// The head with its stop calibrated to its scores; `None` where no stop was a choice.
fn calibrated(
    head: &Head,
    lessons: &[Lesson<'_>],
    limits: SelectionLimits,
    tools: &Tools<'_>,
) -> Result<Option<Head>, RecipeError> {
    let mut points = Vec::new();
    for chunk in lessons.chunks(CALIBRATION_BATCH) {
        let picked: Vec<&Lesson<'_>> = chunk.iter().collect();
        if let (_, Some(choices)) = loss(head, &picked, limits, (0.0, (0, "", 0)), tools)? {
            points.extend(choices.points()?);
        }
    }
    if points.is_empty() {
        return Ok(None);
    }
    let (moved, variables) = head.trainable()?;
    stop::shift(&variables, stop::calibration(&points))?;
    Ok(Some(moved.snapshot()?))
}

/// The regression of the scores of some questions, and their choices to stop or go on.
fn loss(
    head: &Head,
    picked: &[&Lesson<'_>],
    limits: SelectionLimits,
    hide: (f64, (u64, &str, u64)),
    tools: &Tools<'_>,
) -> Result<(Tensor, Option<Choices>), RecipeError> {
    let batch: Vec<&Instance> = picked.iter().map(|l| l.instance).collect();
    let lists = Lists::new(&batch, head.config().state_width(), hide, tools.device)?;
    let output: HeadOutput = lists.forward(head)?;
    let of = |value: fn(&Option<f64>) -> f64| -> Vec<Vec<f64>> {
        picked.iter().map(|l| l.alone.iter().map(value).collect()).collect()
    };
    let targets = rows(&of(|r| r.unwrap_or(0.0)), lists.n, tools.device)?;
    let known = rows(&of(|r| f64::from(u8::from(r.is_some()))), lists.n, tools.device)?;
    let each = picked.iter().enumerate().map(|(list, lesson)| Shown {
        list,
        candidates: lesson.instance.len(),
        masks: lesson.instance.masks(limits),
        continuation: &lesson.continuation,
    });
    let shown: Vec<Shown<'_>> = each.collect();
    let scores = utility::regression(&output.scores, &targets, &known)?;
    Ok((scores, Choices::new(&output, &shown, (lists.n, tools.device))?))
}

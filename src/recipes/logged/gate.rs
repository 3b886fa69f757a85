//! Whether weights learned from the log are better than the champion: on decisions later than all they
//! were trained on, from logged rewards alone.
//!
//! Three figures, with the reward model of the training rows, so that no reward of a later row has
//! formed what it is compared with:
//!
//! 1. **Direction.** The covariance of the reward with what the candidate was moved along, within the
//!    query: `E[(r − m(x)) (h(a) − E_{π0} h)]`, h the reward model (without one the log-ratio of the
//!    candidate to the champion). It is `d/dt V` of `π_t ∝ π0 exp(t h)` at `t = 0`, has weights of 1, and
//!    so has power long before a whole step can be estimated. Its lower bound must be above 0: no
//!    candidate passes on noise. The training rows speak here too, each by the model that has seen no
//!    reward of its query ([`cross_fitted`]).
//! 2. **Gain.** What the model says the candidate's lists are worth above the champion's, times the
//!    slope of rewards on predictions that the later rows show (the calibrated direct method). It is
//!    as right as the model is linear in the truth, which the third figure checks.
//! 3. **Step.** What the candidate's greedy choices are worth against the champion's where they part,
//!    one step at a time: `Σ_t E[(1[a_t = c_t] − 1[a_t = g_t]) / P(a_t | a_<t) · (r − m(x))]`, the
//!    first-order gain of conservative policy iteration (Kakade and Langford 2002). Only single steps
//!    are weighted, so it can be estimated from what explores one step at a time. It rests on no model
//!    and must not contradict the gain: its upper bound may not be below 0. Without a model it is the
//!    gain itself: its lower bound may not be below `−tolerance`, and the logged departures must be
//!    enough to say so.
//!
//! The error rate α is spent over successive updates: look t has `α · 6 / (π² t²)`, which sums to α, so
//! the chance that any of all looks is wrong is at most α. A look is taken, and paid for, only where it
//! could tell: whether it can is read from how far the logged choices vary and how noisy rewards are,
//! never from which way they point. Knows rows and heads; no training.

use super::reward_model::{RewardModel, mean as mean_value};
use super::rows::{self, Row};
use super::{Knowledge, Recipe};
use crate::policy::head::Head;
use crate::policy::selection::{SelectionLogits, greedy_steps, log_probs, select};
use crate::recipes::gate::GateConfig;
use crate::recipes::online::list_logits;
use actors::ports::{Examination, LearnError};
use actors::types::{Exploration, Sample};
use rand::SeedableRng;
use rand::rngs::StdRng;
use statrs::distribution::{ContinuousCDF as _, Normal};

/// Draws from the champion behind the mean of the direction, for each row.
const DRAWS: usize = 32;
/// No log-ratio of candidate to champion counts beyond this many nats: the direction is what matters,
/// and one list must not carry it.
const RATIO_MAX: f64 = 3.0;

/// Largest half-width of the interval of the slope with which a look is taken: a model that is half
/// right can then be told from one that knows nothing.
const WIDTH_MAX: f64 = 0.5;

/// What one later decision says.
struct Look {
    /// Contribution to the direction.
    direction: f64,
    /// Square of h about its mean: what the slope divides by.
    spread: f64,
    /// What the model says the candidate's list is worth above the champion's.
    predicted: f64,
    /// Contribution to the step.
    step: f64,
    /// 1/P of the logged steps at which the candidate parts from the champion, and was followed.
    departures: Vec<f64>,
    /// Observation weight times reward.
    reward: f64,
}

/// Compares a candidate with the champion on later decisions.
///
/// look: number of this examination among those that could tell, from 1. Returns the finding, and
/// whether the look was taken.
///
/// # Errors
/// A tensor operation fails.
pub(crate) fn examine(
    (gate, recipe): (&GateConfig, &Recipe<'_>),
    (champion, candidate): (&Head, &Head),
    holdout: &[Sample],
    knowledge: &Knowledge,
    look: u64,
) -> Result<(Examination, bool), LearnError> {
    let width = champion.config().state_width();
    let (mut rows, _) = rows::collect(holdout, &[], width);
    rows::weigh(recipe.config, &mut rows, &knowledge.answering);
    let model = knowledge.model.as_ref().filter(|model| model.explains());
    let reward_mean = knowledge.reward_mean;
    let mut looks = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| row.behaviour.is_some() && row.reward.is_some()) {
        let logits =
            |head: &Head| list_logits(head, row.states, recipe.device).map_err(super::tensor);
        let both = (&logits(champion)?, &logits(candidate)?);
        let seen = at(recipe, row, both, model, reward_mean)?;
        looks.extend(seen);
    }
    let earlier = if model.is_some() { knowledge.earlier.as_slice() } else { &[] };
    Ok(judge(gate, (recipe.config.ess_min, model.is_some()), (&looks, earlier), look))
}

/// What a row says of the direction: its contribution to the covariance and to the square of h.
pub(super) type Direction = (f64, f64);

/// The direction by the training rows, each by the model that has seen no reward of its query.
///
/// # Errors
/// A tensor operation fails.
pub(super) fn cross_fitted(
    recipe: &Recipe<'_>,
    champion: &Head,
    rows: &[Row<'_>],
    model: &RewardModel,
) -> Result<Vec<Direction>, LearnError> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| row.behaviour.is_some()) {
        let Some(reward) = row.reward else { continue };
        let logits = list_logits(champion, row.states, recipe.device).map_err(super::tensor)?;
        let values = model.values(row).map_err(super::tensor)?;
        let masks = row.masks();
        let mut rng = StdRng::seed_from_u64(row.fold(usize::MAX) as u64);
        let drawn = (0..DRAWS).map(|_| {
            let drawn = select(&logits, masks, row.decision.exploration, &mut rng).ok()?;
            Some(values.of(&drawn.order))
        });
        let Some(drawn) = drawn.collect::<Option<Vec<f64>>>() else { continue };
        let mean = drawn.iter().sum::<f64>() / DRAWS as f64;
        let ahead = values.of(row.order) - mean;
        found.push((row.weight * (reward - mean) * ahead, row.weight * ahead * ahead));
    }
    Ok(found)
}

/// `None` for a record that contradicts its masks.
fn at(
    recipe: &Recipe<'_>,
    row: &Row<'_>,
    (champion, candidate): (&SelectionLogits, &SelectionLogits),
    model: Option<&RewardModel>,
    reward_mean: f64,
) -> Result<Option<Look>, LearnError> {
    let masks = row.masks();
    // The same numbers for the same row, whatever was looked at before.
    let mut rng = StdRng::seed_from_u64(row.fold(usize::MAX) as u64);
    let ratio = |order: &[u32]| -> Option<f64> {
        let of = |logits: &SelectionLogits| -> Option<f64> {
            Some(log_probs(logits, masks, order, recipe.temperature, 0.0).ok()?.iter().sum())
        };
        Some((of(candidate)? - of(champion)?).clamp(-RATIO_MAX, RATIO_MAX))
    };
    let models = model.map(|model| model.all(row)).transpose().map_err(super::tensor)?;
    let models = models.unwrap_or_default();
    let value = |order: &[u32]| mean_value(&models, order);
    let follows = |logits: &SelectionLogits| greedy_steps(logits, masks, row.order).ok();
    let (Some(logged_ratio), Some(reward), Some(new), Some(old)) =
        (ratio(row.order), row.reward, follows(candidate), follows(champion))
    else {
        return Ok(None);
    };
    let (mut directions, mut values) = (Vec::with_capacity(DRAWS), Vec::with_capacity(DRAWS));
    for _ in 0..DRAWS {
        let Ok(drawn) = select(champion, masks, row.decision.exploration, &mut rng) else {
            return Ok(None);
        };
        let value = value(&drawn.order);
        let Some(ratio) = ratio(&drawn.order) else { return Ok(None) };
        directions.push(if models.is_empty() { ratio } else { value });
        values.push(value);
    }
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let (direction_mean, value_mean) = (mean(&directions), mean(&values));
    let logged = if models.is_empty() { logged_ratio } else { value(row.order) } - direction_mean;
    let greedy = |logits: &SelectionLogits, rng: &mut StdRng| {
        select(logits, masks, Exploration::Greedy, rng).ok().map(|s| value(&s.order))
    };
    let predicted = match (greedy(candidate, &mut rng), greedy(champion, &mut rng)) {
        (Some(new), Some(old)) => new - old,
        _ => return Ok(None),
    };
    // It must not depend on what was chosen.
    let baseline = if models.is_empty() { reward_mean } else { value_mean };
    let (mut gain, mut departures) = (0.0, Vec::new());
    for ((log_prob, new), old) in row.decision.step_log_probs.iter().zip(new).zip(old) {
        // A step without chance says nothing of its alternatives.
        if *log_prob > -1e-9 || new == old {
            continue;
        }
        let inverse = (-log_prob).exp();
        gain += if new { inverse } else { -inverse };
        if new {
            departures.push(row.weight * inverse);
        }
    }
    Ok(Some(Look {
        direction: row.weight * (reward - baseline) * logged,
        spread: row.weight * logged * logged,
        predicted,
        step: row.weight * gain * (reward - baseline),
        departures,
        reward: row.weight * reward,
    }))
}

/// z with P(Z ≤ z) = p for a standard normal Z.
fn standard_normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// Mean and standard error.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n.max(1.0);
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n.max(1.0)).sqrt())
}

/// Why nothing can be told of a candidate with a model: the slope of `answers` is known to ± width only.
fn varied_too_little(width: f64, answers: usize) -> Option<String> {
    let further = answers as f64 * ((width / WIDTH_MAX).powi(2) - 1.0);
    let further = if further.is_finite() { format!("{further:.0}") } else { "many".to_owned() };
    (width > WIDTH_MAX).then(|| {
        format!(
            "what was chosen varied too little to tell whether a step towards the candidate pays (slope of \
             rewards on predictions known to ±{width:.2}, {WIDTH_MAX} needed): about {further} further \
             answers, or more exploration"
        )
    })
}

/// Why nothing can be told of a candidate without a model: too few of the later answers follow it.
fn departed_too_rarely(ess: f64, ess_min: f64, answers: usize) -> Option<String> {
    let further = answers as f64 * (ess_min / ess.max(0.1) - 1.0);
    (ess < ess_min).then(|| {
        format!(
            "what was logged departs as the candidate does like {ess:.1} decisions, {ess_min:.0} needed: \
             about {further:.0} further answers"
        )
    })
}

fn judge(
    gate: &GateConfig,
    (ess_min, is_modelled): (f64, bool),
    (looks, earlier): (&[Look], &[Direction]),
    look: u64,
) -> (Examination, bool) {
    let alpha = gate.alpha * 6.0 / (std::f64::consts::PI.powi(2) * (look.max(1) as f64).powi(2));
    let quantile = standard_normal_quantile(1.0 - alpha);
    let directions = || {
        let later = looks.iter().map(|l| (l.direction, l.spread));
        later.chain(earlier.iter().copied())
    };
    let (direction, direction_error) = moments(directions().map(|(covariance, _)| covariance));
    let direction_low = direction - quantile * direction_error;
    let (old, _) = moments(looks.iter().map(|l| l.reward));
    let (step, step_error) = moments(looks.iter().map(|l| l.step));
    let (step_low, step_high) = (step - quantile * step_error, step + quantile * step_error);
    let (spread, _) = moments(directions().map(|(_, square)| square));
    let (predicted, _) = moments(looks.iter().map(|l| l.predicted));
    // Rewards on predictions: 1 where the model is calibrated.
    let slope = |covariance: f64| if spread > 0.0 { covariance / spread } else { 0.0 };
    let slopes = (slope(direction_low), slope(direction + quantile * direction_error));
    let (gain, low, high) = if is_modelled {
        (slope(direction) * predicted, slopes.0 * predicted, slopes.1 * predicted)
    } else {
        (step, step_low, step_high)
    };
    let new = old + gain;
    let departures = || looks.iter().flat_map(|l| &l.departures);
    let (sum, squares) = (departures().sum::<f64>(), departures().map(|w| w * w).sum::<f64>());
    let ess = if squares > 0.0 { sum * sum / squares } else { 0.0 };
    let width = if spread > 0.0 { quantile * direction_error / spread } else { f64::INFINITY };
    let untold = if looks.len() < gate.queries_min {
        Some(format!("{} later answered decisions, {} needed", looks.len(), gate.queries_min))
    } else if is_modelled {
        varied_too_little(width, directions().count())
    } else {
        departed_too_rarely(ess, ess_min, looks.len())
    };
    let is_taken = untold.is_none();
    let (accepted, verdict) = if let Some(why) = untold {
        (false, why)
    } else if direction_low <= 0.0 {
        (false, "no evidence that a step towards the candidate pays".to_owned())
    } else if step_high < 0.0 {
        (false, "the logged departures contradict the predicted gain".to_owned())
    } else if gain <= gate.gain_min {
        (false, format!("no gain above {}", gate.gain_min))
    } else if low < -gate.tolerance {
        (false, format!("may be worse by more than {}", gate.tolerance))
    } else {
        (true, "better".to_owned())
    };
    let reason = format!(
        "{verdict}: reward {new:.4} against {old:.4}, gain {gain:+.4} [{low:+.4}, {high:+.4}], slope of \
         rewards on predictions at least {:.2}, step by the logged departures alone {step:+.4} \
         [{step_low:+.4}, {step_high:+.4}], {ess:.0} of them, {} later answers, look {look} at alpha \
         {alpha:.5}",
        slopes.0,
        looks.len()
    );
    let examination = Examination {
        accepted,
        reason,
        queries: looks.len() as u64,
        champion: old,
        candidate: new,
        difference: (low, high),
    };
    (examination, is_taken)
}

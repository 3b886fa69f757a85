//! Whether weights learned from the log are better than the champion: on decisions later than all they
//! were trained on, from logged rewards alone.
//!
//! Two figures, both doubly robust with the reward model of the training rows, so that no reward of a
//! later row has formed what it is compared with:
//!
//! 1. **Direction.** `d/dt V(π_t)` at `t = 0` on the path `π_t ∝ π0^{1−t} π^t` from the champion to the
//!    candidate: the covariance of the reward with `h(a) = ln π(a|x) − ln π0(a|x)` under what was
//!    logged. Its weights are 1, so it has power long before a whole step can be estimated. Its lower
//!    bound must be above 0: no candidate passes on noise.
//! 2. **Step.** The greedy candidate's value less the greedy champion's, self-normalised, whose weights
//!    are `1/π0`. Its lower bound must not be below `−tolerance`.
//!
//! The error rate α is spent over successive updates: look t has `α · 6 / (π² t²)`, which sums to α, so
//! the chance that any of all looks is wrong is at most α. Knows rows and heads; no training.

use super::reward_model::{RewardModel, mean as mean_value};
use super::rows::{self, Row};
use super::{Knowledge, Recipe};
use crate::policy::head::Head;
use crate::policy::selection::{Masks, SelectionLogits, log_probs, select};
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

/// What one later decision says.
struct Look {
    /// Observation weight, mean about 1.
    weight: f64,
    /// Contribution to the direction.
    direction: f64,
    /// 1/π0 where the candidate (the champion) does what was logged, else 0.
    candidate: f64,
    champion: f64,
    reward: f64,
    /// q̂ of the logged list, of the candidate's and of the champion's.
    logged_value: f64,
    candidate_value: f64,
    champion_value: f64,
}

/// Compares a candidate with the champion on later decisions.
///
/// look: number of this examination, from 1.
///
/// # Errors
/// A tensor operation fails.
pub(crate) fn examine(
    (gate, recipe): (&GateConfig, &Recipe<'_>),
    (champion, candidate): (&Head, &Head),
    holdout: &[Sample],
    knowledge: &Knowledge,
    look: u64,
) -> Result<Examination, LearnError> {
    let width = champion.config().state_width();
    let (mut rows, _) = rows::collect(holdout, &[], width);
    rows::weigh(recipe.config, &mut rows, &knowledge.answering);
    let model = knowledge.model.as_ref().filter(|model| model.explains());
    let mut looks = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| row.behaviour.is_some() && row.reward.is_some()) {
        let logits =
            |head: &Head| list_logits(head, row.states, recipe.device).map_err(super::tensor);
        let seen = at(recipe, row, &logits(champion)?, &logits(candidate)?, model)?;
        looks.extend(seen);
    }
    Ok(judge(gate, recipe.config.ess_min, &looks, look))
}

/// `None` for a record that contradicts its masks.
fn at(
    recipe: &Recipe<'_>,
    row: &Row<'_>,
    champion: &SelectionLogits,
    candidate: &SelectionLogits,
    model: Option<&RewardModel>,
) -> Result<Option<Look>, LearnError> {
    let masks = Masks { tokens: row.tokens(), limits: row.limits() };
    // The same numbers for the same row, whatever was looked at before.
    let mut rng = StdRng::seed_from_u64(row.fold(usize::MAX) as u64);
    let ratio = |order: &[u32]| -> Option<f64> {
        let of = |logits: &SelectionLogits| -> Option<f64> {
            Some(log_probs(logits, masks, order, recipe.temperature, 0.0).ok()?.iter().sum())
        };
        Some((of(candidate)? - of(champion)?).clamp(-RATIO_MAX, RATIO_MAX))
    };
    let greedy = |logits: &SelectionLogits, rng: &mut StdRng| {
        select(logits, masks, Exploration::Greedy, rng).ok().map(|s| s.order)
    };
    let (Some(best), Some(old)) = (greedy(candidate, &mut rng), greedy(champion, &mut rng)) else {
        return Ok(None);
    };
    let models = model.map(|model| model.all(row.states)).transpose().map_err(super::tensor)?;
    let models = models.unwrap_or_default();
    let value = |order: &[u32]| mean_value(&models, order);
    let (Some(logged_ratio), Some(reward), Some(behaviour)) =
        (ratio(row.order), row.reward, row.behaviour)
    else {
        return Ok(None);
    };
    let (mut ratios, mut values) = (Vec::with_capacity(DRAWS), Vec::with_capacity(DRAWS));
    for _ in 0..DRAWS {
        let Ok(drawn) = select(champion, masks, row.decision.exploration, &mut rng) else {
            return Ok(None);
        };
        let Some(ratio) = ratio(&drawn.order) else { return Ok(None) };
        ratios.push(ratio);
        values.push(value(&drawn.order));
    }
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let (ratio_mean, value_mean) = (mean(&ratios), mean(&values));
    let pairs = ratios.iter().zip(&values);
    let modelled =
        pairs.map(|(r, v)| (r - ratio_mean) * (v - value_mean)).sum::<f64>() / (DRAWS - 1) as f64;
    let logged_value = value(row.order);
    let inverse = (-behaviour).exp();
    let if_same = |order: &[u32]| if order == row.order { inverse } else { 0.0 };
    let surprise = row.weight * (reward - logged_value);
    Ok(Some(Look {
        weight: row.weight,
        direction: surprise * (logged_ratio - ratio_mean) + modelled,
        candidate: if_same(&best),
        champion: if_same(&old),
        reward,
        logged_value,
        candidate_value: value(&best),
        champion_value: value(&old),
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

fn judge(gate: &GateConfig, ess_min: f64, looks: &[Look], look: u64) -> Examination {
    let n = looks.len() as f64;
    let alpha = gate.alpha * 6.0 / (std::f64::consts::PI.powi(2) * (look.max(1) as f64).powi(2));
    let quantile = standard_normal_quantile(1.0 - alpha);
    let (direction, direction_error) = moments(looks.iter().map(|l| l.direction));
    let direction_low = direction - quantile * direction_error;
    // Self-normalised: weights are divided by their mean, separately for both policies.
    let weights = |of: fn(&Look) -> f64| {
        let sum: f64 = looks.iter().map(|l| l.weight * of(l)).sum();
        let squares: f64 = looks.iter().map(|l| (l.weight * of(l)).powi(2)).sum();
        (
            if sum > 0.0 { n / sum } else { 0.0 },
            if squares > 0.0 { sum * sum / squares } else { 0.0 },
        )
    };
    let ((candidate_scale, candidate_ess), (champion_scale, champion_ess)) =
        (weights(|l| l.candidate), weights(|l| l.champion));
    let term =
        |l: &Look, weight: f64, scale: f64| l.weight * weight * scale * (l.reward - l.logged_value);
    let of_candidate = |l: &Look| l.candidate_value + term(l, l.candidate, candidate_scale);
    let of_champion = |l: &Look| l.champion_value + term(l, l.champion, champion_scale);
    let (new, _) = moments(looks.iter().map(of_candidate));
    let (old, _) = moments(looks.iter().map(of_champion));
    let (step, step_error) = moments(looks.iter().map(|l| of_candidate(l) - of_champion(l)));
    let (low, high) = (step - quantile * step_error, step + quantile * step_error);
    let ess = candidate_ess.min(champion_ess);
    let (accepted, verdict) = if looks.len() < gate.queries_min {
        (false, format!("{} later answered decisions, {} needed", looks.len(), gate.queries_min))
    } else if ess < ess_min {
        let further = n * (ess_min / ess.max(1e-9) - 1.0);
        (
            false,
            format!(
                "what was logged supports the candidate like {ess:.0} decisions, {ess_min:.0} needed: \
             about {further:.0} further answers"
            ),
        )
    } else if direction_low <= 0.0 {
        (false, "no evidence that a step towards the candidate pays".to_owned())
    } else if step <= gate.gain_min {
        (false, format!("no gain above {}", gate.gain_min))
    } else if low < -gate.tolerance {
        (false, format!("may be worse by more than {}", gate.tolerance))
    } else {
        (true, "better".to_owned())
    };
    let reason = format!(
        "{verdict}: direction {direction:+.4} (at least {direction_low:+.4}), reward {new:.4} against \
         {old:.4}, difference {step:+.4} [{low:+.4}, {high:+.4}] on {} later answers, effective \
         sample size {ess:.0}, look {look} at alpha {alpha:.5}",
        looks.len()
    );
    Examination {
        accepted,
        reason,
        queries: looks.len() as u64,
        champion: old,
        candidate: new,
        difference: (low, high),
    }
}

//! When a stage is over, and how: the preconditions of every step from shadow to champion.
//!
//! Pure: figures and the time waited in, a step with its evidence out. Harm is looked for at every
//! look, at `alpha_harm` over all looks and all metrics together; a win is decided at the largest
//! share only, non-inferior within the margin.

use super::{CanaryConfig, Comparison, ShadowConfig, ShadowFigures};
use crate::sequential::rule::{Finding, Rule};
use crate::sequential::{Moments, confidence, quantile, ratio};
use crate::types::{Digest, PolicySnapshot, PolicyState, StageEvidence};
use serde::{Deserialize, Serialize};

/// Metrics that harm is looked for in: reward and four guard-rails share `alpha_harm`.
const METRICS: f64 = 5.0;
/// Share of the units that are control, by the places that they have.
const CONTROL_SHARE: f64 = 1.0 - super::assignment::CONTROL_FROM;
/// Units of an arm from which a metric that is the same for all of them is taken as it is.
const PLAIN_UNITS: u64 = 10;
/// E-value from which a split of the units is not the one that was asked for.
const MISMATCH: f64 = 1_000.0;

/// What a look at a stage comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It goes on; why it is not over.
    Stay(String),
    /// It is passed.
    Pass(StageEvidence),
    /// The candidate is to retire.
    Retire(StageEvidence),
}

impl Step {
    fn over(mut evidence: StageEvidence, passed: bool, reason: String) -> Self {
        evidence.passed = passed;
        evidence.reason = reason;
        if passed { Self::Pass(evidence) } else { Self::Retire(evidence) }
    }
}

/// Evidence of a stage without verdict, from figures and thresholds by name; what is not finite has
/// no place in it.
fn evidence(
    stage: PolicyState,
    queries: u64,
    inputs: &Digest,
    figures: &[(&str, f64)],
    thresholds: &[(&str, f64)],
) -> StageEvidence {
    let evidence = StageEvidence::new(stage, queries).with(figures, thresholds);
    StageEvidence { inputs: inputs.clone(), ..evidence }
}

/// SHA-256 over lines, for the inputs of a stage.
pub fn inputs_digest(lines: impl IntoIterator<Item = String>) -> Digest {
    let text: Vec<String> = lines.into_iter().collect();
    PolicySnapshot::digest_of(text.join("\n").as_bytes())
}

/// A look at a shadow after `waited_ms`.
#[expect(clippy::cast_precision_loss, reason = "counts of a stage")]
pub fn shadow_step(config: &ShadowConfig, seen: &ShadowFigures, waited_ms: u64) -> Step {
    let failures = seen.failures as f64 / (seen.decisions.max(1)) as f64;
    let paired = confidence::asymptotic(&seen.difference, 0.05, config.decisions_min as f64);
    let difference = paired.map_or((f64::NAN, f64::NAN), |interval| (interval.low, interval.high));
    let figures = [
        ("decisions", seen.decisions as f64),
        ("failures", failures),
        ("kendall_tau", seen.kendall_tau.mean),
        ("overlap", seen.overlap.mean),
        ("k_difference", seen.k_difference.mean),
        ("decide_ms", seen.decide_ms.mean),
        ("tokens_ratio", seen.tokens_ratio),
        ("judged", seen.difference.count as f64),
        ("difference", seen.difference.mean),
        ("difference_low", difference.0),
        ("difference_high", difference.1),
    ];
    let thresholds = [
        ("decisions_min", config.decisions_min as f64),
        ("failures_max", config.failures_max),
        ("overlap_min", config.overlap_min),
        ("tokens_ratio_max", config.tokens_ratio_max),
        ("tolerance", config.tolerance),
    ];
    let evidence =
        evidence(PolicyState::Shadow, seen.decisions, &seen.inputs, &figures, &thresholds);
    let over = |passed, reason| Step::over(evidence.clone(), passed, reason);
    if seen.decisions < config.decisions_min {
        let (found, asked) = (seen.decisions, config.decisions_min);
        return if waited_ms >= config.timeout_ms {
            over(false, format!("{found} of {asked} shadow decisions within its time"))
        } else {
            Step::Stay(format!("{found} of {asked} shadow decisions"))
        };
    }
    if failures > config.failures_max {
        let most = config.failures_max;
        return over(false, format!("{failures:.4} of its decisions failed, at most {most} may"));
    }
    if seen.overlap.mean < config.overlap_min {
        let (found, least) = (seen.overlap.mean, config.overlap_min);
        return over(false, format!("overlap {found:.3} with what was served, at least {least}"));
    }
    if seen.tokens_ratio > config.tokens_ratio_max {
        let (found, most) = (seen.tokens_ratio, config.tokens_ratio_max);
        return over(false, format!("{found:.2} times the context tokens, at most {most}"));
    }
    if paired.is_some_and(|interval| interval.high < -config.tolerance) {
        let (found, high) = (seen.difference.mean, difference.1);
        return over(false, format!("paired answers are worse: {found:+.4}, below {high:+.4}"));
    }
    let (decisions, overlap, ratio) = (seen.decisions, seen.overlap.mean, seen.tokens_ratio);
    over(true, format!("{decisions} decisions, overlap {overlap:.3}, {ratio:.2} times the tokens"))
}

fn rule(config: &CanaryConfig) -> Rule {
    Rule {
        alpha_win: config.alpha_win,
        alpha_harm: config.alpha_harm / METRICS,
        margin: config.margin,
        harm_margin: 0.0,
        tuned_for: config.tuned_for,
        minimum: config.units_min,
    }
}

/// Evidence, as an e-value, that a canary wins: what canaries beside each other are compared by.
pub fn win_evidence(config: &CanaryConfig, seen: &Comparison) -> f64 {
    rule(config).look(&seen.treatment.reward, &seen.control.reward).evidence_win
}

/// One guard-rail: how far it is surely breached.
struct Guard {
    name: &'static str,
    /// Lower bound of what must not be above 0.
    excess: Option<f64>,
}

/// A share with one more unit of either kind, so that an arm whose units all fail can be told from
/// one whose units never do (Agresti, Caffo, The American Statistician 54(4), 2000).
fn widened(share: &Moments) -> Moments {
    let mut share = *share;
    share.push(0.0, 0.0);
    share.push(1.0, 0.0);
    share
}

fn guards(config: &CanaryConfig, seen: &Comparison) -> [Guard; 4] {
    let (treatment, control) = (&seen.treatment, &seen.control);
    let alpha = config.alpha_harm / METRICS;
    let limits = &config.guards;
    let above = |own: &Moments, other: &Moments| {
        let low = confidence::difference_low(own, other, alpha, config.tuned_for);
        // Where no unit differs from another there is nothing to doubt once there are enough.
        let is_plain = own.count.min(other.count) >= PLAIN_UNITS;
        low.or_else(|| is_plain.then_some(own.mean - other.mean))
    };
    let threshold = control.latency_p95().map(|p95| p95 * limits.latency_ratio);
    let slow = threshold.and_then(|threshold| {
        let of = |durations: &[f64]| {
            let mut share = quantile::Exceedance::default();
            durations.iter().for_each(|duration| share.push(*duration, threshold));
            share
        };
        // Of control 5% lie above its own 95th percentile; of the candidate no more may lie above
        // the widened one.
        let own = widened(&of(&treatment.durations).moments());
        confidence::asymptotic_low(&own, alpha, config.tuned_for).map(|low| low - 0.05)
    });
    let mut scaled = control.tokens;
    scaled.mean *= limits.tokens_ratio;
    scaled.m2 *= limits.tokens_ratio * limits.tokens_ratio;
    [
        Guard {
            name: "errors",
            excess: above(&widened(&treatment.failures), &widened(&control.failures))
                .map(|low| low - limits.errors),
        },
        Guard {
            name: "abstentions",
            excess: above(&widened(&treatment.abstentions), &widened(&control.abstentions))
                .map(|low| low - limits.abstentions),
        },
        Guard { name: "latency", excess: slow },
        Guard { name: "tokens", excess: above(&treatment.tokens, &scaled) },
    ]
}

/// A look at a canary with this share of the units after `waited_ms` at it. The last share is
/// passed by a win, those before by enough units without harm.
pub fn canary_step(
    config: &CanaryConfig,
    (share, is_discovered): (f64, bool),
    seen: &Comparison,
    waited_ms: u64,
) -> Step {
    let (treatment, control) = (&seen.treatment, &seen.control);
    let look = rule(config).look(&treatment.reward, &control.reward);
    let guards = guards(config, seen);
    let mut evidence = canary_evidence(config, seen, &look, &guards);
    evidence.share = Some(share);
    let over = |passed, reason| Step::over(evidence.clone(), passed, reason);
    let bounds =
        look.difference.map_or(String::new(), |d| format!(" [{:+.4}, {:+.4}]", d.low, d.high));
    let shown = format!(
        "reward {:+.4}{bounds} on {} against {} units at share {share}",
        look.estimate, treatment.reward.count, control.reward.count
    );
    if let Some(guard) = guards.iter().find(|guard| guard.excess.is_some_and(|e| e > 0.0)) {
        return over(false, format!("guard-rail {} is breached; {shown}", guard.name));
    }
    if look.finding == Finding::Harm {
        return over(false, format!("harm: {shown}"));
    }
    let (own, other) = seen.split;
    let places = seen.settled.unwrap_or(share);
    if ratio::mismatch(seen.split, places / (places + CONTROL_SHARE)) >= MISMATCH {
        return over(
            false,
            format!("{own} and {other} units are not the split that was asked for"),
        );
    }
    let is_last = config.shares.last().is_none_or(|last| share >= *last);
    // At this share, whatever the ones before it saw.
    let has_enough = seen.fresh.0.min(seen.fresh.1) >= config.units_min;
    if has_enough && !is_last {
        return over(true, format!("no harm: {shown}"));
    }
    if has_enough && look.finding == Finding::Win && is_discovered {
        return over(true, format!("not worse than -{}: {shown}", config.margin));
    }
    if treatment.queries >= config.queries_max || waited_ms >= config.timeout_ms {
        return over(false, format!("undecided within its time: {shown}"));
    }
    Step::Stay(shown)
}

/// What the champion's experiment against itself shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AaFigures {
    /// Units of either arm with a reward.
    pub units: (u64, u64),
    /// Reward of the one arm less that of the other.
    pub difference: f64,
    /// Its anytime-valid interval; absent before it has one.
    pub interval: Option<(f64, f64)>,
    /// What cannot be by chance alone.
    pub bias: Option<String>,
}

/// A look at the champion's experiment against itself, by the rules of a canary with no margin.
pub fn aa_figures(config: &CanaryConfig, seen: &Comparison) -> AaFigures {
    let rule = Rule { margin: 0.0, alpha_win: config.alpha_harm / METRICS, ..rule(config) };
    let look = rule.look(&seen.treatment.reward, &seen.control.reward);
    let units = (seen.treatment.reward.count, seen.control.reward.count);
    let interval = look.difference.map(|difference| (difference.low, difference.high));
    let shown = format!("{:+.4} between {} and {} units", look.estimate, units.0, units.1);
    let guards = guards(config, seen);
    let breached = guards.iter().find(|guard| guard.excess.is_some_and(|excess| excess > 0.0));
    let split = config.aa_share / (config.aa_share + CONTROL_SHARE);
    let what = if look.finding != Finding::Undecided {
        Some("rewards differ".to_owned())
    } else if ratio::mismatch(seen.split, split) >= MISMATCH {
        Some(format!("{:?} units are not the split that was asked for", seen.split))
    } else {
        breached.map(|guard| format!("{} differ", guard.name))
    };
    let bias = what.map(|what| {
        format!("the instrumentation is biased: the champion against itself: {what}, {shown}")
    });
    AaFigures { units, difference: look.estimate, interval, bias }
}

fn canary_evidence(
    config: &CanaryConfig,
    seen: &Comparison,
    look: &crate::sequential::rule::Look,
    guards: &[Guard],
) -> StageEvidence {
    #[expect(clippy::cast_precision_loss, reason = "counts of an experiment")]
    let count = |n: u64| n as f64;
    let (treatment, control) = (&seen.treatment, &seen.control);
    let interval = look.difference.map_or((f64::NAN, f64::NAN), |d| (d.low, d.high));
    let figures = [
        ("treatment_units", count(treatment.units)),
        ("control_units", count(control.units)),
        ("treatment_judged", count(treatment.reward.count)),
        ("control_judged", count(control.reward.count)),
        ("treatment_reward", treatment.reward.mean),
        ("control_reward", control.reward.mean),
        ("treatment_variance", treatment.reward.variance()),
        ("control_variance", control.reward.variance()),
        ("judge_noise", treatment.reward.noise.max(control.reward.noise)),
        ("difference", look.estimate),
        ("difference_low", interval.0),
        ("difference_high", interval.1),
        ("evidence_win", look.evidence_win),
        ("evidence_harm", look.evidence_harm),
        ("treatment_failures", treatment.failures.mean),
        ("control_failures", control.failures.mean),
        ("treatment_abstentions", treatment.abstentions.mean),
        ("control_abstentions", control.abstentions.mean),
        ("treatment_tokens", treatment.tokens.mean),
        ("control_tokens", control.tokens.mean),
        ("treatment_latency_p95_ms", treatment.latency_p95().unwrap_or(f64::NAN)),
        ("control_latency_p95_ms", control.latency_p95().unwrap_or(f64::NAN)),
        ("mixed_units", count(seen.mixed)),
        ("mismatched_queries", count(seen.mismatched)),
        ("preferred_champion", count(seen.preferences.0)),
        ("preferred_candidate", count(seen.preferences.1)),
        ("preferred_neither", count(seen.preferences.2)),
    ];
    let excess = guards.iter().map(|guard| (guard.name, guard.excess.unwrap_or(f64::NAN)));
    let limits = &config.guards;
    let thresholds = [
        ("alpha_win", config.alpha_win),
        ("alpha_harm", config.alpha_harm),
        ("discovery_rate", config.discovery_rate),
        ("margin", config.margin),
        ("units_min", count(config.units_min)),
        ("tuned_for", config.tuned_for),
        ("errors", limits.errors),
        ("abstentions", limits.abstentions),
        ("latency_ratio", limits.latency_ratio),
        ("tokens_ratio", limits.tokens_ratio),
    ];
    let queries = treatment.queries + control.queries;
    let mut evidence = evidence(PolicyState::Canary, queries, &seen.inputs, &figures, &thresholds);
    for (name, excess) in excess.filter(|(_, excess)| excess.is_finite()) {
        evidence.figures.insert(format!("excess_{name}"), excess);
    }
    evidence
}

#[cfg(test)]
mod tests;

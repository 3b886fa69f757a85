//! The report of `regrade ope`: one JSON document, and a table of it for people.

use super::targets::Target;
use crate::evaluate::off_policy::traffic::{Judged, Window};
use crate::evaluate::off_policy::{
    Diagnostics, Estimator, Evaluation, ExplorationCost, Figure, Logged, OffPolicyConfig, Refusal,
    Unusable,
};
use actors::types::{Exploration, PolicyStamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Of this document.
    pub(super) schema: u32,
    /// What the log held.
    pub(super) traffic: TrafficReport,
    /// What exploration cost on it.
    pub(super) exploration: ExplorationCost,
    /// Under which settings.
    pub(super) settings: OffPolicyConfig,
    /// Each target.
    pub(super) policies: Vec<PolicyReport>,
}

/// What the log held.
#[derive(Debug, Serialize)]
pub(super) struct TrafficReport {
    window: Window,
    /// Judged episodes of the window.
    judged: usize,
    /// Their mean reward; `null` of none.
    reward: Option<f64>,
    /// When the first and the last of them ended, milliseconds since 1970.
    ended_ms: Option<(u64, u64)>,
    /// Records that are no judged episode of the window, by reason.
    unusable: BTreeMap<Unusable, u64>,
}

impl TrafficReport {
    pub(super) fn new(judged: &Judged, window: Window) -> Self {
        let samples = &judged.samples;
        let total: f64 = samples.iter().map(|s| s.reward.total).sum();
        let ended = |at: Option<&actors::types::Sample>| at.map(|s| s.episode.finished_ms);
        Self {
            window,
            judged: samples.len(),
            reward: (!samples.is_empty()).then(|| total / samples.len() as f64),
            ended_ms: ended(samples.first()).zip(ended(samples.last())),
            unusable: judged.unusable.clone(),
        }
    }
}

/// What is said of one target.
#[derive(Debug, Serialize)]
pub(super) struct PolicyReport {
    policy: String,
    /// Its weights, where it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<PolicyStamp>,
    /// How weights would be served; `null` as each decision was, and for rules.
    exploration: Option<Exploration>,
    /// `better`, `worse`, `no difference found` or `refused`, by `estimator` against the logged
    /// policy.
    verdict: &'static str,
    /// Why there is no interval; absent where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// Judged episodes that say nothing of this target, by reason.
    unusable: BTreeMap<Unusable, u64>,
    /// Share of the rewards' variance that the reward model explains out of fold.
    reward_model_r_squared: Option<f64>,
    /// Estimates with their diagnostics; absent where refused.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    evaluation: Option<Evaluation>,
    /// What the weights are like where that is why it was refused.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    diagnostics: Option<Diagnostics>,
}

impl PolicyReport {
    pub(super) fn new(target: &Target, exploration: Option<Exploration>) -> Self {
        Self {
            policy: target.name().to_owned(),
            weights: target.stamp().cloned(),
            exploration: exploration.filter(|_| target.explores()),
            verdict: "refused",
            refused: None,
            unusable: BTreeMap::new(),
            reward_model_r_squared: None,
            evaluation: None,
            diagnostics: None,
        }
    }

    pub(super) fn refused(self, why: &Refusal, logged: Option<(&Logged, f64)>) -> Self {
        Self {
            refused: Some(why.to_string()),
            unusable: logged.map(|(l, _)| l.unusable.clone()).unwrap_or_default(),
            diagnostics: logged.map(|(l, clip)| Diagnostics::of(&l.rows, clip)),
            ..self
        }
    }

    pub(super) fn estimated(self, found: Evaluation, logged: &Logged) -> Self {
        let by = found.estimates.get(found.estimator.name());
        let (verdict, refused) = match by {
            Some(Figure::Estimated(e)) if e.difference.low > 0.0 => ("better", None),
            Some(Figure::Estimated(e)) if e.difference.high < 0.0 => ("worse", None),
            Some(Figure::Refused { refused }) => ("refused", Some(refused.clone())),
            Some(Figure::Estimated(_)) | None => ("no difference found", None),
        };
        let diagnostics = refused.is_some().then(|| found.diagnostics.clone());
        Self {
            verdict,
            unusable: logged.unusable.clone(),
            reward_model_r_squared: logged.r_squared,
            evaluation: refused.is_none().then_some(found),
            refused,
            diagnostics,
            ..self
        }
    }
}

/// The report as a table for people: a block for each target.
pub(super) fn table(report: &Report) -> String {
    let mut out = String::new();
    let traffic = &report.traffic;
    let reward = traffic.reward.map_or_else(|| "-".to_owned(), |r| format!("{r:.4}"));
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} judged episodes, mean reward {reward}{}",
        traffic.judged,
        listed("; not usable: ", &traffic.unusable)
    );
    explored(&mut out, &report.exploration);
    for policy in &report.policies {
        let _ = writeln!(out, "\n{}: {}", policy.policy, policy.verdict);
        if let Some(reason) = &policy.refused {
            let _ = writeln!(out, "  {reason}");
        }
        let diagnostics = policy.evaluation.as_ref().map(|e| &e.diagnostics);
        if let Some(d) = diagnostics.or(policy.diagnostics.as_ref()) {
            let _ = writeln!(
                out,
                "  {} decisions of {} queries{}; effective {:.1}, largest weight {:.2}, clipped \
                 {:.1}%, mean weight {:.3} ± {:.3}",
                d.rows,
                d.queries,
                listed(", not usable: ", &policy.unusable),
                d.ess,
                d.weight_max,
                100.0 * d.clipped_share,
                d.weight_mean,
                d.weight_mean_error
            );
        }
        if let Some(evaluation) = &policy.evaluation {
            estimates(&mut out, evaluation, 100.0 * (1.0 - report.settings.alpha));
        }
    }
    out
}

/// A point is a hundredth of the reward.
fn explored(out: &mut String, found: &ExplorationCost) {
    if found.decisions == 0 {
        let _ = writeln!(out, "exploration cost: no judged decision was left to chance");
        return;
    }
    let mean = |reward: Option<f64>| reward.map_or_else(|| "-".to_owned(), |r| format!("{r:.4}"));
    let figure = match found.cost {
        Some((low, value, high)) => format!(
            "greedy mean - logged mean = {:+.2} points of reward [{:+.2}, {:+.2}]",
            100.0 * value,
            100.0 * low,
            100.0 * high
        ),
        None => format!("not known, {}", found.reason),
    };
    let _ = writeln!(
        out,
        "exploration cost: {figure} at share {:.2}; {} of {} decisions explored, mean reward {}, \
         of the greedy {}",
        found.share.unwrap_or_default(),
        found.explored,
        found.decisions,
        mean(found.explored_reward),
        mean(found.greedy_reward)
    );
}

fn estimates(out: &mut String, evaluation: &Evaluation, percent: f64) {
    let level = format!("{percent:.0}%");
    let _ = writeln!(
        out,
        "  {:<14} {:>8} {:>18}  {:>9} {:>20}",
        "estimator", "reward", level, "to logged", level
    );
    for estimator in Estimator::ALL {
        let Some(Figure::Estimated(found)) = evaluation.estimates.get(estimator.name()) else {
            continue;
        };
        let (r, d) = (found.reward, found.difference);
        let mark = if estimator == evaluation.estimator { "  <- verdict" } else { "" };
        let _ = writeln!(
            out,
            "  {:<14} {:>8.4} {:>18}  {:>+9.4} {:>20}{mark}",
            estimator.name(),
            r.value,
            format!("[{:.4}, {:.4}]", r.low, r.high),
            d.value,
            format!("[{:+.4}, {:+.4}]", d.low, d.high)
        );
    }
    if let Some((low, high)) = evaluation.sequence {
        let interval = format!("[{low:.4}, {high:.4}]");
        let _ =
            writeln!(out, "  {:<14} {:>8} {interval:>18}  at every sample size", "sequence", "");
    }
}

fn listed(lead: &str, counts: &BTreeMap<Unusable, u64>) -> String {
    let name = |reason: &Unusable| {
        serde_json::to_value(reason).ok().and_then(|v| v.as_str().map(str::to_owned))
    };
    let parts: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {}", name(reason).unwrap_or_default()))
        .collect();
    if parts.is_empty() { String::new() } else { format!("{lead}{}", parts.join(", ")) }
}

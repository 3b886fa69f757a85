//! Contenders against one baseline on the same questions, with p-values corrected for their number.

use super::{Part, PolicyRow, RESAMPLES, is_fixed};
use crate::evaluate::resample::{difference, holm};
use crate::evaluate::scores::ScoreTable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is compared.
const COMPARED: [&str; 8] = [
    "f1",
    "em",
    "rouge_l",
    "label_accuracy",
    "recall_at_5",
    "ndcg_at_10",
    "context_tokens",
    "retrievals",
];

/// A paired difference: contender less baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Of the means.
    pub mean: f64,
    /// 95% paired bootstrap interval over questions and runs; not corrected.
    pub interval: (f64, f64),
    /// Two-sided p-value of the paired bootstrap.
    pub p: f64,
    /// The same after Holm's correction for all contenders compared with this baseline by this
    /// metric on this data set.
    pub p_holm: f64,
}

/// A contender against the baseline on the same questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Contender.
    pub name: String,
    /// Data set.
    pub dataset: String,
    /// The baseline.
    pub against: String,
    /// Difference of mean F1; `None` where no answer is known.
    pub f1: Option<f64>,
    /// 95% paired bootstrap interval.
    pub f1_interval: Option<(f64, f64)>,
    /// Context tokens of the contender over those of the baseline; `None` where that has none.
    pub context_tokens_ratio: Option<f64>,
    /// The difference by metric, `f1` among them.
    #[serde(default)]
    pub differences: BTreeMap<String, Difference>,
}

/// Everybody but the baseline against it; without a name the baseline is the best fixed cut, and
/// the other cuts are left aside. None where there is no baseline.
pub(super) fn compare(
    rows: &[PolicyRow],
    scores: &ScoreTable,
    part: &Part,
    against: Option<&str>,
) -> Vec<Comparison> {
    let baseline = match against {
        Some(name) => rows.iter().position(|row| row.name == name),
        None => best_fixed(rows),
    };
    let Some(baseline) = baseline else { return Vec::new() };
    let is_compared =
        |&at: &usize| at != baseline && (against.is_some() || !is_fixed(&rows[at].name));
    let compared: Vec<usize> = (0..rows.len()).filter(is_compared).collect();
    let mut comparisons: Vec<Comparison> =
        compared.iter().map(|&at| one((&rows[at], &rows[baseline]), scores, part)).collect();
    for metric in COMPARED {
        let of = |c: &mut Comparison| c.differences.get(metric).map(|d| d.p);
        let p: Vec<f64> = comparisons.iter_mut().filter_map(of).collect();
        let known = comparisons.iter_mut().filter_map(|c| c.differences.get_mut(metric));
        known.zip(holm(&p)).for_each(|(difference, p)| difference.p_holm = p);
    }
    comparisons
}

/// By F1; where no answer is known, by nDCG, then by recall.
fn best_fixed(rows: &[PolicyRow]) -> Option<usize> {
    let worth = |row: &PolicyRow| {
        let known = ["f1", "ndcg_at_10", "recall_selected"].iter().find_map(|m| row.mean(m));
        known.unwrap_or(0.0)
    };
    let fixed = (0..rows.len()).filter(|&at| is_fixed(&rows[at].name));
    // Of equal ones the first: the one with fewer documents, as they are listed.
    fixed.rev().max_by(|&a, &b| worth(&rows[a]).total_cmp(&worth(&rows[b])))
}

fn one((row, baseline): (&PolicyRow, &PolicyRow), scores: &ScoreTable, part: &Part) -> Comparison {
    let of = |name: &str| scores.contenders.iter().find(|contender| contender.name == name);
    let mut differences = BTreeMap::new();
    if let (Some(left), Some(right)) = (of(&row.name), of(&baseline.name)) {
        for metric in COMPARED {
            let values = part.values(metric, &[left, right]);
            if values.iter().all(|values| !values.is_empty()) {
                let found = difference(&values[0], &values[1], RESAMPLES, 0);
                let (mean, interval, p) = (found.mean, found.interval, found.p);
                let found = Difference { mean, interval, p, p_holm: p };
                differences.insert(metric.to_owned(), found);
            }
        }
    }
    let f1 = differences.get("f1");
    let tokens = baseline.context_tokens_mean;
    Comparison {
        name: row.name.clone(),
        dataset: row.dataset.clone(),
        against: baseline.name.clone(),
        f1: f1.map(|d| d.mean),
        f1_interval: f1.map(|d| d.interval),
        context_tokens_ratio: (tokens > 0.0).then(|| row.context_tokens_mean / tokens),
        differences,
    }
}

//! The one report schema of `demo`, `evaluate` and `train`, and its table.

use super::Scored;
use super::interval::paired_bootstrap;
use crate::datasets::Question;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const RESAMPLES: usize = 2000;
/// Name of the policy before any training; no learned one.
pub(crate) const UNTRAINED: &str = "untrained";

/// A policy's figures on one data set (`all` over every question).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// Policy.
    pub name: String,
    /// Data set.
    pub dataset: String,
    /// Questions.
    pub questions: usize,
    /// Mean token F1 in [0, 1].
    pub f1: f64,
    /// 95% bootstrap interval over questions.
    pub f1_interval: (f64, f64),
    /// Mean exact match in [0, 1].
    pub em: f64,
    /// 95% bootstrap interval over questions.
    pub em_interval: (f64, f64),
    /// Mean share of known positives in the first five by score; `None` where none is known.
    pub recall_at_5: Option<f64>,
    /// Mean number of documents.
    pub k_mean: f64,
    /// Mean context tokens.
    pub context_tokens_mean: f64,
    /// Mean passages the reader reads to answer.
    pub reader_calls_mean: f64,
}

/// A policy against the best fixed k on the same questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Policy.
    pub name: String,
    /// Data set.
    pub dataset: String,
    /// The fixed-k policy with the highest F1 there.
    pub against: String,
    /// Difference of mean F1.
    pub f1: f64,
    /// 95% paired bootstrap interval.
    pub f1_interval: (f64, f64),
    /// Context tokens of the policy over those of the baseline.
    pub context_tokens_ratio: f64,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Questions evaluated.
    pub questions: usize,
    /// Seed of the run.
    pub seed: u64,
    /// One row a policy and data set.
    pub policies: Vec<PolicyRow>,
    /// Learned policies against the best fixed k.
    pub comparisons: Vec<Comparison>,
    /// Weight swaps while serving; 0 outside a service.
    pub swaps: u64,
    /// Requests that got no answer.
    pub failed_requests: u64,
    /// Further keys of the command that wrote it.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Report {
    /// Averages scores (`[contender][question]`) by data set and overall. Policies whose name starts
    /// with `retrieval_k` are the baselines of the comparisons.
    pub fn new(
        seed: u64,
        names: &[String],
        scores: &[Vec<Scored>],
        questions: &[Question],
    ) -> Self {
        let mut datasets: Vec<Option<&str>> = vec![None];
        let named: BTreeSet<&str> = questions.iter().map(|q| q.dataset.as_str()).collect();
        if named.len() > 1 {
            datasets.extend(named.iter().map(|d| Some(*d)));
        }
        let (mut policies, mut comparisons) = (Vec::new(), Vec::new());
        for dataset in datasets {
            let member: Vec<usize> = (0..questions.len())
                .filter(|&i| dataset.is_none_or(|d| questions[i].dataset == d))
                .collect();
            let label = dataset.unwrap_or(match named.first() {
                Some(only) if named.len() == 1 => only,
                _ => "all",
            });
            let rows: Vec<PolicyRow> = names
                .iter()
                .zip(scores)
                .map(|(name, scores)| row(name, label, scores, &member))
                .collect();
            comparisons.extend(compare(&rows, scores, &member));
            policies.extend(rows);
        }
        let questions = questions.len();
        let extra = serde_json::Map::new();
        Self { questions, seed, policies, comparisons, swaps: 0, failed_requests: 0, extra }
    }
}

fn is_baseline(name: &str) -> bool {
    name.starts_with("retrieval_k")
}

fn row(name: &str, dataset: &str, scores: &[Scored], member: &[usize]) -> PolicyRow {
    let values =
        |of: fn(&Scored) -> f64| member.iter().map(|&i| of(&scores[i])).collect::<Vec<_>>();
    let (f1, em) = (values(|s| s.f1), values(|s| s.em));
    let recall: Vec<f64> = member.iter().filter_map(|&i| scores[i].recall_at_5).collect();
    let k_mean = mean(&values(|s| s.k));
    PolicyRow {
        name: name.to_owned(),
        dataset: dataset.to_owned(),
        questions: member.len(),
        f1: mean(&f1),
        f1_interval: paired_bootstrap(&f1, RESAMPLES, 0),
        em: mean(&em),
        em_interval: paired_bootstrap(&em, RESAMPLES, 0),
        recall_at_5: (!recall.is_empty()).then(|| mean(&recall)),
        k_mean,
        context_tokens_mean: mean(&values(|s| s.context_tokens)),
        reader_calls_mean: k_mean,
    }
}

fn compare(rows: &[PolicyRow], scores: &[Vec<Scored>], member: &[usize]) -> Vec<Comparison> {
    let baselines = (0..rows.len()).filter(|&i| is_baseline(&rows[i].name));
    let Some(best) = baselines.max_by(|&a, &b| rows[a].f1.total_cmp(&rows[b].f1)) else {
        return Vec::new();
    };
    let against = |i: usize| {
        let pairs = member.iter().map(|&q| scores[i][q].f1 - scores[best][q].f1);
        let differences: Vec<f64> = pairs.collect();
        Comparison {
            name: rows[i].name.clone(),
            dataset: rows[i].dataset.clone(),
            against: rows[best].name.clone(),
            f1: mean(&differences),
            f1_interval: paired_bootstrap(&differences, RESAMPLES, 0),
            context_tokens_ratio: rows[i].context_tokens_mean
                / rows[best].context_tokens_mean.max(1e-9),
        }
    };
    let mut comparisons: Vec<Comparison> =
        (0..rows.len()).filter(|&i| !is_baseline(&rows[i].name)).map(against).collect();
    let learned: Vec<usize> = (0..rows.len())
        .filter(|&i| !is_baseline(&rows[i].name) && rows[i].name != UNTRAINED)
        .collect();
    if learned.len() > 1 {
        comparisons.push(pooled(rows, scores, member, (&learned, best)));
    }
    comparisons
}

/// All learned policies as one: per question the mean over policies (seeds), so that the interval is
/// over questions and a lucky seed counts for no more than the others.
fn pooled(
    rows: &[PolicyRow],
    scores: &[Vec<Scored>],
    member: &[usize],
    (learned, best): (&[usize], usize),
) -> Comparison {
    let n = learned.len() as f64;
    let of = |q: usize| learned.iter().map(|&i| scores[i][q].f1).sum::<f64>() / n;
    let differences: Vec<f64> = member.iter().map(|&q| of(q) - scores[best][q].f1).collect();
    let tokens = learned.iter().map(|&i| rows[i].context_tokens_mean).sum::<f64>() / n;
    Comparison {
        name: format!("mean of {} learned", learned.len()),
        dataset: rows[best].dataset.clone(),
        against: rows[best].name.clone(),
        f1: mean(&differences),
        f1_interval: paired_bootstrap(&differences, RESAMPLES, 0),
        context_tokens_ratio: tokens / rows[best].context_tokens_mean.max(1e-9),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The report as a table for people; percentages.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<18} {:<14} {:>5}  {:>5} {:>14}  {:>5}  {:>5}  {:>8}  {:>6}",
        "policy", "data set", "n", "F1", "95%", "EM", "k", "tokens", "R@5"
    );
    for row in &report.policies {
        let interval =
            format!("[{:.1}, {:.1}]", 100.0 * row.f1_interval.0, 100.0 * row.f1_interval.1);
        let recall = row.recall_at_5.map_or("-".to_owned(), |r| format!("{:.1}", 100.0 * r));
        let _ = writeln!(
            out,
            "{:<18} {:<14} {:>5}  {:>5.1} {:>14}  {:>5.1}  {:>5.2}  {:>8.1}  {:>6}",
            row.name,
            row.dataset,
            row.questions,
            100.0 * row.f1,
            interval,
            100.0 * row.em,
            row.k_mean,
            row.context_tokens_mean,
            recall
        );
    }
    for c in &report.comparisons {
        let _ = writeln!(
            out,
            "{} against {} on {}: F1 {:+.1} [{:+.1}, {:+.1}], context tokens x{:.2}",
            c.name,
            c.against,
            c.dataset,
            100.0 * c.f1,
            100.0 * c.f1_interval.0,
            100.0 * c.f1_interval.1,
            c.context_tokens_ratio
        );
    }
    out
}

//! The figures of one contender on one data set.

use super::{Part, RESAMPLES};
use crate::evaluate::metrics::METRICS;
use crate::evaluate::resample::{Values, interval};
use crate::evaluate::scores::ContenderScores;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Metrics that come with an interval.
const WITH_INTERVAL: [&str; 6] =
    ["f1", "em", "rouge_l", "label_accuracy", "recall_at_5", "ndcg_at_10"];

/// A mean with what it is a mean of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Mean over the questions (and runs) where it is known.
    pub mean: f64,
    /// 95% bootstrap interval over questions and runs, for the metrics that claims rest on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Questions where it is known.
    pub questions: usize,
}

/// Percentiles of times over questions and runs, milliseconds; 0 where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Median time to choose.
    pub decide_p50: f64,
    /// 95th percentile.
    pub decide_p95: f64,
    /// Median time to answer.
    pub answer_p50: f64,
    /// 95th percentile.
    pub answer_p95: f64,
}

/// A contender's figures on one data set. Over data sets (`macro`) means are means of the data
/// sets' means; spread, histogram and times are always those of all questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// Contender.
    pub name: String,
    /// Data set.
    pub dataset: String,
    /// Questions.
    pub questions: usize,
    /// Runs (seeds) of it.
    #[serde(default = "one")]
    pub runs: usize,
    /// Mean token F1 in [0, 1]; `None` where no answer is known.
    pub f1: Option<f64>,
    /// 95% bootstrap interval over questions and runs.
    pub f1_interval: Option<(f64, f64)>,
    /// Mean token F1 of each run.
    #[serde(default)]
    pub f1_by_run: Vec<f64>,
    /// Mean exact match in [0, 1].
    pub em: Option<f64>,
    /// 95% bootstrap interval over questions and runs.
    pub em_interval: Option<(f64, f64)>,
    /// Mean share of known positives in the first five by score; `None` where none is known.
    pub recall_at_5: Option<f64>,
    /// Every quality metric that is known of any question, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, Estimate>,
    /// Mean number of documents put before the generator.
    pub k_mean: f64,
    /// Its standard deviation over questions and runs (n in the denominator).
    #[serde(default)]
    pub k_sd: f64,
    /// How often 0, 1, 2, … documents were put before the generator, over questions and runs.
    #[serde(default)]
    pub k_histogram: Vec<u64>,
    /// Mean context tokens.
    pub context_tokens_mean: f64,
    /// Mean passages the reader reads for one question.
    pub reader_calls_mean: f64,
    /// Mean searches for one question.
    #[serde(default)]
    pub retrievals_mean: f64,
    /// Share of questions answered without any retrieval.
    #[serde(default)]
    pub without_retrieval: f64,
    /// Times.
    #[serde(default)]
    pub latency_ms: Latency,
}

fn one() -> usize {
    1
}

impl PolicyRow {
    /// A quality metric's mean.
    pub fn mean(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric).map(|estimate| estimate.mean)
    }
}

/// The row of a contender on a part of the questions.
pub(super) fn row(contender: &ContenderScores, part: &Part) -> PolicyRow {
    let of = |metric: &str| part.values(metric, &[contender]).pop().unwrap_or_default();
    let mut metrics = BTreeMap::new();
    for metric in METRICS.iter().filter(|metric| metric.is_quality) {
        let values = of(metric.name);
        if !values.is_empty() {
            metrics.insert(metric.name.to_owned(), estimate(metric.name, &values));
        }
    }
    let mean = |metric: &str| metrics.get(metric).map(|estimate: &Estimate| estimate.mean);
    let bounds = |metric: &str| metrics.get(metric).and_then(|estimate| estimate.interval);
    let k = pooled(contender, part, "k");
    let retrievals = pooled(contender, part, "retrievals");
    let without = retrievals.iter().filter(|count| **count < 0.5).count();
    PolicyRow {
        name: contender.name.clone(),
        dataset: part.label.clone(),
        questions: part.questions().count(),
        runs: contender.runs.len(),
        f1: mean("f1"),
        f1_interval: bounds("f1"),
        f1_by_run: of("f1").by_run(),
        em: mean("em"),
        em_interval: bounds("em"),
        recall_at_5: mean("recall_at_5"),
        k_mean: of("k").mean(),
        k_sd: deviation(&k),
        k_histogram: histogram(&k),
        context_tokens_mean: of("context_tokens").mean(),
        reader_calls_mean: of("reader_calls").mean(),
        retrievals_mean: of("retrievals").mean(),
        without_retrieval: without as f64 / retrievals.len().max(1) as f64,
        latency_ms: latency(contender, part),
        metrics,
    }
}

fn estimate(metric: &str, values: &Values) -> Estimate {
    let bounds = WITH_INTERVAL.contains(&metric).then(|| interval(values, RESAMPLES, 0));
    Estimate { mean: values.mean(), interval: bounds, questions: values.questions() }
}

/// The values of every question in every run.
fn pooled(contender: &ContenderScores, part: &Part, metric: &str) -> Vec<f64> {
    let columns = contender.runs.iter().filter_map(|run| run.get(metric));
    columns.flat_map(|column| part.questions().filter_map(|at| column[at])).collect()
}

fn latency(contender: &ContenderScores, part: &Part) -> Latency {
    let [decide, answer] = ["decide_ms", "answer_ms"].map(|metric| {
        let mut times = pooled(contender, part, metric);
        times.sort_unstable_by(f64::total_cmp);
        times
    });
    Latency {
        decide_p50: percentile(&decide, 0.5),
        decide_p95: percentile(&decide, 0.95),
        answer_p50: percentile(&answer, 0.5),
        answer_p95: percentile(&answer, 0.95),
    }
}

/// The nearest-rank percentile of sorted values; 0 of none.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn deviation(values: &[f64]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt()
}

fn histogram(values: &[f64]) -> Vec<u64> {
    let places = || values.iter().map(|value| value.max(0.0).round() as usize);
    let mut counts = vec![0; places().max().map_or(0, |most| most + 1)];
    places().for_each(|k| counts[k] += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_and_percentiles_by_hand() {
        assert_eq!(histogram(&[0.0, 2.0, 2.0, 3.0]), [1, 0, 2, 1]);
        assert!(histogram(&[]).is_empty());
        assert!((deviation(&[1.0, 3.0]) - 1.0).abs() < 1e-12);
        let sorted: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!((percentile(&sorted, 0.5), percentile(&sorted, 0.95)), (10.0, 19.0));
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}

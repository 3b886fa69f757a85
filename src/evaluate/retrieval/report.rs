//! The report of retrieval figures, and its table.

use super::Figures;
use crate::evaluate::interval::paired_bootstrap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const RESAMPLES: usize = 1_000;

/// The figures of one retriever on one data set (`all` over every question), means in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetrievalRow {
    /// Retriever, or file of a run.
    pub name: String,
    /// Data set.
    pub dataset: String,
    /// Questions.
    pub questions: usize,
    /// Share of questions with a relevant passage first.
    pub hit_at_1: f64,
    /// … among the first five.
    pub hit_at_5: f64,
    /// … among the first twenty.
    pub hit_at_20: f64,
    /// Mean share of the relevant passages among the first five.
    pub recall_at_5: f64,
    /// … among the first twenty.
    pub recall_at_20: f64,
    /// … among the first hundred.
    pub recall_at_100: f64,
    /// Mean normalised discounted cumulative gain of the first ten.
    pub ndcg_at_10: f64,
    /// 95% bootstrap interval over questions.
    pub ndcg_at_10_interval: (f64, f64),
    /// Mean reciprocal rank, 0 beyond the tenth.
    pub mrr_at_10: f64,
    /// Mean time of a search, milliseconds; `None` for a run of another system.
    pub search_ms_mean: Option<f64>,
}

/// The report of a retrieval evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetrievalReport {
    /// Passages asked for.
    pub depth: usize,
    /// Questions left out because no passage is known to be relevant.
    pub without_relevant: usize,
    /// One row a retriever and data set.
    pub retrievers: Vec<RetrievalRow>,
}

impl RetrievalReport {
    /// Without rows.
    pub(super) fn empty(depth: usize, without_relevant: usize) -> Self {
        Self { depth, without_relevant, retrievers: Vec::new() }
    }

    /// Adds the rows of one retriever: figures and data set of each question, seconds of all.
    pub(super) fn add(
        &mut self,
        name: &str,
        datasets: &[&str],
        figures: &[Figures],
        seconds: Option<f64>,
    ) {
        let named: BTreeSet<&str> = datasets.iter().copied().collect();
        let ms = seconds.map(|seconds| 1_000.0 * seconds / figures.len().max(1) as f64);
        let mut add = |label: &str, of: &[Figures]| {
            self.retrievers.push(RetrievalRow { search_ms_mean: ms, ..row(name, label, of) });
        };
        match named.first() {
            Some(only) if named.len() == 1 => {
                add(if only.is_empty() { "all" } else { only }, figures);
            }
            _ => {
                add("all", figures);
                for dataset in named {
                    let pairs = datasets.iter().zip(figures).filter(|(d, _)| **d == dataset);
                    let of: Vec<Figures> = pairs.map(|(_, figures)| *figures).collect();
                    add(dataset, &of);
                }
            }
        }
    }
}

fn row(name: &str, dataset: &str, figures: &[Figures]) -> RetrievalRow {
    let mean = |of: &dyn Fn(&Figures) -> f64| {
        figures.iter().map(of).sum::<f64>() / figures.len().max(1) as f64
    };
    let gains: Vec<f64> = figures.iter().map(|f| f.ndcg_at_10).collect();
    RetrievalRow {
        name: name.to_owned(),
        dataset: dataset.to_owned(),
        questions: figures.len(),
        hit_at_1: mean(&|f| f.hit_at[0]),
        hit_at_5: mean(&|f| f.hit_at[1]),
        hit_at_20: mean(&|f| f.hit_at[2]),
        recall_at_5: mean(&|f| f.recall_at[0]),
        recall_at_20: mean(&|f| f.recall_at[1]),
        recall_at_100: mean(&|f| f.recall_at[2]),
        ndcg_at_10: mean(&|f| f.ndcg_at_10),
        ndcg_at_10_interval: paired_bootstrap(&gains, RESAMPLES, 0),
        mrr_at_10: mean(&|f| f.mrr_at_10),
        search_ms_mean: None,
    }
}

/// The report as a table for people.
pub fn retrieval_table(report: &RetrievalReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<18} {:<16} {:>6}  {:>6} {:>6} {:>6}  {:>6} {:>6} {:>6}  {:>7} {:>16}  {:>6}  {:>7}",
        "retriever",
        "data set",
        "n",
        "hit@1",
        "hit@5",
        "hit@20",
        "R@5",
        "R@20",
        "R@100",
        "nDCG@10",
        "95%",
        "MRR@10",
        "ms"
    );
    for r in &report.retrievers {
        let interval = format!("[{:.4}, {:.4}]", r.ndcg_at_10_interval.0, r.ndcg_at_10_interval.1);
        let _ = writeln!(
            out,
            "{:<18} {:<16} {:>6}  {:>6.3} {:>6.3} {:>6.3}  {:>6.3} {:>6.3} {:>6.3}  {:>7.4} {:>16}  \
             {:>6.4}  {:>7}",
            r.name,
            r.dataset,
            r.questions,
            r.hit_at_1,
            r.hit_at_5,
            r.hit_at_20,
            r.recall_at_5,
            r.recall_at_20,
            r.recall_at_100,
            r.ndcg_at_10,
            interval,
            r.mrr_at_10,
            r.search_ms_mean.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}")),
        );
    }
    if report.without_relevant > 0 {
        let _ = writeln!(
            out,
            "{} questions were left out: no passage is known to be relevant",
            report.without_relevant
        );
    }
    out
}

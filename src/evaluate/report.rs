//! The one report schema of `demo`, `evaluate`, `compare` and `train`.
//!
//! Owns what is averaged over what and who is compared with whom; [`rows`] and [`comparisons`] do
//! it. Everything in a report follows from its scores.

mod comparisons;
mod rows;
mod text;

pub use comparisons::{Comparison, Difference};
pub use rows::{Estimate, Latency, PolicyRow};
pub use text::table;

use super::resample::Values;
use super::scores::{ContenderScores, ScoreTable, ScoresError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Replicates of every bootstrap: p-values are no finer than 1 / 2,001.
pub(super) const RESAMPLES: usize = 2_000;
/// What the names of fixed cuts of the retrieval order begin with.
const FIXED: &str = "retrieval_k";
/// Name of a row whose figures are means over data sets, each counting the same.
pub(super) const MACRO: &str = "macro";
/// Name of a row over every question.
pub(super) const ALL: &str = "all";

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Questions evaluated.
    pub questions: usize,
    /// Seed of the run.
    pub seed: u64,
    /// One row a contender and data set; with several data sets also over `all` questions and
    /// over data sets (`macro`).
    pub policies: Vec<PolicyRow>,
    /// Contenders against the baseline, data set by data set.
    pub comparisons: Vec<Comparison>,
    /// Weight swaps while serving; 0 outside a service.
    #[serde(default)]
    pub swaps: u64,
    /// Requests that got no answer.
    #[serde(default)]
    pub failed_requests: u64,
    /// Every figure of every question, what was left out and why: what `regrade compare` reads.
    #[serde(default)]
    pub scores: ScoreTable,
    /// Further keys of the command that wrote it.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Report {
    /// Averages and compares. The baseline is the contender `against`; without one, data set by
    /// data set, the fixed cut `retrieval_k…` of the highest F1, and then the other cuts are not
    /// compared.
    ///
    /// # Errors
    /// Scores that contradict themselves, or a baseline that is not there.
    pub fn new(seed: u64, scores: ScoreTable, against: Option<&str>) -> Result<Self, ScoresError> {
        scores.check("the evaluation")?;
        if let Some(name) = against.filter(|name| !scores.names().contains(name)) {
            let known = scores.names().join(", ");
            return Err(ScoresError::Unknown { name: name.to_owned(), known });
        }
        let (mut policies, mut comparisons) = (Vec::new(), Vec::new());
        for part in parts(&scores) {
            let rows: Vec<PolicyRow> =
                scores.contenders.iter().map(|contender| rows::row(contender, &part)).collect();
            comparisons.extend(comparisons::compare(&rows, &scores, &part, against));
            policies.extend(rows);
        }
        let extra = serde_json::Map::new();
        let questions = scores.questions.len();
        let (swaps, failed_requests) = (0, 0);
        Ok(Self { questions, seed, policies, comparisons, swaps, failed_requests, scores, extra })
    }

    /// The label of the rows that speak for the whole: `all`, or the only data set's name.
    pub fn overall(&self) -> &str {
        self.policies.first().map_or(ALL, |row| row.dataset.as_str())
    }

    /// The rows of one data set, or of `all` or `macro`.
    pub fn rows_of(&self, dataset: &str) -> impl Iterator<Item = &PolicyRow> {
        self.policies.iter().filter(move |row| row.dataset == dataset)
    }
}

/// Whether a contender is a cut of the retrieval order at a fixed k.
pub(super) fn is_fixed(name: &str) -> bool {
    name.starts_with(FIXED)
}

/// What a row is about: a label, and the questions by stratum. A figure is the mean over strata.
pub(super) struct Part {
    pub(super) label: String,
    pub(super) strata: Vec<Vec<usize>>,
}

impl Part {
    /// Every question once.
    fn questions(&self) -> impl Iterator<Item = usize> + '_ {
        self.strata.iter().flatten().copied()
    }

    /// The values of a metric in every run, on the questions where it is known for all of
    /// `contenders`; one each. Empty where it is known of none.
    fn values(&self, metric: &str, contenders: &[&ContenderScores]) -> Vec<Values> {
        let runs = || contenders.iter().flat_map(|contender| &contender.runs);
        let is_known = |&&at: &&usize| {
            runs().all(|run| run.get(metric).is_some_and(|column| column[at].is_some()))
        };
        let known: Vec<Vec<usize>> = self
            .strata
            .iter()
            .map(|stratum| stratum.iter().filter(is_known).copied().collect())
            .collect();
        let of = |contender: &&ContenderScores| {
            let pick = |column: Option<&Vec<Option<f64>>>, stratum: &Vec<usize>| {
                stratum.iter().filter_map(|&at| column?[at]).collect()
            };
            let run = |run: &super::scores::Columns| {
                known.iter().map(|stratum| pick(run.get(metric), stratum)).collect()
            };
            Values::new(contender.runs.iter().map(run).collect())
        };
        contenders.iter().map(of).collect()
    }
}

fn parts(scores: &ScoreTable) -> Vec<Part> {
    let named: BTreeSet<&str> = scores.datasets.iter().map(String::as_str).collect();
    let all: Vec<usize> = (0..scores.questions.len()).collect();
    let of = |name: &str| -> Vec<usize> {
        all.iter().copied().filter(|&at| scores.datasets[at] == name).collect()
    };
    match named.first() {
        Some(only) if named.len() == 1 && !only.is_empty() => {
            vec![Part { label: (*only).to_owned(), strata: vec![all] }]
        }
        _ if named.len() < 2 => vec![Part { label: ALL.to_owned(), strata: vec![all] }],
        _ => {
            let strata = named.iter().map(|name| of(name)).collect();
            let whole = [
                Part { label: ALL.to_owned(), strata: vec![all.clone()] },
                Part { label: MACRO.to_owned(), strata },
            ];
            let each = named.iter().map(|name| {
                let label = if name.is_empty() { "unnamed" } else { name };
                Part { label: label.to_owned(), strata: vec![of(name)] }
            });
            whole.into_iter().chain(each).collect()
        }
    }
}

#[cfg(test)]
mod tests;

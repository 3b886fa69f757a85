//! Retrieval alone: how high the passages stand that hold the answer.
//!
//! Owns the figures and their report. Definitions are those of trec_eval; a question without any
//! relevant passage is left out and counted. Knows ports only.

mod report;

pub use report::{RetrievalReport, RetrievalRow, retrieval_table};

use super::EvaluateError;
use crate::datasets::{Qrels, Question};
use actors::ports::{Search, SearchIndex};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Grades of the documents known for one question; the rest count as not relevant.
pub type Grades = BTreeMap<String, i32>;

/// The figures of one ranking, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// 1 where a relevant document is the first; then among the first 5 and 20.
    pub hit_at: [f64; 3],
    /// Share of the relevant documents among the first 5, 20 and 100.
    pub recall_at: [f64; 3],
    /// Discounted gain of the first ten over that of the best order:
    /// `Σ g_i / log2(i + 1)`, gain g = grade where relevant, ranks i from 1.
    pub ndcg_at_10: f64,
    /// 1 / rank of the first relevant document; 0 beyond the tenth.
    pub mrr_at_10: f64,
}

/// Cut-offs of [`Figures::hit_at`].
pub const HIT_AT: [usize; 3] = [1, 5, 20];
/// Cut-offs of [`Figures::recall_at`].
pub const RECALL_AT: [usize; 3] = [5, 20, 100];

/// Figures of a ranking, best first. Documents of grade `relevant_from` or above are relevant for
/// hits, recall and reciprocal rank; gains are the grades themselves. `None` where no document is
/// relevant.
pub fn figures(
    ranking: &[impl AsRef<str>],
    grades: &Grades,
    relevant_from: i32,
) -> Option<Figures> {
    let relevant = grades.values().filter(|grade| **grade >= relevant_from).count();
    if relevant == 0 {
        return None;
    }
    let grade = |at: usize| ranking.get(at).and_then(|id| grades.get(id.as_ref())).copied();
    let is_relevant = |at: usize| grade(at).is_some_and(|grade| grade >= relevant_from);
    let found = |cut: usize| (0..cut).filter(|at| is_relevant(*at)).count();
    let mut ideal: Vec<i32> = grades.values().copied().collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = discounted((0..10).map(|at| ideal.get(at).copied().unwrap_or(0)));
    let gain = discounted((0..10).map(|at| grade(at).unwrap_or(0)));
    let first = (0..10).find(|at| is_relevant(*at));
    Some(Figures {
        hit_at: HIT_AT.map(|cut| f64::from(u8::from(found(cut) > 0))),
        recall_at: RECALL_AT.map(|cut| found(cut) as f64 / relevant as f64),
        ndcg_at_10: if best > 0.0 { gain / best } else { 0.0 },
        mrr_at_10: first.map_or(0.0, |at| 1.0 / (at + 1) as f64),
    })
}

fn discounted(grades: impl Iterator<Item = i32>) -> f64 {
    let gains = grades.map(|grade| f64::from(grade.max(0)));
    (2_u32..).zip(gains).map(|(place, gain)| gain / f64::from(place).log2()).sum()
}

/// One way to retrieve, under a name.
pub struct Retriever {
    /// Name in the report.
    pub name: String,
    /// Where passages are found.
    pub index: Arc<dyn SearchIndex>,
}

/// Grades of each question: of `qrels` where they are given, else 1 for each known positive.
pub fn grades_of(questions: &[Question], qrels: Option<&Qrels>) -> Vec<Grades> {
    let of = |question: &Question| match qrels {
        Some(qrels) => qrels.get(&question.id).cloned().unwrap_or_default(),
        None => question.positives.iter().map(|id| (id.0.clone(), 1)).collect(),
    };
    questions.iter().map(of).collect()
}

/// Asks every question of every retriever for `depth` passages and reports the figures. Questions
/// without a relevant passage are not asked.
///
/// # Errors
/// The first search that fails: a figure over the rest would be another figure.
pub async fn retrieve(
    retrievers: &[Retriever],
    (questions, grades): (&[Question], &[Grades]),
    (depth, relevant_from): (usize, i32),
    progress: &mut dyn FnMut(usize),
) -> Result<RetrievalReport, EvaluateError> {
    let is_known = |grades: &Grades| grades.values().any(|grade| *grade >= relevant_from);
    let mut datasets = Vec::new();
    let mut figures_of: Vec<Vec<Figures>> = retrievers.iter().map(|_| Vec::new()).collect();
    let mut seconds = vec![0.0; retrievers.len()];
    for (question, grades) in questions.iter().zip(grades).filter(|(_, g)| is_known(g)) {
        for (at, retriever) in retrievers.iter().enumerate() {
            let started = Instant::now();
            let found = retriever.index.search(&Search::new(&question.question, depth)).await;
            seconds[at] += started.elapsed().as_secs_f64();
            let found = found.map_err(|error| EvaluateError::Question {
                question: question.id.clone(),
                policy: retriever.name.clone(),
                reason: error.to_string(),
            })?;
            let ranking: Vec<&str> = found.iter().map(|c| c.document.id.as_str()).collect();
            figures_of[at].extend(figures(&ranking, grades, relevant_from));
        }
        datasets.push(question.dataset.as_str());
        progress(1);
    }
    let mut report = RetrievalReport::empty(depth, questions.len() - datasets.len());
    for ((retriever, figures), seconds) in retrievers.iter().zip(&figures_of).zip(seconds) {
        report.add(&retriever.name, &datasets, figures, Some(seconds));
    }
    Ok(report)
}

/// Scores rankings that some other system made. A judged question that the run does not answer
/// counts as nothing found, as with `trec_eval -c`.
pub fn score_run(
    name: &str,
    run: &BTreeMap<String, Vec<String>>,
    qrels: &Qrels,
    relevant_from: i32,
) -> RetrievalReport {
    let nothing = Vec::new();
    let scored: Vec<Figures> = qrels
        .iter()
        .filter_map(|(query, grades)| {
            figures(run.get(query).unwrap_or(&nothing), grades, relevant_from)
        })
        .collect();
    let depth = run.values().map(Vec::len).max().unwrap_or(0);
    let mut report = RetrievalReport::empty(depth, qrels.len() - scored.len());
    report.add(name, &vec![""; scored.len()], &scored, None);
    report
}

#[cfg(test)]
mod tests;

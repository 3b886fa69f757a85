//! What one attempt at one question is worth: every figure of the report, question by question.
//!
//! Owns the list of metrics ([`METRICS`]) with their names, which are the columns of reports. The
//! definitions are those of the scripts that the field compares with: SQuAD's for exact match and
//! F1, `rouge-score`'s for ROUGE-L, `trec_eval`'s for hits, recall and nDCG. Knows no port.

mod label;
mod ranking;

pub use label::{label_accuracy, labels_of};
pub use ranking::{CUTS, hits, ndcg_at_10, recalls};

use super::contender::Attempt;
use super::retrieval::Grades;
use crate::datasets::{Qrels, Question};
use crate::rewards;
use std::collections::BTreeSet;

/// Key of a question's `meta` that holds graded judgements, document → whole number, where no
/// judgements are given beside the questions.
pub const GRADES: &str = "grades";

/// What one contestant got from one question. Shares are in [0, 1]; `None` where the question does
/// not say what is right.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// SQuAD token F1, best over the references; `None` where no answer is known.
    pub f1: Option<f64>,
    /// SQuAD exact match, best over the references.
    pub em: Option<f64>,
    /// F-measure of ROUGE-L, best over the references.
    pub rouge_l: Option<f64>,
    /// Whether the right label was given; `None` unless the question asks for a label.
    pub label_accuracy: Option<f64>,
    /// Whether a relevant document is among the first [`CUTS`] of the ranking; `None` where none is
    /// known.
    pub hit_at: Option<[f64; CUTS.len()]>,
    /// Share of the relevant documents among the first [`CUTS`] of the ranking.
    pub recall_at: Option<[f64; CUTS.len()]>,
    /// Whether a relevant document was put before the generator.
    pub hit_selected: Option<f64>,
    /// Share of the relevant documents that were put before the generator.
    pub recall_selected: Option<f64>,
    /// nDCG of the first ten of the ranking; `None` without graded judgements.
    pub ndcg_at_10: Option<f64>,
    /// Documents put before the generator.
    pub k: f64,
    /// Context tokens put before the generator.
    pub context_tokens: f64,
    /// Searches made use of.
    pub retrievals: f64,
    /// Passages read by the reader.
    pub reader_calls: f64,
    /// Milliseconds spent on choosing.
    pub decide_ms: f64,
    /// Milliseconds spent on answering.
    pub answer_ms: f64,
}

/// One figure of every question.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name: a column of the scores, a key of the report.
    pub name: &'static str,
    /// Whether it says how good an answer or a ranking is (else: what it cost).
    pub is_quality: bool,
    /// Its value.
    pub of: fn(&Scored) -> Option<f64>,
}

const fn quality(name: &'static str, of: fn(&Scored) -> Option<f64>) -> Metric {
    Metric { name, is_quality: true, of }
}

const fn cost(name: &'static str, of: fn(&Scored) -> Option<f64>) -> Metric {
    Metric { name, is_quality: false, of }
}

/// Every metric, in the order of reports.
pub const METRICS: [Metric; 23] = [
    quality("f1", |s| s.f1),
    quality("em", |s| s.em),
    quality("rouge_l", |s| s.rouge_l),
    quality("label_accuracy", |s| s.label_accuracy),
    quality("hit_at_1", |s| s.hit_at.map(|at| at[0])),
    quality("hit_at_3", |s| s.hit_at.map(|at| at[1])),
    quality("hit_at_5", |s| s.hit_at.map(|at| at[2])),
    quality("hit_at_10", |s| s.hit_at.map(|at| at[3])),
    quality("hit_at_20", |s| s.hit_at.map(|at| at[4])),
    quality("recall_at_1", |s| s.recall_at.map(|at| at[0])),
    quality("recall_at_3", |s| s.recall_at.map(|at| at[1])),
    quality("recall_at_5", |s| s.recall_at.map(|at| at[2])),
    quality("recall_at_10", |s| s.recall_at.map(|at| at[3])),
    quality("recall_at_20", |s| s.recall_at.map(|at| at[4])),
    quality("hit_selected", |s| s.hit_selected),
    quality("recall_selected", |s| s.recall_selected),
    quality("ndcg_at_10", |s| s.ndcg_at_10),
    cost("k", |s| Some(s.k)),
    cost("context_tokens", |s| Some(s.context_tokens)),
    cost("retrievals", |s| Some(s.retrievals)),
    cost("reader_calls", |s| Some(s.reader_calls)),
    cost("decide_ms", |s| Some(s.decide_ms)),
    cost("answer_ms", |s| Some(s.answer_ms)),
];

/// What is known to be right for one question.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Key {
    /// Reference answers; `None` where none is known, empty where the right answer is none.
    pub references: Option<Vec<String>>,
    /// Whether the answer is one of a few labels.
    pub is_label: bool,
    /// The labels there are, where the question says.
    pub labels: Vec<String>,
    /// Documents that are relevant.
    pub relevant: BTreeSet<String>,
    /// Graded judgements; empty where there are none.
    pub grades: Grades,
}

impl Key {
    /// Of a question and, where they are given, judgements by question id. Documents of grade
    /// `relevant_from` or above are relevant, beside the question's `positives`.
    pub fn of(question: &Question, qrels: Option<&Qrels>, relevant_from: i32) -> Self {
        let judged = qrels.and_then(|qrels| qrels.get(&question.id)).cloned();
        let grades = judged.unwrap_or_else(|| own_grades(question));
        let graded = grades.iter().filter(|(_, grade)| **grade >= relevant_from);
        let positives = question.positives.iter().map(|id| id.0.clone());
        let is_known = !question.answers.is_empty() || question.is_unanswerable();
        Self {
            references: is_known.then(|| question.answers.clone()),
            is_label: question.answer_type == "label",
            labels: labels_of(question),
            relevant: graded.map(|(id, _)| id.clone()).chain(positives).collect(),
            grades,
        }
    }
}

fn own_grades(question: &Question) -> Grades {
    let given = question.meta.get(GRADES).and_then(|value| value.as_object());
    let grades = given.into_iter().flatten();
    grades.filter_map(|(id, grade)| Some((id.clone(), grade.as_i64()? as i32))).collect()
}

/// Scores an attempt.
pub fn score(key: &Key, attempt: &Attempt) -> Scored {
    let text = attempt.answer.text.as_str();
    let answered =
        |of: fn(&str, &[String]) -> f64| key.references.as_ref().map(|all| of(text, all));
    let label = || label_accuracy(text, key.references.as_deref()?, &key.labels).into();
    let mut seen = BTreeSet::new();
    let ranking: Vec<&str> =
        attempt.ranking.iter().map(|id| id.as_str()).filter(|id| seen.insert(*id)).collect();
    let selected: BTreeSet<&str> = attempt.documents.iter().map(|id| id.as_str()).collect();
    let found = key.relevant.iter().filter(|id| selected.contains(id.as_str())).count();
    let relevant = key.relevant.len();
    Scored {
        f1: answered(rewards::token_f1),
        em: answered(rewards::exact_match),
        rouge_l: answered(rewards::rouge_l),
        label_accuracy: if key.is_label { label() } else { None },
        hit_at: hits(&ranking, &key.relevant),
        recall_at: recalls(&ranking, &key.relevant),
        hit_selected: (relevant > 0).then(|| f64::from(u8::from(found > 0))),
        recall_selected: (relevant > 0).then(|| found as f64 / relevant as f64),
        ndcg_at_10: ndcg_at_10(&ranking, &key.grades),
        k: attempt.documents.len() as f64,
        context_tokens: attempt.context_tokens as f64,
        retrievals: f64::from(attempt.retrievals),
        reader_calls: f64::from(attempt.reader_calls),
        decide_ms: attempt.decide_ms,
        answer_ms: attempt.answer_ms,
    }
}

/// SQuAD F1 and exact match, each the best over the references. Without references the question is
/// unanswerable: no answer is right (1, 1), any other wrong (0, 0).
pub fn answer_scores(answer: &str, references: &[String]) -> (f64, f64) {
    (rewards::token_f1(answer, references), rewards::exact_match(answer, references))
}

#[cfg(test)]
mod tests;

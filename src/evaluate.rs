//! Contenders on held-out questions: the figures a claim rests on, with their intervals.
//!
//! Every contender answers the same questions from the same index with the same generator, so each
//! difference is paired. Knows ports only; which adapters stand behind them is the caller's. A
//! question that cannot be scored is never left out silently: it stops the evaluation, or, where
//! the caller allows some, is scored for nobody and counted by contender and reason.

pub mod audit;
mod best_document;
pub mod contender;
pub mod interval;
pub mod metrics;
pub mod off_policy;
pub mod page;
pub mod probes;
pub mod rederive;
mod report;
pub mod resample;
pub mod retrieval;
pub mod scores;
pub mod users;

pub use best_document::BestDocument;
pub use contender::{Asked, Attempt, AttemptError, Contender, Contestant};
pub use metrics::{Scored, answer_scores};
pub use report::{Comparison, Difference, Estimate, Latency, PolicyRow, Report, table};
pub use scores::{ScoreTable, ScoresError};

use crate::datasets::{Qrels, Question};
use actors::ports::{Generator, Search, SearchIndex};
use actors::types::SelectionLimits;
use metrics::Key;
use scores::LeftOut;

/// What all contenders share: the tools of every attempt.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Where candidates come from.
    pub index: &'a dyn SearchIndex,
    /// What answers.
    pub generator: &'a dyn Generator,
    /// Candidates a question.
    pub top_n: usize,
    /// Masks of the policies (fixed-k baselines ignore them).
    pub limits: SelectionLimits,
}

/// What is asked, and what is known to be right.
#[derive(Debug, Clone, Copy)]
pub struct Exam<'a> {
    /// The questions.
    pub questions: &'a [Question],
    /// Graded judgements by question id, where there are any.
    pub qrels: Option<&'a Qrels>,
    /// Grade from which a document counts as relevant for hits and recall, at least 1.
    pub relevant_from: i32,
    /// Most questions that may fail (a search, a contender) before the evaluation stops.
    pub failures_max: usize,
}

impl<'a> Exam<'a> {
    /// These questions, with what they say themselves; the first failure stops the evaluation.
    pub fn of(questions: &'a [Question]) -> Self {
        Self { questions, qrels: None, relevant_from: 1, failures_max: 0 }
    }
}

/// Why an evaluation stopped.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// More questions failed than may; a question that cannot be scored is not left out silently.
    #[error("cannot evaluate question `{question}` with policy `{policy}`: {reason}")]
    Question {
        /// The question.
        question: String,
        /// The contender, or `retrieval`.
        policy: String,
        /// Why.
        reason: String,
    },
}

/// A contender, or `retrieval`, that failed on a question.
struct Failure {
    contender: String,
    reason: &'static str,
    told: String,
}

/// Asks every contender every question and scores what they did. Contenders of one name become the
/// runs of one, in order.
///
/// Times are as measured here, where contenders share what is cached (readings of pairs): the first
/// that reads a pair pays for it.
///
/// # Errors
/// More failures than the exam allows; the first one beyond.
pub async fn score(
    setting: &Setting<'_>,
    contenders: &mut [Contender],
    exam: &Exam<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<ScoreTable, EvaluateError> {
    let mut scores: Vec<Vec<Scored>> = contenders.iter().map(|_| Vec::new()).collect();
    let (mut table, mut failed) = (ScoreTable::default(), 0);
    for (done, question) in exam.questions.iter().enumerate() {
        let key = Key::of(question, exam.qrels, exam.relevant_from);
        match ask(setting, contenders, question).await {
            Ok(attempts) => {
                table.questions.push(question.id.clone());
                table.datasets.push(question.dataset.clone());
                for (scores, attempt) in scores.iter_mut().zip(&attempts) {
                    scores.push(metrics::score(&key, attempt));
                }
                note_unknown(&mut table.left_out, question, &key);
            }
            Err(failures) => {
                failed += 1;
                for failure in failures {
                    if failed > exam.failures_max {
                        let (policy, reason) = (failure.contender, failure.told);
                        let question = question.id.clone();
                        return Err(EvaluateError::Question { question, policy, reason });
                    }
                    let first = format!("{}: {}", question.id, failure.told);
                    let because = (failure.contender.as_str(), failure.reason);
                    note(&mut table.left_out, "everything", because, first);
                }
            }
        }
        progress(done + 1, exam.questions.len());
    }
    for (contender, scores) in contenders.iter().zip(&scores) {
        table.add(&contender.name, scores::columns(scores));
    }
    Ok(table)
}

/// Every contender's attempt, or every failure.
async fn ask(
    setting: &Setting<'_>,
    contenders: &mut [Contender],
    question: &Question,
) -> Result<Vec<Attempt>, Vec<Failure>> {
    let query = question.to_query();
    let search = Search::of(&query, setting.top_n);
    let candidates = setting.index.search(&search).await.map_err(|error| {
        let told = error.to_string();
        vec![Failure { contender: "retrieval".to_owned(), reason: "search", told }]
    })?;
    let asked = Asked { question, query: &query, candidates: &candidates };
    let (mut attempts, mut failures) = (Vec::new(), Vec::new());
    for contender in contenders {
        match contender.policy.attempt(&asked, setting).await {
            Ok(attempt) => attempts.push(attempt),
            Err(error) => failures.push(Failure {
                contender: contender.name.clone(),
                reason: error.reason(),
                told: error.to_string(),
            }),
        }
    }
    if failures.is_empty() { Ok(attempts) } else { Err(failures) }
}

/// Counts a question under what it is not part of, and why.
fn note(left_out: &mut Vec<LeftOut>, of: &str, (contender, reason): (&str, &str), first: String) {
    let is_known = |l: &&mut LeftOut| l.of == of && l.contender == contender && l.reason == reason;
    match left_out.iter_mut().find(is_known) {
        Some(known) => known.questions += 1,
        None => left_out.push(LeftOut {
            of: of.to_owned(),
            contender: contender.to_owned(),
            reason: reason.to_owned(),
            questions: 1,
            first,
        }),
    }
}

/// Counts what a question does not say.
fn note_unknown(left_out: &mut Vec<LeftOut>, question: &Question, key: &Key) {
    let unknown = [
        (key.references.is_none(), "answers", "no answer is known"),
        (key.relevant.is_empty(), "hits and recall", "no relevant document is known"),
        (key.grades.values().all(|grade| *grade < 1), "ndcg_at_10", "no graded document is known"),
    ];
    for (is_unknown, of, reason) in unknown {
        if is_unknown {
            note(left_out, of, ("", reason), question.id.clone());
        }
    }
}

#[cfg(test)]
mod tests;

//! Policies on held-out questions: the figures a claim rests on, with their intervals.
//!
//! Every contender answers the same questions from the same candidates with the same generator, so
//! each difference is paired. Knows ports only; which adapters stand behind them is the caller's.

pub mod audit;
pub mod contender;
pub mod interval;
mod report;
pub mod retrieval;

pub use contender::{Asked, Attempt, AttemptError, Contender, Contestant};
pub use report::{Comparison, PolicyRow, Report, table};

use crate::datasets::Question;
use crate::text;
use actors::ports::{Generator, Search, SearchIndex};
use actors::types::SelectionLimits;

/// What all contenders share.
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

/// What one contender got from one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// SQuAD token F1, best over the references.
    pub f1: f64,
    /// SQuAD exact match, best over the references.
    pub em: f64,
    /// Share of the known positives among the first five by score; `None` without positives.
    pub recall_at_5: Option<f64>,
    /// Documents chosen.
    pub k: f64,
    /// Context tokens put before the generator.
    pub context_tokens: f64,
}

/// Why an evaluation stopped.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A port failed; a question that cannot be scored is not left out silently.
    #[error("cannot evaluate question `{question}` with policy `{policy}`: {reason}")]
    Question {
        /// The question.
        question: String,
        /// The contender.
        policy: String,
        /// Why.
        reason: String,
    },
}

/// Scores of every contender: `[contender][question]`.
pub async fn score(
    setting: &Setting<'_>,
    contenders: &mut [Contender],
    questions: &[Question],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<Scored>>, EvaluateError> {
    let mut scores: Vec<Vec<Scored>> = contenders.iter().map(|_| Vec::new()).collect();
    for (done, question) in questions.iter().enumerate() {
        let failed = |policy: &str, reason: String| EvaluateError::Question {
            question: question.id.clone(),
            policy: policy.to_owned(),
            reason,
        };
        let query = question.to_query();
        let candidates = setting
            .index
            .search(&Search::of(&query, setting.top_n))
            .await
            .map_err(|e| failed("retrieval", e.to_string()))?;
        for (contender, scores) in contenders.iter_mut().zip(&mut scores) {
            let asked = Asked { question, query: &query, candidates: &candidates };
            let attempt = contender.policy.attempt(&asked, setting).await;
            let attempt = attempt.map_err(|e| failed(&contender.name, e.to_string()))?;
            let scored = scored(question, &attempt);
            scores.push(scored);
        }
        progress(done + 1, questions.len());
    }
    Ok(scores)
}

fn scored(question: &Question, attempt: &Attempt) -> Scored {
    let (f1, em) = answer_scores(&attempt.answer.text, &question.answers);
    let found =
        question.positives.iter().filter(|p| attempt.ranking.iter().take(5).any(|r| r == *p));
    let recall_at_5 = (!question.positives.is_empty())
        .then(|| found.count() as f64 / question.positives.len() as f64);
    Scored {
        f1,
        em,
        recall_at_5,
        k: attempt.documents.len() as f64,
        context_tokens: attempt.context_tokens as f64,
    }
}

/// SQuAD F1 and exact match, each the best over the references. Without references the question is
/// unanswerable: no answer is right (1, 1), any other wrong (0, 0).
pub fn answer_scores(answer: &str, references: &[String]) -> (f64, f64) {
    let answer = text::normalise(answer);
    if references.is_empty() {
        let right = f64::from(u8::from(answer.is_empty()));
        return (right, right);
    }
    let words: Vec<&str> = answer.split_whitespace().collect();
    let mut best = (0.0f64, 0.0f64);
    for reference in references {
        let reference = text::normalise(reference);
        let expected: Vec<&str> = reference.split_whitespace().collect();
        best.0 = best.0.max(text::token_f1(&words, &expected));
        best.1 = best.1.max(f64::from(u8::from(answer == reference)));
    }
    // Two texts that normalise to nothing are equal and share no token.
    (best.0.max(best.1), best.1)
}

#[cfg(test)]
mod tests;

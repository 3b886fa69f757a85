//! Policies on held-out questions: the figures a claim rests on, with their intervals.
//!
//! Every contender answers the same questions from the same candidates with the same generator, so
//! each difference is paired. Knows ports only; which adapters stand behind them is the caller's.

pub mod audit;
pub mod interval;
mod report;
pub mod retrieval;

pub use report::{Comparison, PolicyRow, Report, table};

use crate::datasets::Question;
use crate::text;
use actors::ports::{DecideRequest, Generator, Policy, Search, SearchIndex};
use actors::types::{Candidate, DecisionId, Exploration, Query, SelectionLimits};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// One policy under a name.
pub struct Contender {
    /// Name in the report.
    pub name: String,
    /// Decides greedily.
    pub policy: Box<dyn Policy>,
}

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
            let scored = one(setting, contender, question, &query, &candidates)
                .await
                .map_err(|reason| failed(&contender.name, reason))?;
            scores.push(scored);
        }
        progress(done + 1, questions.len());
    }
    Ok(scores)
}

async fn one(
    setting: &Setting<'_>,
    contender: &mut Contender,
    question: &Question,
    query: &Query,
    candidates: &[Candidate],
) -> Result<Scored, String> {
    let (mut order, mut ranking) = (Vec::new(), Vec::new());
    if !candidates.is_empty() {
        let request = DecideRequest {
            id: DecisionId::from("evaluation"),
            query: query.clone(),
            candidates: candidates.to_vec(),
            limits: setting.limits,
            exploration: Exploration::Greedy,
        };
        // Greedy decisions draw nothing; the generator only has to exist.
        let mut rng = StdRng::seed_from_u64(0);
        let decision = contender
            .policy
            .decide(std::slice::from_ref(&request), &mut rng)
            .pop()
            .ok_or("the policy gave no decision")?
            .map_err(|e| e.to_string())?;
        ranking = (0..candidates.len()).collect();
        let score = |i: &usize| decision.scores.get(*i).copied().unwrap_or(f32::NEG_INFINITY);
        ranking.sort_by(|a, b| score(b).total_cmp(&score(a)));
        order = decision.order;
    }
    let documents: Vec<_> = order
        .iter()
        .filter_map(|&j| candidates.get(j as usize))
        .map(|c| c.document.clone())
        .collect();
    let answer = setting.generator.answer(query, &documents).await.map_err(|e| e.to_string())?;
    let (f1, em) = answer_scores(&answer.text, &question.answers);
    let first_five: Vec<_> = ranking.iter().take(5).map(|&i| &candidates[i].document.id).collect();
    let found = question.positives.iter().filter(|p| first_five.contains(p)).count();
    let recall_at_5 =
        (!question.positives.is_empty()).then(|| found as f64 / question.positives.len() as f64);
    Ok(Scored {
        f1,
        em,
        recall_at_5,
        k: documents.len() as f64,
        context_tokens: f64::from(answer.usage.context_tokens),
    })
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

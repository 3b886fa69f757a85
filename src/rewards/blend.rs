//! The weighted sum of the scorers.

use super::{
    HashedNgrams, TokenVectors, context_cost, document_cost, exact_match, is_unanswerable, length,
    retrieval_cost, rouge_l, similarity, token_f1,
};
use actors::types::{Answer, Gate, Query, Reward, RewardPart, Votes};
use serde::{Deserialize, Serialize};

/// Weight of each term of the reward; a term of weight 0 is left out.
///
/// Quality terms lie in [0, 1] and have weights ≥ 0; costs are ≥ 0 and have weights ≤ 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blend {
    /// Weight of [`exact_match`].
    pub exact_match: f64,
    /// Weight of [`token_f1`].
    pub token_f1: f64,
    /// Weight of [`rouge_l`].
    pub rouge_l: f64,
    /// Weight of [`similarity`], over [`HashedNgrams`] where no other vectors are given.
    pub similarity: f64,
    /// Weight of a judging model's verdict, where one is asked.
    pub judge: f64,
    /// Weight of [`length`].
    pub length: f64,
    /// Weight of [`context_cost`]: for every 1,000 context tokens.
    pub context_cost: f64,
    /// Weight of [`document_cost`]: for every document.
    pub document_cost: f64,
    /// Weight of [`retrieval_cost`]: for having retrieved at all.
    pub retrieval_cost: f64,
}

impl Default for Blend {
    fn default() -> Self {
        Self {
            exact_match: 0.0,
            token_f1: 1.0,
            rouge_l: 0.0,
            similarity: 0.0,
            judge: 0.0,
            length: 0.0,
            context_cost: 0.0,
            document_cost: 0.0,
            retrieval_cost: 0.0,
        }
    }
}

/// Why a blend cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum BlendError {
    /// A weight has the wrong sign or is not finite.
    #[error("weight `{term}` is {weight}, expected {expected}")]
    Weight {
        /// The term.
        term: &'static str,
        /// Its weight.
        weight: f64,
        /// What would do.
        expected: &'static str,
    },
    /// Nothing tells a right answer from a wrong one.
    #[error(
        "no weight on correctness: give exact_match, token_f1, rouge_l or similarity a weight above \
         0"
    )]
    NoCorrectness,
}

/// What is scored.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The query; says whether it is known to have no answer.
    pub query: &'a Query,
    /// The answer.
    pub answer: &'a Answer,
    /// Whether documents were retrieved.
    pub gate: Gate,
    /// Documents put before the generator.
    pub documents: usize,
}

impl Blend {
    /// The reward of DynamicRAG: EM, similarity, ROUGE-L, length and a judge's verdict, 0.2 each.
    /// Where no judge is asked, [`Blend::without_judge`] gives its fifth to the three terms that
    /// compare with references.
    ///
    /// Source: DynamicRAG (arXiv 2505.07233) eq. 7 and appendix D.1. Its released code compares by
    /// substrings, gives every trajectory of a question the same length term and cannot run with
    /// the judge; this is the formula of the paper, with the length of the answer.
    pub fn dynamic_rag() -> Self {
        let fifth = 0.2;
        Self {
            exact_match: fifth,
            token_f1: 0.0,
            rouge_l: fifth,
            similarity: fifth,
            judge: fifth,
            length: fifth,
            ..Self::default()
        }
    }

    /// The reward of SmartRAG: EM + F1 − `cost` for having retrieved.
    ///
    /// cost: ≥ 0; the released settings have 0.2. Source: SmartRAG (arXiv 2410.18141), reward of
    /// the released code. Its penalty of an ill-formed output has no counterpart: a decision here
    /// is well-formed by construction.
    pub fn smart_rag(cost: f64) -> Self {
        Self { exact_match: 1.0, token_f1: 1.0, retrieval_cost: -cost, ..Self::default() }
    }

    /// Whether the weights make sense.
    pub fn check(&self) -> Result<(), BlendError> {
        let quality = [
            ("exact_match", self.exact_match),
            ("token_f1", self.token_f1),
            ("rouge_l", self.rouge_l),
            ("similarity", self.similarity),
            ("judge", self.judge),
            ("length", self.length),
        ];
        let costs = [
            ("context_cost", self.context_cost),
            ("document_cost", self.document_cost),
            ("retrieval_cost", self.retrieval_cost),
        ];
        for (term, weight) in quality {
            if !(weight.is_finite() && weight >= 0.0) {
                let expected = "a finite number of at least 0: it is a quality";
                return Err(BlendError::Weight { term, weight, expected });
            }
        }
        for (term, weight) in costs {
            if !(weight.is_finite() && weight <= 0.0) {
                let expected = "a finite number of at most 0: it is a cost";
                return Err(BlendError::Weight { term, weight, expected });
            }
        }
        if self.correctness() > 0.0 { Ok(()) } else { Err(BlendError::NoCorrectness) }
    }

    /// The reward of an answer with known references. `None` where nothing is known to compare
    /// with: no references, and the query is not marked as having no answer.
    pub fn score(&self, subject: Subject<'_>, references: &[String]) -> Option<Reward> {
        self.score_with(subject, references, &HashedNgrams::default())
    }

    /// The same with other vectors for the term `similarity`.
    pub fn score_with(
        &self,
        subject: Subject<'_>,
        references: &[String],
        vectors: &dyn TokenVectors,
    ) -> Option<Reward> {
        if references.is_empty() && !is_unanswerable(subject.query) {
            return None;
        }
        let mut parts = Vec::new();
        self.push_compared(&mut parts, subject, references, vectors);
        self.push_rest(&mut parts, subject);
        Reward::from_parts(parts)
    }

    /// The reward of an answer that a model has judged worth `value` in [0, 1], the mean of `votes`:
    /// the part `judge`, beside what is compared with references. Where nothing is known to compare
    /// with, the model has the weights of that too, so that rewards with and without references lie
    /// on one scale. `None` for any other value.
    pub fn score_judged(
        &self,
        subject: Subject<'_>,
        references: &[String],
        (value, votes): (f64, Votes),
    ) -> Option<Reward> {
        if !(0.0..=1.0).contains(&value) {
            return None;
        }
        let mut parts = Vec::new();
        let mut weight = self.judge;
        if references.is_empty() && !is_unanswerable(subject.query) {
            weight += self.correctness();
        } else {
            let vectors = HashedNgrams::default();
            self.push_compared(&mut parts, subject, references, &vectors);
        }
        let name = "judge".to_owned();
        parts.push(RewardPart { name, value, weight, votes: Some(votes) });
        self.push_rest(&mut parts, subject);
        Reward::from_parts(parts)
    }

    /// The reward of an answer that was given a value in [0, 1]: the part `feedback` takes the
    /// place of the correctness terms, with their joint weight. `None` for any other value.
    pub fn score_given(&self, subject: Subject<'_>, value: f64) -> Option<Reward> {
        if !(0.0..=1.0).contains(&value) {
            return None;
        }
        let mut parts = Vec::new();
        push(&mut parts, "feedback", self.correctness(), || value);
        self.push_rest(&mut parts, subject);
        Reward::from_parts(parts)
    }

    /// The blend where no model is asked: the terms that compare with references take its weight in
    /// the proportion of their own, so that rewards with and without the model lie on one scale.
    pub fn without_judge(self) -> Self {
        let correctness = self.correctness();
        if self.judge <= 0.0 || correctness <= 0.0 {
            return Self { judge: 0.0, ..self };
        }
        let share = (correctness + self.judge) / correctness;
        Self {
            exact_match: self.exact_match * share,
            token_f1: self.token_f1 * share,
            rouge_l: self.rouge_l * share,
            similarity: self.similarity * share,
            judge: 0.0,
            ..self
        }
    }

    fn push_compared(
        &self,
        parts: &mut Vec<RewardPart>,
        subject: Subject<'_>,
        references: &[String],
        vectors: &dyn TokenVectors,
    ) {
        let text = &subject.answer.text;
        push(parts, "exact_match", self.exact_match, || exact_match(text, references));
        push(parts, "token_f1", self.token_f1, || token_f1(text, references));
        push(parts, "rouge_l", self.rouge_l, || rouge_l(text, references));
        push(parts, "similarity", self.similarity, || similarity(text, references, vectors));
    }

    fn correctness(&self) -> f64 {
        self.exact_match + self.token_f1 + self.rouge_l + self.similarity
    }

    fn push_rest(&self, parts: &mut Vec<RewardPart>, subject: Subject<'_>) {
        let answer = subject.answer;
        push(parts, "length", self.length, || length(&answer.text));
        push(parts, "context_cost", self.context_cost, || {
            context_cost(answer.usage.context_tokens)
        });
        push(parts, "document_cost", self.document_cost, || document_cost(subject.documents));
        push(parts, "retrieval_cost", self.retrieval_cost, || retrieval_cost(subject.gate));
    }
}

fn push(parts: &mut Vec<RewardPart>, name: &str, weight: f64, value: impl FnOnce() -> f64) {
    if weight != 0.0 {
        parts.push(RewardPart { name: name.to_owned(), value: value(), weight, votes: None });
    }
}

#[cfg(test)]
mod tests;

//! The weighted sum of the scorers, in [0, 1].

use super::{
    Evidence, Given, HashedNgrams, context_cost, document_cost, exact_match, is_unanswerable,
    length, retrieval_cost, rouge_l, similarity, token_f1,
};
use actors::types::{Answer, EvidenceSource, Gate, Query, Reward, RewardPart};
use serde::{Deserialize, Serialize};

/// Weight of each term of the reward; a term of weight 0 is left out.
///
/// What is known of an answer's worth comes from five sources: references (the terms that compare),
/// a model (`judge`), people (`human`), corrections and opened citations. The weights say how far each
/// is trusted: those that have spoken share the weight of quality (the sum of the terms that compare
/// and `judge`) in proportion of theirs, so that rewards lie on one scale whoever speaks,
/// and nobody overrules anybody. Beside quality stand the length, and costs with weights ≤ 0.
///
/// The weighted sum lies in a range that the weights and the largest costs declare; one affine map
/// ([`Blend::range`]) brings it to [0, 1]: weights are divided by the width of the range, and where
/// there are costs the part `range` lifts the sum, so that a reward is still the sum of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blend {
    /// Weight of [`exact_match`].
    pub exact_match: f64,
    /// Weight of [`token_f1`].
    pub token_f1: f64,
    /// Weight of [`rouge_l`].
    pub rouge_l: f64,
    /// Weight of [`similarity`], over [`HashedNgrams`].
    pub similarity: f64,
    /// Weight of a judging model's verdict, where one is asked.
    pub judge: f64,
    /// Weight of what people and programs gave as a value, beside the sources above.
    pub human: f64,
    /// Weight of a comparison with corrections, beside the sources above.
    pub correction: f64,
    /// Weight of a document opened from the answer, beside the sources above.
    pub citation: f64,
    /// Weight of [`length`].
    pub length: f64,
    /// Weight of [`context_cost`]: for every 1,000 context tokens.
    pub context_cost: f64,
    /// Weight of [`document_cost`]: for every document.
    pub document_cost: f64,
    /// Weight of [`retrieval_cost`]: for having retrieved at all.
    pub retrieval_cost: f64,
    /// Context tokens that cost the most, ≥ 1: at least the token budget of a selection. More cost
    /// no more.
    pub context_tokens_max: u32,
    /// Documents that cost the most, ≥ 1: at least `k_max` of a selection.
    pub documents_max: u32,
}

impl Default for Blend {
    fn default() -> Self {
        Self {
            exact_match: 0.0,
            token_f1: 1.0,
            rouge_l: 0.0,
            similarity: 0.0,
            judge: 0.0,
            human: 1.0,
            correction: 1.0,
            citation: 0.1,
            length: 0.0,
            context_cost: 0.0,
            document_cost: 0.0,
            retrieval_cost: 0.0,
            context_tokens_max: 2_048,
            documents_max: 10,
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
    /// Every cost would be the largest.
    #[error("`{0}` is 0, expected at least 1: costs are counted up to there")]
    NoBound(&'static str),
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
            ("human", self.human),
            ("correction", self.correction),
            ("citation", self.citation),
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
        let bounds = [
            ("context_tokens_max", self.context_tokens_max),
            ("documents_max", self.documents_max),
        ];
        if let Some((bound, _)) = bounds.into_iter().find(|(_, bound)| *bound == 0) {
            return Err(BlendError::NoBound(bound));
        }
        if self.correctness() > 0.0 { Ok(()) } else { Err(BlendError::NoCorrectness) }
    }

    /// The least and the largest weighted sum there can be: no quality at the highest costs, and
    /// full marks for nothing. What is learned from is `(sum - least) / (largest - least)`.
    pub fn range(&self) -> (f64, f64) {
        let least = self.context_cost * context_cost(self.context_tokens_max)
            + self.document_cost * f64::from(self.documents_max)
            + self.retrieval_cost;
        (least, self.correctness() + self.judge + self.length)
    }

    /// The reward of an answer with known references. `None` where nothing is known to compare
    /// with: no references, and the query is not marked as having no answer.
    pub fn score(&self, subject: Subject<'_>, references: &[String]) -> Option<Reward> {
        self.weigh(subject, &Evidence::references(references))
    }

    /// The reward of an answer by all that is known of it, in [0, 1]. `None` where nobody who has a
    /// weight has said anything, or what was said is no number.
    pub fn weigh(&self, subject: Subject<'_>, evidence: &Evidence) -> Option<Reward> {
        let mut parts = Vec::new();
        let Evidence { references, corrections, human, citation, verdict } = evidence;
        if !references.is_empty() || is_unanswerable(subject.query) {
            self.push_compared(&mut parts, subject, references);
        }
        let mut say = |name, source, weight: f64, given: &Option<Given>| {
            if let Some(given) = given.filter(|_| weight > 0.0) {
                let Given { value, votes, time_ms } = given;
                parts.push(RewardPart {
                    source,
                    time_ms,
                    votes,
                    ..RewardPart::new(name, value, weight)
                });
            }
        };
        say("judge", EvidenceSource::Judge, self.judge, verdict);
        say("feedback", EvidenceSource::Human, self.human, human);
        say("citation", EvidenceSource::Citation, self.citation, citation);
        if !corrections.is_empty() && self.correction > 0.0 {
            let mut compared = Vec::new();
            self.push_compared(&mut compared, subject, corrections);
            let value: f64 = compared.iter().map(|part| part.value * part.weight).sum();
            let part = RewardPart::new("correction", value / self.correctness(), self.correction);
            parts.push(RewardPart { source: EvidenceSource::Correction, ..part });
        }
        let spoken: f64 = parts.iter().map(|part| part.weight).sum();
        if spoken <= 0.0 || parts.iter().any(|part| !(0.0..=1.0).contains(&part.value)) {
            return None;
        }
        let share = (self.correctness() + self.judge) / spoken;
        parts.iter_mut().for_each(|part| part.weight *= share);
        self.push_rest(&mut parts, subject);
        self.mapped(parts)
    }

    /// The one map to [0, 1]; see [`Blend::range`].
    fn mapped(&self, mut parts: Vec<RewardPart>) -> Option<Reward> {
        let (least, largest) = self.range();
        let width = largest - least;
        parts.iter_mut().for_each(|part| part.weight /= width);
        if least < 0.0 {
            parts.push(RewardPart::new("range", -least / width, 1.0));
        }
        let reward = Reward::from_parts(parts)?;
        // Only rounding can lie outside.
        Some(Reward { total: reward.total.clamp(0.0, 1.0), ..reward })
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
    ) {
        let (first, text) = (parts.len(), &subject.answer.text);
        let vectors = HashedNgrams::default();
        push(parts, "exact_match", self.exact_match, || exact_match(text, references));
        push(parts, "token_f1", self.token_f1, || token_f1(text, references));
        push(parts, "rouge_l", self.rouge_l, || rouge_l(text, references));
        push(parts, "similarity", self.similarity, || similarity(text, references, &vectors));
        for part in parts.iter_mut().skip(first) {
            part.source = EvidenceSource::Reference;
        }
    }

    fn correctness(&self) -> f64 {
        self.exact_match + self.token_f1 + self.rouge_l + self.similarity
    }

    fn push_rest(&self, parts: &mut Vec<RewardPart>, subject: Subject<'_>) {
        let answer = subject.answer;
        push(parts, "length", self.length, || length(&answer.text));
        push(parts, "context_cost", self.context_cost, || {
            context_cost(answer.usage.context_tokens.min(self.context_tokens_max))
        });
        push(parts, "document_cost", self.document_cost, || {
            document_cost(subject.documents.min(self.documents_max as usize))
        });
        push(parts, "retrieval_cost", self.retrieval_cost, || retrieval_cost(subject.gate));
    }
}

fn push(parts: &mut Vec<RewardPart>, name: &str, weight: f64, value: impl FnOnce() -> f64) {
    if weight != 0.0 {
        parts.push(RewardPart::new(name, value(), weight));
    }
}

#[cfg(test)]
mod tests;

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
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::rewards::UNANSWERABLE;
    use actors::types::Usage;

    fn answer(text: &str) -> Answer {
        let usage = Usage { context_tokens: 500, answer_tokens: 2 };
        Answer { text: text.to_owned(), usage, ..Answer::default() }
    }

    fn score(blend: &Blend, query: &Query, text: &str) -> Option<Reward> {
        let answer = answer(text);
        let subject = Subject { query, answer: &answer, gate: Gate::Retrieve, documents: 3 };
        blend.score(subject, &query.references)
    }

    #[test]
    fn the_total_is_the_weighted_sum_of_its_parts() {
        let blend = Blend {
            exact_match: 0.5,
            token_f1: 1.0,
            rouge_l: 0.25,
            similarity: 0.0,
            judge: 7.0,
            length: 0.1,
            context_cost: -0.2,
            document_cost: -0.01,
            retrieval_cost: -0.05,
        };
        blend.check().unwrap();
        let query = Query { references: vec!["New York".to_owned()], ..Query::default() };
        let reward = score(&blend, &query, "New York City").unwrap();
        // EM 0; F1 0.8; ROUGE-L 0.8; length 1/4; cost 0.5, 3 and 1.
        let expected = 0.8 + 0.25 * 0.8 + 0.1 * 0.25 - 0.2 * 0.5 - 0.01 * 3.0 - 0.05;
        assert!((reward.total - expected).abs() < 1e-12, "{reward:?}");
        assert_eq!(reward.parts.len(), 7);
        assert_eq!(reward.part("exact_match"), Some(0.0));
        assert_eq!(reward.part("document_cost"), Some(3.0));
    }

    #[test]
    fn a_question_known_to_have_no_answer_rewards_the_empty_one() {
        let mut query = Query::default();
        let blend = Blend::default();
        assert_eq!(score(&blend, &query, ""), None, "nothing known is not known to be nothing");
        query.metadata.insert(UNANSWERABLE.to_owned(), "true".to_owned());
        assert!((score(&blend, &query, "").unwrap().total - 1.0).abs() < 1e-12);
        assert!(score(&blend, &query, "Paris").unwrap().total.abs() < 1e-12);
    }

    #[test]
    fn a_given_value_takes_the_place_of_correctness() {
        let blend = Blend { exact_match: 1.0, context_cost: -0.1, ..Blend::default() };
        let (query, answer) = (Query::default(), answer("x"));
        let subject = Subject { query: &query, answer: &answer, gate: Gate::Direct, documents: 0 };
        let reward = blend.score_given(subject, 0.5).unwrap();
        assert!((reward.total - (2.0 * 0.5 - 0.05)).abs() < 1e-12, "{reward:?}");
        for value in [-0.1, 1.1, f64::NAN] {
            assert_eq!(blend.score_given(subject, value), None);
        }
    }

    #[test]
    fn a_judged_answer_is_compared_too_where_there_is_something_to_compare_with() {
        let blend = Blend { judge: 0.5, context_cost: -0.1, ..Blend::default() };
        let votes = Votes { count: 3, spread: 0.1 };
        let (mut query, answer) = (Query::default(), answer("New York City"));
        let judged = |query: &Query, value| {
            let subject = Subject { query, answer: &answer, gate: Gate::Direct, documents: 0 };
            blend.score_judged(subject, &query.references, (value, votes))
        };
        let alone = judged(&query, 0.8).unwrap();
        assert!((alone.total - (1.5 * 0.8 - 0.05)).abs() < 1e-12, "{alone:?}");
        assert_eq!(alone.parts[0].votes, Some(votes));
        query.references = vec!["New York".to_owned()];
        let both = judged(&query, 0.6).unwrap();
        assert!((both.total - (0.8 + 0.5 * 0.6 - 0.05)).abs() < 1e-12, "{both:?}");
        for value in [-0.1, 1.1, f64::NAN] {
            assert_eq!(judged(&query, value), None);
        }
        // Full marks are worth the same whoever gives them.
        let without = blend.without_judge();
        assert!((without.token_f1 - 1.5).abs() < 1e-12 && without.judge == 0.0, "{without:?}");
        assert_eq!(Blend::default().without_judge(), Blend::default());
    }

    /// Only the named term of DynamicRAG's reward, with weight 1.
    fn alone(term: &str) -> Blend {
        let zero = Blend { token_f1: 0.0, ..Blend::default() };
        match term {
            "exact_match" => Blend { exact_match: 1.0, ..zero },
            "similarity" => Blend { similarity: 1.0, ..zero },
            "rouge_l" => Blend { rouge_l: 1.0, ..zero },
            "length" => Blend { length: 1.0, ..zero },
            _ => Blend { judge: 1.0, ..zero },
        }
    }

    #[test]
    fn each_term_of_the_dynamic_rag_reward_stands_alone_and_their_mean_is_the_reward() {
        let query = Query { references: vec!["New York".to_owned()], ..Query::default() };
        let answer = answer("New York City");
        let subject = Subject { query: &query, answer: &answer, gate: Gate::Retrieve, documents: 3 };
        let votes = Votes { count: 1, spread: 0.0 };
        let of = |blend: &Blend| {
            blend.score_judged(subject, &query.references, (0.6, votes)).unwrap()
        };
        // Two of three words match: P about 2/3 (a little more by chance), R 1.
        let by_hand = [("exact_match", 0.0), ("rouge_l", 0.8), ("length", 0.25), ("judge", 0.6)];
        for (term, expected) in by_hand {
            let reward = of(&alone(term));
            assert_eq!(reward.part(term), Some(expected), "{reward:?}");
            assert!((reward.total - expected).abs() < 1e-12, "{reward:?}");
        }
        let similarity = of(&alone("similarity")).total;
        assert!((0.8..0.87).contains(&similarity), "{similarity}");
        let expected = 0.2 * (0.0 + 0.8 + 0.25 + 0.6 + similarity);
        let blend = Blend::dynamic_rag();
        blend.check().unwrap();
        assert!((of(&blend).total - expected).abs() < 1e-12, "{:?}", of(&blend));
        // Without a judge its fifth goes to the three that compare; full marks stay what they were.
        let rest = blend.without_judge();
        for weight in [rest.exact_match, rest.similarity, rest.rouge_l] {
            assert!((weight - 0.8 / 3.0).abs() < 1e-12, "{rest:?}");
        }
        assert!((rest.length - 0.2).abs() < 1e-12 && rest.judge == 0.0);
    }

    #[test]
    fn smart_rag_pays_exact_match_and_f1_and_takes_the_cost_of_retrieving() {
        let query = Query { references: vec!["New York".to_owned()], ..Query::default() };
        let blend = Blend::smart_rag(0.2);
        blend.check().unwrap();
        let total = |text: &str, gate| {
            let answer = answer(text);
            let subject = Subject { query: &query, answer: &answer, gate, documents: 3 };
            blend.score(subject, &query.references).unwrap().total
        };
        assert!((total("New York", Gate::Direct) - 2.0).abs() < 1e-12);
        assert!((total("New York", Gate::Retrieve) - 1.8).abs() < 1e-12);
        assert!((total("New York City", Gate::Retrieve) - 0.6).abs() < 1e-12);
    }

    #[test]
    fn senseless_weights_are_refused_with_the_term() {
        let wrong = [
            (Blend { token_f1: f64::NAN, ..Blend::default() }, "weight `token_f1` is NaN"),
            (Blend { length: -1.0, ..Blend::default() }, "weight `length` is -1"),
            (Blend { context_cost: 0.1, ..Blend::default() }, "weight `context_cost` is 0.1"),
            (Blend { token_f1: 0.0, ..Blend::default() }, "no weight on correctness"),
        ];
        for (blend, expected) in wrong {
            let error = blend.check().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(toml::from_str::<Blend>("token_f2 = 1.0").is_err());
        assert_eq!(toml::from_str::<Blend>("").unwrap(), Blend::default());
    }
}

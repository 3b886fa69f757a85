//! The blend on answers made by hand.

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
    let of = |blend: &Blend| blend.score_judged(subject, &query.references, (0.6, votes)).unwrap();
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

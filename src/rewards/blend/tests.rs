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

fn given(value: f64) -> Option<Given> {
    Some(Given { value, votes: None, time_ms: 7 })
}

/// The weight of each part by its name, beside what lifts the sum.
fn weights(reward: &Reward) -> Vec<(&str, f64)> {
    let parts = reward.parts.iter().filter(|part| part.name != "range");
    parts.map(|part| (part.name.as_str(), (part.weight * 1e9).round() / 1e9)).collect()
}

#[test]
fn the_total_is_the_weighted_sum_of_its_parts_mapped_to_its_range() {
    let blend = Blend {
        exact_match: 0.5,
        token_f1: 1.0,
        rouge_l: 0.25,
        length: 0.1,
        context_cost: -0.2,
        document_cost: -0.01,
        retrieval_cost: -0.05,
        context_tokens_max: 1_000,
        documents_max: 5,
        ..Blend::default()
    };
    blend.check().unwrap();
    // At most 1.75 + 0.1; the costs are 0.2, 0.05 and 0.05 at most.
    let (least, largest) = blend.range();
    assert!((least + 0.3).abs() < 1e-12 && (largest - 1.85).abs() < 1e-12);
    let query = Query { references: vec!["New York".to_owned()], ..Query::default() };
    let reward = score(&blend, &query, "New York City").unwrap();
    // EM 0; F1 0.8; ROUGE-L 0.8; length 1/4; cost 0.5, 3 and 1.
    let sum = 0.8 + 0.25 * 0.8 + 0.1 * 0.25 - 0.2 * 0.5 - 0.01 * 3.0 - 0.05;
    assert!((reward.total - (sum + 0.3) / 2.15).abs() < 1e-12, "{reward:?}");
    assert_eq!(reward.parts.len(), 8);
    assert_eq!(reward.part("exact_match"), Some(0.0));
    assert_eq!(reward.part("document_cost"), Some(3.0));
    let sum: f64 = reward.parts.iter().map(|part| part.value * part.weight).sum();
    assert!((sum - reward.total).abs() < 1e-12, "a reward is still the sum of its parts");
}

#[test]
fn rewards_lie_in_zero_to_one_whatever_is_said_and_spent() {
    let query = Query { references: vec!["x".to_owned()], ..Query::default() };
    let blends = [
        Blend { context_cost: -0.1, ..Blend::default() },
        Blend { exact_match: 1.0, judge: 2.0, length: 0.5, ..Blend::default() },
        Blend { context_cost: -5.0, document_cost: -1.0, ..Blend::smart_rag(0.2) },
        Blend { human: 0.0, correction: 9.0, ..Blend::dynamic_rag() },
    ];
    for blend in blends {
        blend.check().unwrap();
        let (mut lowest, mut highest) = (f64::MAX, f64::MIN);
        for (text, tokens, documents) in [("x", 0, 0), ("", 1_000_000, 900), ("a b", 2_048, 10)] {
            for (value, verdict) in [(0.0, None), (1.0, given(1.0)), (0.5, given(0.0))] {
                let usage = Usage { context_tokens: tokens, answer_tokens: 1 };
                let answer = Answer { text: text.to_owned(), usage, ..Answer::default() };
                let gate = if documents == 0 { Gate::Direct } else { Gate::Retrieve };
                let subject = Subject { query: &query, answer: &answer, gate, documents };
                let evidence = Evidence {
                    corrections: vec!["x".to_owned()],
                    human: given(value),
                    verdict,
                    ..Evidence::references(&query.references)
                };
                let total = blend.weigh(subject, &evidence).unwrap().total;
                assert!((0.0..=1.0).contains(&total), "{total} by {blend:?}");
                (lowest, highest) = (lowest.min(total), highest.max(total));
            }
        }
        assert!(highest > 0.6 && lowest < 0.4, "{lowest} to {highest} by {blend:?}");
    }
}

#[test]
fn nobody_who_has_a_weight_is_overruled_and_all_speak_on_one_scale() {
    let blend = Blend { judge: 0.5, human: 1.5, ..Blend::default() };
    let (query, answer) = (Query::default(), answer("New York City"));
    let subject = Subject { query: &query, answer: &answer, gate: Gate::Direct, documents: 0 };
    let of = |evidence: Evidence| blend.weigh(subject, &evidence).unwrap();
    let human = Evidence { human: given(0.0), ..Evidence::default() };
    let verdict = Evidence { verdict: given(1.0), ..Evidence::default() };
    assert_eq!(weights(&of(human.clone())), [("feedback", 1.0)]);
    assert_eq!(weights(&of(verdict.clone())), [("judge", 1.0)]);
    let both = of(Evidence { verdict: verdict.verdict, ..human.clone() });
    assert_eq!(weights(&both), [("judge", 0.25), ("feedback", 0.75)]);
    assert!((both.total - 0.25).abs() < 1e-12);
    assert_eq!(both.parts[1].source, EvidenceSource::Human);
    assert_eq!(both.parts[1].time_ms, 7);
    // F1 0.8 has a weight of 1 among 3.
    let references = vec!["New York".to_owned()];
    let all = of(Evidence { references: references.clone(), ..human.clone() });
    assert_eq!(weights(&all), [("token_f1", 0.4), ("feedback", 0.6)]);
    assert!((all.total - 0.32).abs() < 1e-12);
    let corrected = of(Evidence { corrections: references, ..human });
    assert_eq!(weights(&corrected), [("feedback", 0.6), ("correction", 0.4)]);
    assert!((corrected.total - 0.32).abs() < 1e-12);
    // What has no weight has no say; where nobody has one there is nothing to judge by.
    let deaf = Blend { human: 0.0, ..blend };
    assert_eq!(deaf.weigh(subject, &Evidence { human: given(1.0), ..Evidence::default() }), None);
    assert_eq!(blend.weigh(subject, &Evidence::default()), None);
    for value in [-0.1, 1.1, f64::NAN] {
        let evidence = Evidence { human: given(value), ..Evidence::default() };
        assert_eq!(blend.weigh(subject, &evidence), None);
    }
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
fn without_a_model_its_weight_goes_to_what_compares() {
    let blend = Blend { judge: 0.5, ..Blend::default() };
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
        _ => Blend { judge: 1.0, ..zero },
    }
}

#[test]
fn each_term_of_the_dynamic_rag_reward_stands_alone_and_their_mean_is_the_reward() {
    let query = Query { references: vec!["New York".to_owned()], ..Query::default() };
    let answer = answer("New York City");
    let subject = Subject { query: &query, answer: &answer, gate: Gate::Retrieve, documents: 3 };
    let evidence = Evidence { verdict: given(0.6), ..Evidence::references(&query.references) };
    let of = |blend: &Blend| blend.weigh(subject, &evidence).unwrap();
    // Two of three words match: P about 2/3 (a little more by chance), R 1.
    let by_hand = [("exact_match", 0.0), ("rouge_l", 0.8), ("judge", 0.6)];
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
    // From -0.2 to 2.
    assert!((total("New York", Gate::Direct) - 1.0).abs() < 1e-12);
    assert!((total("New York", Gate::Retrieve) - 2.0 / 2.2).abs() < 1e-12);
    assert!((total("New York City", Gate::Retrieve) - 0.8 / 2.2).abs() < 1e-12);
}

#[test]
fn senseless_weights_are_refused_with_the_term() {
    let wrong = [
        (Blend { token_f1: f64::NAN, ..Blend::default() }, "weight `token_f1` is NaN"),
        (Blend { length: -1.0, ..Blend::default() }, "weight `length` is -1"),
        (Blend { context_cost: 0.1, ..Blend::default() }, "weight `context_cost` is 0.1"),
        (Blend { human: -1.0, ..Blend::default() }, "weight `human` is -1"),
        (Blend { token_f1: 0.0, ..Blend::default() }, "no weight on correctness"),
        (Blend { documents_max: 0, ..Blend::default() }, "`documents_max` is 0"),
    ];
    for (blend, expected) in wrong {
        let error = blend.check().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(toml::from_str::<Blend>("token_f2 = 1.0").is_err());
    assert_eq!(toml::from_str::<Blend>("").unwrap(), Blend::default());
}

//! Records made into examples, and refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::interchange::records::Tried;
use actors::types::{Document, PolicyStamp};

fn rules(task: Task, role: Role) -> Rules {
    Rules { task, role, min_reward: 0.5, min_gap: 0.1, limits: Limits::default() }
}

fn tried(order: &[u32], reward: f64, answer: &str) -> Tried {
    Tried { order: order.to_vec(), answer: Some(answer.to_owned()), reward, log_prob: Some(-1.0) }
}

fn preference() -> Preference {
    let candidate = |rank: u32| Candidate {
        document: Document {
            id: format!("d{rank}").as_str().into(),
            title: format!("title {rank}"),
            text: format!("text of {rank}"),
            ..Document::default()
        },
        score: 1.0,
        rank,
    };
    let references = vec!["the White Nile".to_owned(), "Nile".to_owned()];
    Preference {
        query: Query { text: "which river?".to_owned(), references, ..Query::default() },
        candidates: (0..4).map(candidate).collect(),
        chosen: tried(&[2, 0], 0.9, "White Nile."),
        rejected: tried(&[1, 3], 0.2, "the Congo"),
        policy: PolicyStamp::default(),
    }
}

fn made(record: &Preference, rules: &Rules) -> Result<Example, Refused> {
    example(&TrainingRecord::Preference(record.clone()), rules, &Tokens::Words).unwrap()
}

fn pair(chosen: &str, rejected: &str) -> Target {
    Target::Pair { chosen: chosen.to_owned(), rejected: rejected.to_owned() }
}

#[test]
fn a_reranker_is_taught_selections_over_all_candidates() {
    let sft = made(&preference(), &rules(Task::Sft, Role::Reranker)).unwrap();
    assert_eq!(sft.target, Target::Completion("[3], [1]".to_owned()));
    assert!(sft.prompt.input.ends_with("4. Topic: title 3\nContent: text of 3"));
    let preferred = made(&preference(), &rules(Task::Preferences, Role::Reranker)).unwrap();
    assert_eq!(preferred.target, pair("[3], [1]", "[2], [4]"));
    let direct = Preference { rejected: tried(&[], 0.0, ""), ..preference() };
    let preferred = made(&direct, &rules(Task::Preferences, Role::Reranker)).unwrap();
    assert_eq!(preferred.target, pair("[3], [1]", "None"));
}

#[test]
fn a_generator_is_taught_the_reference_from_the_chosen_passages() {
    let sft = made(&preference(), &rules(Task::Sft, Role::Generator)).unwrap();
    assert_eq!(sft.target, Target::Completion("the White Nile".to_owned()));
    assert_eq!(
        sft.prompt.input,
        "Retrieved Content:\n1. Topic: title 2\nContent: text of 2\n2. Topic: title 0\nContent: \
         text of 0"
    );
    // "White Nile." is right once normalised, so the wrong answer is the other one's.
    let preferred = made(&preference(), &rules(Task::Preferences, Role::Generator)).unwrap();
    assert_eq!(preferred.target, pair("the White Nile", "the Congo"));
    let mut own = preference();
    own.query.references.clear();
    let sft = made(&own, &rules(Task::Sft, Role::Generator)).unwrap();
    assert_eq!(sft.target, Target::Completion("White Nile.".to_owned()));
}

#[test]
fn what_teaches_nothing_is_refused_with_its_reason() {
    use Refused::{
        EmptyAfterCut, EqualAfterCut, LowReward, NoReference, NoWrongAnswer, PromptTooLong,
        SameSelection, SmallGap,
    };
    let pairs = rules(Task::Preferences, Role::Reranker);
    let answers = rules(Task::Preferences, Role::Generator);
    let change = |change: &dyn Fn(&mut Preference)| {
        let mut record = preference();
        change(&mut record);
        record
    };
    let short = |max_prompt_tokens, max_completion_tokens| Rules {
        limits: Limits { max_prompt_tokens, max_completion_tokens },
        ..pairs
    };
    let cases = [
        (change(&|r| r.rejected.order = vec![2, 0]), pairs, SameSelection),
        (change(&|r| r.rejected.reward = 0.85), pairs, SmallGap),
        (change(&|r| r.rejected.reward = 2.0), pairs, SmallGap),
        (change(&|r| r.chosen.reward = 0.3), rules(Task::Sft, Role::Reranker), LowReward),
        (change(&|r| r.query.references.clear()), answers, NoReference),
        (change(&|r| r.rejected.answer = Some("Nile".into())), answers, NoWrongAnswer),
        (preference(), short(10, 10), PromptTooLong),
        // Both begin with the second candidate, and one name is all that fits.
        (change(&|r| r.rejected.order = vec![2, 3]), short(500, 1), EqualAfterCut),
        (preference(), short(500, 0), EmptyAfterCut),
    ];
    for (at, (record, rules, expected)) in cases.into_iter().enumerate() {
        assert_eq!(made(&record, &rules).unwrap_err(), expected, "case {at}");
    }
    let equal = Preference { rejected: tried(&[1], 0.9, ""), ..preference() };
    let no_gap = Rules { min_gap: 0.0, ..pairs };
    assert_eq!(made(&equal, &no_gap).unwrap_err(), SmallGap, "equal rewards are never a pair");
}

#[test]
fn a_demonstration_of_an_expert_needs_no_reward() {
    let Preference { query, candidates, policy, .. } = preference();
    let (order, answer, reward, log_prob) = (vec![1], None, None, None);
    let record = Demonstration { query, candidates, order, answer, reward, log_prob, policy };
    let record = TrainingRecord::Demonstration(record);
    let of = |rules| example(&record, &rules, &Tokens::Words).unwrap();
    let sft = of(rules(Task::Sft, Role::Reranker)).unwrap();
    assert_eq!(sft.target, Target::Completion("[2]".to_owned()));
    assert_eq!(of(rules(Task::Preferences, Role::Reranker)).unwrap_err(), Refused::NoContrast);
    assert_eq!(of(rules(Task::Preferences, Role::Generator)).unwrap_err(), Refused::NoWrongAnswer);
}

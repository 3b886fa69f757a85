//! Answers scored as the SQuAD script does.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn references(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

#[test]
fn answers_score_as_in_the_squad_script() {
    assert_eq!(answer_scores("The Nile.", &references(&["Nile River", "the nile"])), (1.0, 1.0));
    let (f1, em) = answer_scores("Nile", &references(&["Nile River"]));
    assert!((f1 - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(em, 0.0);
    assert_eq!(answer_scores("", &references(&["Nile"])), (0.0, 0.0));
}

#[test]
fn an_unanswerable_question_wants_no_answer() {
    assert_eq!(answer_scores("", &[]), (1.0, 1.0));
    assert_eq!(answer_scores("Nile", &[]), (0.0, 0.0));
}

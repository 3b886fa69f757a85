//! Cases that agree, and the ways in which they do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;
use crate::policy::reader::ReaderArgs;
use actors::types::Document;

fn case(logits: Option<Vec<f64>>) -> Case {
    let document =
        |n: usize| Document { text: format!("passage {n} is here"), ..Document::default() };
    Case {
        question: "who is where?".to_owned(),
        documents: (0..3).map(document).collect(),
        states: None,
        quantity: Quantity::Relevance,
        logits,
        order: None,
        tolerance: None,
    }
}

fn cases(all: &[Case]) -> Result<Cases, ParityError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.jsonl");
    write_cases(&path, all).unwrap();
    Cases::read(&path, 1e-3)
}

fn gives(logits: [f64; 3]) -> impl Fn(&Case) -> Result<Vec<f64>, String> {
    move |_| Ok(logits.to_vec())
}

#[test]
fn logits_within_tolerance_agree() {
    let all = cases(&[case(Some(vec![0.1, 2.0, -1.0]))]).unwrap();
    let report = all.check(gives([0.1005, 2.0, -1.0])).unwrap();
    assert_eq!((report.cases, report.logits, report.kendall_tau), (1, 3, Some(1.0)));
    assert!((report.max_difference - 5e-4).abs() < 1e-12);
}

#[test]
fn the_worst_logit_is_shown_with_its_place() {
    let all = [case(Some(vec![0.0, 0.0, 0.0])), case(Some(vec![0.1, 2.0, -1.0]))];
    let all = cases(&all).unwrap();
    let error = all.check(gives([0.1, 2.5, -1.0])).unwrap_err().to_string();
    // Of six logits four differ; the largest difference is the 2.5 of the first case.
    for part in ["4 of 6 logits", "cases.jsonl:1", "document 1", "expected 0, found 2.5", "2.500e0"]
    {
        assert!(error.contains(part), "{part} not in: {error}");
    }
    let error = all.check(gives([0.1, f64::NAN, -1.0])).unwrap_err();
    assert!(matches!(error, ParityError::Differs { .. }), "{error}");
}

#[test]
fn another_order_is_refused_where_tolerance_cannot_explain_it() {
    let ranked =
        |order: &[u32]| Case { order: Some(order.to_vec()), ..case(Some(vec![0.1, 2.0, 2.0005])) };
    let found = [0.1, 2.0, 2.0005];
    cases(&[ranked(&[2, 1, 0])]).unwrap().check(gives(found)).unwrap();
    cases(&[ranked(&[1, 2, 0])]).unwrap().check(gives(found)).unwrap();
    let error = cases(&[ranked(&[0, 1])]).unwrap().check(gives(found)).unwrap_err();
    assert!(error.to_string().contains("ranks document 0 before 1"), "{error}");
}

#[test]
fn a_case_that_was_not_filled_or_makes_no_sense_is_named_by_line() {
    let filled = || case(Some(vec![0.0; 3]));
    let wrong = [
        (case(None), "field `logits` is missing"),
        (case(Some(vec![0.0])), "has 1 numbers for 3 documents"),
        (Case { order: Some(vec![3]), ..filled() }, "`order` holds 3"),
        (Case { tolerance: Some(0.5), ..filled() }, "`tolerance` is 0.5"),
    ];
    for (second, expected) in wrong {
        let error = cases(&[filled(), second]).unwrap_err().to_string();
        assert!(error.contains("cases.jsonl:2: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_reader_agrees_with_itself_and_gives_no_scores() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(folder.path(), 3).unwrap();
    let reader = PairReader::load(folder.path(), ReaderArgs::default()).unwrap();
    let logits = of_reader(&reader, &case(None)).unwrap();
    let all = cases(&[case(Some(logits))]).unwrap();
    let report = all.check(|case| of_reader(&reader, case)).unwrap();
    assert!(report.max_difference < 1e-9, "{report:?}");
    let scores = Case { quantity: Quantity::Scores, ..case(None) };
    assert!(of_reader(&reader, &scores).unwrap_err().contains("`scores`"));
}

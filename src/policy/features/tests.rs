//! Features on lists worked out by hand.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use actors::types::{Document, DocumentId};

fn candidate(rank: u32, score: f32, title: &str, text: &str) -> Candidate {
    let id = DocumentId(format!("d{rank}"));
    Candidate {
        document: Document { id, title: title.into(), text: text.into(), ..Document::default() },
        score,
        rank,
    }
}

fn reading(answer: &str, rel: f32, span_score: f32, null_score: f32) -> Arc<Reading> {
    let (cls, span) = (vec![0.5; 4], vec![0.0; 4]);
    let answer = answer.into();
    Arc::new(Reading { cls, span, rel, span_score, null_score, answer, tokens: 40 })
}

fn example() -> Vec<Vec<f32>> {
    let candidates = [
        candidate(0, 8.0, "Nile", "The Nile flows to the sea. The Nile is 6,650 km long."),
        candidate(1, 6.0, "Rivers", "Of all rivers the nile is long and 6,650 km in length."),
        candidate(2, 2.0, "Amazon", "The Amazon is 6,400 km long."),
    ];
    let readings = [
        reading("6,650 km", 2.0, 9.0, 1.0),
        reading("6,650 km", 0.0, 7.0, 5.0),
        reading("6,400 km", -3.0, 4.0, 8.0),
    ];
    scalars("how long is the Nile", &candidates, &readings)
}

fn value(row: &[f32], name: &str) -> f32 {
    row[position(name).unwrap()]
}

#[test]
fn every_feature_has_its_column() {
    for row in example() {
        assert_eq!(row.len(), SCALARS.len());
    }
}

#[test]
fn agreement_is_counted_over_the_other_candidates() {
    let rows = example();
    assert_eq!(value(&rows[0], "same_count"), 0.5);
    assert_eq!(value(&rows[2], "same_count"), 0.0);
    // Shared token "km" of two: F1 1/2 with the third, 1 with the second.
    assert!((value(&rows[0], "soft_count") - 0.75).abs() < 1e-6);
    assert_eq!(value(&rows[0], "holds_count"), 0.5);
    assert!((value(&rows[0], "group_log_size") - 2f32.ln()).abs() < 1e-6);
    assert_eq!(value(&rows[1], "group_best_margin"), 8.0);
    let e = |x: f32| x.exp();
    let share = e(0.0) / (e(2.0) + e(0.0) + e(-3.0));
    assert!((value(&rows[0], "same_by_relevance") - share).abs() < 1e-6);
}

#[test]
fn retrieval_and_reader_columns_by_hand() {
    let rows = example();
    assert_eq!(value(&rows[1], "retrieval_share"), 0.75);
    assert_eq!(value(&rows[2], "retrieval_reciprocal_rank"), 1.0 / 3.0);
    assert_eq!(value(&rows[2], "margin"), -4.0);
    assert_eq!(value(&rows[2], "margin_gap"), -12.0);
    assert_eq!(value(&rows[1], "relevance_gap"), -2.0);
}

#[test]
fn cues_by_hand() {
    let rows = example();
    // Content words of the question: long, nile. The title holds one of them.
    assert_eq!(value(&rows[0], "query_in_title"), 0.5);
    assert_eq!(value(&rows[0], "title_in_query"), 1.0);
    assert_eq!(value(&rows[0], "near_query"), 1.0);
    assert_eq!(value(&rows[2], "near_query_elsewhere"), 0.0);
    assert_eq!(value(&rows[0], "answer_has_digit"), 1.0);
    assert_eq!(value(&rows[0], "asks_who"), 0.0);
}

#[test]
fn states_are_finite_bounded_and_as_wide_as_stated() {
    let candidates = [candidate(0, f32::MAX, "", "")];
    let readings = [reading("", 1e30, -1e30, 1e30)];
    let values = states("", &candidates, &readings);
    assert_eq!(values.len(), 4 + SCALARS.len());
    assert!(values[4..].iter().all(|v| v.abs() <= 5.0));
    assert!(states("q", &[], &[]).is_empty());
}

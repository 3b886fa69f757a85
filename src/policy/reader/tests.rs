//! Reading with a tiny random model: layout, limits, cache.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod figures;
mod trunk;

use super::*;
use crate::policy::fixture::write_tiny_model;

fn reader(args: ReaderArgs) -> PairReader {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path(), 3).unwrap();
    PairReader::load(dir.path(), args).unwrap()
}

fn document(id: &str, title: &str, text: &str) -> Document {
    Document {
        id: id.into(),
        title: title.to_owned(),
        text: text.to_owned(),
        ..Document::default()
    }
}

#[test]
fn a_reading_does_not_depend_on_its_neighbours() {
    let args = ReaderArgs { batch_tokens: 60, cache_capacity: 0, ..Default::default() };
    let reader = reader(args);
    let documents: Vec<Document> = (1..6)
        .map(|n| document(&n.to_string(), "Title", &"Some words, and more. ".repeat(n)))
        .collect();
    let pairs: Vec<_> = documents.iter().map(|d| ("Who is it?", d)).collect();
    let together = reader.read(&pairs).unwrap();
    for (pair, expected) in pairs.iter().zip(&together) {
        let alone = &reader.read(&[*pair]).unwrap()[0];
        assert!((alone.rel - expected.rel).abs() < 1e-4);
        assert_eq!(alone.answer, expected.answer);
        assert_eq!(alone.cls.len(), reader.width());
    }
}

#[test]
fn an_answer_keeps_the_casing_and_letters_of_its_document() {
    let reader = reader(ReaderArgs::default());
    let text = "Ein Größerer Café-Besitzer, NAMED Ødegård.";
    let reading = &reader.read(&[("who?", &document("a", "", text))]).unwrap()[0];
    assert!(!reading.answer.is_empty());
    assert!(text.contains(&reading.answer), "{}", reading.answer);
}

#[test]
fn a_pair_is_encoded_once_until_its_text_changes() {
    let reader = reader(ReaderArgs::default());
    let first = document("a", "", "one text");
    let second = document("a", "", "another text");
    reader.read(&[("q", &first), ("q", &first)]).unwrap();
    reader.read(&[("q", &first)]).unwrap();
    reader.read(&[("q", &second), ("p", &first)]).unwrap();
    let counters = reader.counters();
    assert_eq!((counters.pairs_encoded, counters.cache_hits), (3, 2));
}

#[test]
fn the_cache_forgets_what_was_used_longest_ago() {
    let mut cache = Cache::new(2);
    let key = |q: &str| Key::of(q, &Document::default());
    let reader = reader(ReaderArgs::default());
    let reading = Arc::clone(&reader.read(&[("q", &document("a", "", "x"))]).unwrap()[0]);
    cache.insert(key("1"), Arc::clone(&reading));
    cache.insert(key("2"), Arc::clone(&reading));
    assert!(cache.get(&key("1")).is_some());
    cache.insert(key("3"), reading);
    assert!(cache.get(&key("2")).is_none());
    assert!(cache.get(&key("1")).is_some());
    assert_eq!(cache.len(), 2);
}

#[test]
fn texts_of_any_size_are_cut_or_refused_but_never_explode() {
    let reader = reader(ReaderArgs::default());
    let book = document("a", "", &"word ".repeat(200_000));
    let reading = &reader.read(&[("who is it", &book)]).unwrap()[0];
    assert!(reading.tokens < 192);
    let huge = "x".repeat(100_000);
    let error = reader.read(&[(huge.as_str(), &book)]).unwrap_err();
    assert!(matches!(error, ReaderError::QuestionTooLong { bytes: 100_000, .. }), "{error}");
    let long = "what is it ".repeat(300);
    assert!(reader.read(&[(long.as_str(), &book)]).unwrap()[0].tokens > 0);
    assert!(matches!(reader.read(&[(" ", &book)]), Err(ReaderError::EmptyQuestion)));
}

#[test]
fn an_empty_passage_reads_as_no_answer() {
    let reader = reader(ReaderArgs::default());
    let reading = &reader.read(&[("who?", &document("a", "", " "))]).unwrap()[0];
    assert_eq!((reading.answer.as_str(), reading.tokens), ("", 0));
    assert!(reading.margin() < -20.0);
}

#[test]
fn limits_that_leave_no_room_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path(), 3).unwrap();
    for (args, name) in [
        (ReaderArgs { max_tokens: 1000, ..Default::default() }, "`max_tokens`"),
        (ReaderArgs { max_tokens: 50, ..Default::default() }, "`max_question_tokens`"),
    ] {
        let error = PairReader::load(dir.path(), args).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn the_best_span_is_short_and_the_earliest_of_equals() {
    let mut logits = vec![vec![0.0, 0.0]; 40];
    logits[2] = vec![5.0, -1.0];
    logits[17][1] = 3.0;
    logits[18][1] = 9.0;
    assert_eq!(best_span(&logits), Some(Span { first: 3, last: 18, score: 9.0 }));
    logits[17][1] = 4.5;
    assert_eq!(best_span(&logits).unwrap(), Span { first: 2, last: 17, score: 9.5 });
    assert_eq!(best_span(&[]), None);
}

#[test]
fn the_best_reading_has_the_largest_margin() {
    let reader = reader(ReaderArgs::default());
    let reading = (*reader.read(&[("q", &document("a", "", "x y"))]).unwrap()[0]).clone();
    let better = Reading { span_score: reading.span_score + 1.0, ..reading.clone() };
    assert_eq!(best_reading([&reading, &better, &better]).unwrap().0, 1);
    assert!(best_reading([]).is_none());
}

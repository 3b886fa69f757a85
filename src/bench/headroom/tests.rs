//! What a set is worth, and when there is nothing to learn.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use actors::ports::GenerateError;
use actors::types::{Answer, Candidate, CandidateStates, Document, Query};
use async_trait::async_trait;

/// Answers with the title of the passage that comes first by number in its text.
struct Widest;

#[async_trait]
impl Generator for Widest {
    async fn answer(&self, _: &Query, documents: &[Document]) -> Result<Answer, GenerateError> {
        let best = documents.iter().max_by_key(|d| d.text.parse::<u32>().unwrap_or(0));
        let text = best.map(|d| d.title.clone()).unwrap_or_default();
        Ok(Answer { text, ..Answer::default() })
    }
}

/// Answers with the first passage, whatever it says.
struct First;

#[async_trait]
impl Generator for First {
    async fn answer(&self, _: &Query, documents: &[Document]) -> Result<Answer, GenerateError> {
        let text = documents.first().map(|d| d.title.clone()).unwrap_or_default();
        Ok(Answer { text, ..Answer::default() })
    }
}

/// A question whose documents answer rightly or not, with these margins.
fn laid(documents: &[(bool, u32)]) -> Laid {
    let candidate = |(rank, (is_right, margin)): (usize, &(bool, u32))| Candidate {
        document: Document {
            title: if *is_right { "right" } else { "wrong" }.to_owned(),
            text: margin.to_string(),
            ..Document::default()
        },
        score: 0.0,
        rank: rank as u32,
    };
    let n = documents.len();
    Laid {
        instance: Instance {
            query: Query { references: vec!["right".to_owned()], ..Query::default() },
            dataset: String::new(),
            answer_type: "short".to_owned(),
            positives: Vec::new(),
            candidates: documents.iter().enumerate().map(candidate).collect(),
            states: CandidateStates::new(2, vec![0.5; 2 * n]).unwrap(),
            tokens: vec![10; n],
        },
        f1: documents.iter().map(|(is_right, _)| f64::from(u8::from(*is_right))).collect(),
        margin: documents.iter().map(|(_, margin)| *margin as f32).collect(),
        relevance: vec![0.0; n],
    }
}

#[test]
fn the_widest_margin_speaks_for_a_set_and_the_first_of_equals() {
    let question = laid(&[(true, 1), (false, 3), (true, 3)]);
    assert_eq!(question.worth([0]), 1.0);
    assert_eq!(question.worth([0, 1]), 0.0);
    assert_eq!(question.worth([2, 1]), 1.0);
    assert_eq!(question.worth([]), 0.0);
}

#[tokio::test]
async fn headroom_is_the_best_document_less_the_best_cut() {
    let questions = [laid(&[(false, 9), (true, 1), (false, 2)]), laid(&[(true, 5), (false, 2)])];
    let found = measure("toy", &questions, &Widest, 0).await.unwrap();
    assert!((found.best.f1 - 100.0).abs() < 1e-9 && (found.points - 50.0).abs() < 1e-9);
    assert_eq!(
        (found.best_cut.as_str(), found.sets, found.is_enough()),
        ("retrieval_k1", (2, 2), true)
    );
    assert!((found.best.tokens - 10.0).abs() < 1e-9 && (found.cuts[1].tokens - 25.0).abs() < 1e-9);
    let easy = [laid(&[(true, 1), (false, 0)])];
    let found = measure("easy", &easy, &Widest, 0).await.unwrap();
    assert!(table(&[found]).contains("nothing can be learned here"));
}

#[tokio::test]
async fn a_generator_that_does_not_answer_from_the_widest_margin_is_found_out() {
    let questions: Vec<Laid> = (0..20).map(|_| laid(&[(false, 9), (true, 1), (true, 2)])).collect();
    let found = measure("toy", &questions, &First, 0).await.unwrap();
    assert!(found.sets.1 < found.sets.0, "{:?}", found.sets);
    assert!(table(&[found]).contains("at least the best document"));
}

#[test]
fn kept_questions_are_five_arrays_and_a_header() {
    let folder = tempfile::tempdir().unwrap();
    keep(folder.path(), "toy", &[laid(&[(true, 1), (false, 3)]), laid(&[(true, 2)])]).unwrap();
    let bytes = std::fs::read(folder.path().join("toy.bin")).unwrap();
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut expected = vec![0.5; 6];
    expected.extend([1.0, 0.0, 1.0, 1.0, 3.0, 2.0, 10.0, 10.0, 10.0, 0.0, 0.0, 0.0]);
    assert_eq!(values, expected);
    let header = std::fs::read(folder.path().join("toy.json")).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    assert_eq!((&header["n_questions"], &header["width"]), (&2.into(), &2.into()));
    assert_eq!(header["candidates"], serde_json::json!([2, 1]));
}

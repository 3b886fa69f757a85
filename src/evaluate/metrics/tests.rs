//! Figures of single questions, worked by hand and against the scripts' own numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use actors::types::Answer;
use proptest::prelude::*;
use serde::Deserialize;

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn attempt(answer: &str, ranking: &[&str], documents: &[&str]) -> Attempt {
    Attempt {
        answer: Answer { text: answer.to_owned(), ..Answer::default() },
        ranking: ranking.iter().map(|id| (*id).into()).collect(),
        documents: documents.iter().map(|id| (*id).into()).collect(),
        retrievals: 1,
        reader_calls: documents.len() as u32,
        context_tokens: 30,
        ..Attempt::default()
    }
}

fn value(name: &str, scored: &Scored) -> Option<f64> {
    (METRICS.iter().find(|metric| metric.name == name).unwrap().of)(scored)
}

#[test]
fn answers_score_as_in_the_squad_script() {
    assert_eq!(answer_scores("The Nile.", &strings(&["Nile River", "the nile"])), (1.0, 1.0));
    let (f1, em) = answer_scores("Nile", &strings(&["Nile River"]));
    assert!((f1 - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(em, 0.0);
    assert_eq!(answer_scores("", &strings(&["Nile"])), (0.0, 0.0));
}

#[test]
fn an_unanswerable_question_wants_no_answer() {
    assert_eq!(answer_scores("", &[]), (1.0, 1.0));
    assert_eq!(answer_scores("Nile", &[]), (0.0, 0.0));
}

#[test]
fn an_attempt_is_scored_by_hand() {
    let question = Question {
        answers: strings(&["the red lamp"]),
        positives: vec!["b".into(), "e".into()],
        ..Question::default()
    };
    let key = Key::of(&question, None, 1);
    let scored = score(&key, &attempt("red lamp", &["a", "b", "b", "c", "d", "e"], &["b", "x"]));
    assert_eq!((scored.f1, scored.em), (Some(1.0), Some(1.0)));
    // Two of two words and of three in order: precision 1, recall 2/3 (ROUGE keeps articles).
    assert!((scored.rouge_l.unwrap() - 0.8).abs() < 1e-12);
    assert_eq!(scored.hit_at, Some([0.0, 1.0, 1.0, 1.0, 1.0]));
    // The repeated document counts once: the fifth is `e`.
    assert_eq!(scored.recall_at, Some([0.0, 0.5, 1.0, 1.0, 1.0]));
    assert_eq!((scored.hit_selected, scored.recall_selected), (Some(1.0), Some(0.5)));
    assert_eq!((scored.ndcg_at_10, scored.label_accuracy), (None, None));
    assert_eq!((value("k", &scored), value("context_tokens", &scored)), (Some(2.0), Some(30.0)));
    assert_eq!(value("recall_at_3", &scored), Some(0.5));
}

#[test]
fn what_is_not_known_is_not_scored() {
    let key = Key::of(&Question::default(), None, 1);
    let scored = score(&key, &attempt("anything", &["a"], &["a"]));
    let known = METRICS.iter().filter(|m| m.is_quality && (m.of)(&scored).is_some());
    assert_eq!(known.map(|m| m.name).collect::<Vec<_>>(), Vec::<&str>::new());
    let unanswerable = Question { kind: Some("unanswerable".to_owned()), ..Question::default() };
    let scored = score(&Key::of(&unanswerable, None, 1), &attempt("", &[], &[]));
    assert_eq!((scored.f1, scored.em), (Some(1.0), Some(1.0)));
}

#[test]
fn grades_come_from_judgements_else_from_the_question() {
    let mut question = Question { id: "q".to_owned(), ..Question::default() };
    question.meta.insert(GRADES.to_owned(), serde_json::json!({ "a": 1, "b": 3 }));
    let key = Key::of(&question, None, 2);
    assert_eq!(key.relevant, BTreeSet::from(["b".to_owned()]));
    let scored = score(&key, &attempt("", &["a", "b"], &[]));
    // Gains 1 and 3 at places 1 and 2, best order 3 and 1.
    let discount = 3_f64.log2().recip();
    let expected = (1.0 + 3.0 * discount) / (3.0 + discount);
    assert!((scored.ndcg_at_10.unwrap() - expected).abs() < 1e-12);
    let qrels = Qrels::from([("q".to_owned(), Grades::from([("a".to_owned(), 2)]))]);
    let key = Key::of(&question, Some(&qrels), 2);
    assert_eq!(score(&key, &attempt("", &["a", "b"], &[])).ndcg_at_10, Some(1.0));
}

#[test]
fn label_accuracy_is_for_label_questions_only() {
    let mut question = Question { answers: strings(&["SUPPORTS"]), ..Question::default() };
    let of = |question: &Question| {
        score(&Key::of(question, None, 1), &attempt("supports", &[], &[])).label_accuracy
    };
    assert_eq!(of(&question), None);
    question.answer_type = "label".to_owned();
    assert_eq!(of(&question), Some(1.0));
}

#[derive(Deserialize)]
struct Texts {
    answer: String,
    references: Vec<String>,
    em: f64,
    f1: f64,
    rouge_l: f64,
}

#[derive(Deserialize)]
struct Ranked {
    ranking: Vec<String>,
    grades: Grades,
    ndcg_at_10: f64,
    hit_at: [f64; 5],
    recall_at: [f64; 5],
}

#[derive(Deserialize)]
struct Oracle {
    texts: Vec<Texts>,
    rankings: Vec<Ranked>,
}

#[test]
fn figures_agree_with_the_scripts_of_the_field() {
    let oracle: Oracle = serde_json::from_str(&oracle()).unwrap();
    assert!(oracle.texts.len() >= 20 && oracle.rankings.len() >= 10);
    for case in &oracle.texts {
        let (f1, em) = answer_scores(&case.answer, &case.references);
        let rouge_l = rewards::rouge_l(&case.answer, &case.references);
        for (found, expected, what) in
            [(f1, case.f1, "F1"), (em, case.em, "EM"), (rouge_l, case.rouge_l, "ROUGE-L")]
        {
            let close = (found - expected).abs() < 1e-6;
            assert!(close, "{what} of {:?}: {found}, not {expected}", case.answer);
        }
    }
    for case in &oracle.rankings {
        let ranking: Vec<&str> = case.ranking.iter().map(String::as_str).collect();
        let relevant = case.grades.iter().filter(|(_, g)| **g >= 1).map(|(id, _)| id.clone());
        let relevant: BTreeSet<String> = relevant.collect();
        // The script gives 0 where nothing is relevant; here there is nothing to say.
        let ndcg = ndcg_at_10(&ranking, &case.grades).unwrap_or(0.0);
        assert!((ndcg - case.ndcg_at_10).abs() < 1e-6, "{ndcg}, not {}", case.ndcg_at_10);
        let found = hits(&ranking, &relevant).unwrap_or_default();
        let recall = recalls(&ranking, &relevant).unwrap_or_default();
        for at in 0..CUTS.len() {
            assert!((found[at] - case.hit_at[at]).abs() < 1e-6, "hit@{}", CUTS[at]);
            assert!((recall[at] - case.recall_at[at]).abs() < 1e-6, "recall@{}", CUTS[at]);
        }
    }
}

proptest! {
    #[test]
    fn figures_of_rankings_are_shares_and_grow_with_the_cut(
        order in Just((0..25).collect::<Vec<u32>>()).prop_shuffle(),
        grades in prop::collection::btree_map(0_u32..40, -1_i32..4, 1..12),
    ) {
        let ranking: Vec<String> = order.iter().map(u32::to_string).collect();
        let ranking: Vec<&str> = ranking.iter().map(String::as_str).collect();
        let grades: Grades = grades.into_iter().map(|(id, g)| (id.to_string(), g)).collect();
        let relevant: BTreeSet<String> =
            grades.iter().filter(|(_, g)| **g >= 1).map(|(id, _)| id.clone()).collect();
        if let Some(ndcg) = ndcg_at_10(&ranking, &grades) {
            prop_assert!((0.0..=1.0 + 1e-12).contains(&ndcg), "{ndcg}");
        }
        let found = (hits(&ranking, &relevant), recalls(&ranking, &relevant));
        if let (Some(hit), Some(recall)) = found {
            for at in 0..CUTS.len() {
                prop_assert!(hit[at] >= recall[at] && recall[at] >= 0.0);
                prop_assert!(at == 0 || (hit[at] >= hit[at - 1] && recall[at] >= recall[at - 1]));
            }
        }
    }
}

/// The oracle's figures, as `tests/oracles/metrics.py` wrote them.
fn oracle() -> String {
    let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/metrics.json");
    std::fs::read_to_string(place).unwrap()
}

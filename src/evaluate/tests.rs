//! Contenders asked questions in a world of fakes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixed::FixedK;
use actors::fakes::World;
use actors::types::Document;
use async_trait::async_trait;

/// No policy: searches twice, or answers without documents.
struct Twice {
    skips: bool,
    fails_on: Option<&'static str>,
}

#[async_trait]
impl Contestant for Twice {
    async fn attempt(
        &mut self,
        asked: &Asked<'_>,
        setting: &Setting<'_>,
    ) -> Result<Attempt, AttemptError> {
        if self.fails_on == Some(asked.question.id.as_str()) {
            return Err(AttemptError::Other("the wire is cut".to_owned()));
        }
        if self.skips {
            return contender::answer(setting, asked.query, &[]).await;
        }
        let more = contender::search(setting, asked, "another text").await?;
        let documents: Vec<Document> =
            asked.candidates.iter().chain(&more).take(3).map(|c| c.document.clone()).collect();
        let attempt = contender::answer(setting, asked.query, &documents).await?;
        let ranking = attempt.documents.clone();
        Ok(Attempt { ranking, retrievals: 2, ..attempt })
    }
}

fn contenders(fails_on: Option<&'static str>) -> Vec<Contender> {
    vec![
        Contender { name: "retrieval_k1".to_owned(), policy: Box::new(FixedK::new(1)) },
        Contender::deciding("boxed", Box::new(FixedK::new(2))),
        Contender { name: "twice".to_owned(), policy: Box::new(Twice { skips: false, fails_on }) },
        Contender {
            name: "direct".to_owned(),
            policy: Box::new(Twice { skips: true, fails_on: None }),
        },
    ]
}

fn questions() -> Vec<Question> {
    let question = |n: usize| Question {
        id: format!("q{n}"),
        dataset: "d".to_owned(),
        question: format!("what is number {n}?"),
        answers: if n == 3 { Vec::new() } else { vec![format!("number {n}")] },
        ..Question::default()
    };
    (0..4).map(question).collect()
}

fn column<'a>(table: &'a ScoreTable, name: &str, metric: &str) -> &'a [Option<f64>] {
    let found = table.contenders.iter().find(|contender| contender.name == name).unwrap();
    &found.runs[0][metric]
}

async fn scored(fails_on: Option<&'static str>, max: usize) -> Result<ScoreTable, EvaluateError> {
    let world = World::default();
    let document = |n: usize| Document {
        id: format!("d{n}").as_str().into(),
        text: format!("number {n}"),
        ..Document::default()
    };
    world.index.upsert(&(0..4).map(document).collect::<Vec<_>>()).await.unwrap();
    let (index, generator) = (&*world.index, &*world.generator);
    let limits = SelectionLimits { k_min: 1, k_max: 5, token_budget: 1_000 };
    let setting = Setting { index, generator, top_n: 5, limits };
    let questions = questions();
    let exam = Exam { failures_max: max, ..Exam::of(&questions) };
    let mut told = Vec::new();
    let table = score(&setting, &mut contenders(fails_on), &exam, &mut |done, total| {
        told.push((done, total));
    })
    .await?;
    assert_eq!(told.last(), Some(&(4, 4)));
    Ok(table)
}

#[tokio::test]
async fn policies_and_other_systems_answer_the_same_questions() {
    let table = scored(None, 0).await.unwrap();
    assert_eq!(table.questions, ["q0", "q1", "q2", "q3"]);
    assert_eq!(table.names(), ["retrieval_k1", "boxed", "twice", "direct"]);
    assert_eq!(column(&table, "retrieval_k1", "k")[0], Some(1.0));
    assert_eq!(column(&table, "boxed", "k")[0], Some(2.0));
    assert_eq!(column(&table, "twice", "retrievals")[0], Some(2.0));
    assert_eq!(column(&table, "direct", "retrievals")[0], Some(0.0));
    assert_eq!(column(&table, "direct", "k")[0], Some(0.0));
    assert_eq!(column(&table, "retrieval_k1", "f1")[3], None, "no answer is known");
    let told: Vec<(&str, usize)> =
        table.left_out.iter().map(|l| (l.of.as_str(), l.questions)).collect();
    assert_eq!(told, [("hits and recall", 4), ("ndcg_at_10", 4), ("answers", 1)]);
}

#[tokio::test]
async fn a_failure_stops_the_evaluation_unless_some_may_fail() {
    let error = scored(Some("q1"), 0).await.unwrap_err().to_string();
    for part in ["`q1`", "`twice`", "the wire is cut"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let table = scored(Some("q1"), 1).await.unwrap();
    assert_eq!(table.questions, ["q0", "q2", "q3"], "scored for nobody");
    let failed = table.left_out.iter().find(|l| l.of == "everything").unwrap();
    assert_eq!((failed.contender.as_str(), failed.reason.as_str()), ("twice", "other"));
    assert_eq!((failed.questions, failed.first.as_str()), (1, "q1: the wire is cut"));
}

#[test]
fn candidates_without_a_score_come_last_in_retrieval_order() {
    let candidate = |id: &str| actors::types::Candidate {
        document: Document { id: id.into(), ..Document::default() },
        score: 0.0,
        rank: 0,
    };
    let all = ["a", "b", "c", "d"].map(candidate);
    let ranked = contender::ranked(&all, &[0.1, f32::NAN, 0.7]);
    assert_eq!(ranked.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["c", "a", "b", "d"]);
}

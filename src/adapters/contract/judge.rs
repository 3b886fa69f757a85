//! The promises of `ports::Judge`.

use actors::ports::{Judge, JudgeTask};
use actors::types::{Answer, Episode, Feedback, Outcome, Query, Verdict};
use std::sync::Arc;

/// Checks a judge; `make()` gives one that works.
pub async fn check_judge(make: impl AsyncFn() -> Arc<dyn Judge>) {
    let judge = make().await;
    assert!(!judge.name().is_empty());
    assert_eq!(judge.name(), make().await.name(), "equal judges have equal names");

    let right = judge.judge(&task("Paris", &["Paris"])).await.expect("a verdict");
    let wrong = judge.judge(&task("Rome", &["Paris"])).await.expect("a verdict");
    let (Some(Verdict::Scored { reward: right }), Some(Verdict::Scored { reward: wrong })) =
        (right, wrong)
    else {
        panic!("an answer with references is scored");
    };
    assert!(right.total > wrong.total, "a right answer earns more than a wrong one");
    for reward in [&right, &wrong] {
        let sum: f64 = reward.parts.iter().map(|part| part.value * part.weight).sum();
        assert!((sum - reward.total).abs() < 1e-9, "the total is the sum of its parts");
    }

    let mut later = task("Paris", &[]);
    later.feedback.push(Feedback {
        id: "f1".to_owned(),
        decision_id: "d1".into(),
        value: None,
        references: vec!["Paris".to_owned()],
        source: "user".to_owned(),
        time_ms: 0,
    });
    assert!(judge.judge(&later).await.expect("a verdict").is_some(), "feedback is used");

    let mut failed = task("", &["Paris"]);
    failed.episode.outcome =
        Outcome::Failed { stage: "generate".to_owned(), reason: "down".to_owned() };
    let verdict = judge.judge(&failed).await.expect("a verdict");
    assert!(!matches!(verdict, Some(Verdict::Scored { .. })), "no answer, no reward");
}

fn task(answer: &str, references: &[&str]) -> JudgeTask {
    let query = Query {
        id: "q1".into(),
        text: "What is the capital of France?".to_owned(),
        references: references.iter().map(|r| (*r).to_owned()).collect(),
        ..Query::default()
    };
    let answer = Answer { text: answer.to_owned(), ..Answer::default() };
    let episode = Episode {
        schema: Episode::SCHEMA,
        query,
        rewrites: Vec::new(),
        candidates: Vec::new(),
        decision: None,
        outcome: Outcome::Answered { answer },
        degraded: None,
        assignment: None,
        interleaved: None,
        unusable_for_ope: None,
        finished_ms: 0,
        duration_ms: 0,
    };
    JudgeTask { episode, feedback: Vec::new() }
}

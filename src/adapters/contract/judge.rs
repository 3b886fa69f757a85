//! The promises of `ports::Judge`.

use actors::ports::{Judge, JudgeTask, Judgement};
use actors::types::{Answer, Feedback, Query};
use std::sync::Arc;

/// Checks a judge; `make()` gives one that works.
pub async fn check_judge(make: impl AsyncFn() -> Arc<dyn Judge>) {
    let judge = make().await;
    assert!(!judge.name().is_empty());
    assert_eq!(judge.name(), make().await.name(), "equal judges have equal names");

    let right = judge.judge(&task("Paris", &["Paris"])).await.expect("a verdict");
    let wrong = judge.judge(&task("Rome", &["Paris"])).await.expect("a verdict");
    let (Judgement::Scored { reward: right }, Judgement::Scored { reward: wrong }) = (right, wrong)
    else {
        panic!("an answer with references is scored");
    };
    assert!(right.total > wrong.total, "a right answer earns more than a wrong one");
    for reward in [&right, &wrong] {
        let sum: f64 = reward.parts.iter().map(|part| part.value * part.weight).sum();
        assert!((sum - reward.total).abs() < 1e-9, "the total is the sum of its parts");
        assert!((0.0..=1.0).contains(&reward.total), "it lies in [0, 1]");
    }

    let mut later = task("Paris", &[]);
    later.feedback.push(Feedback {
        id: "f1".to_owned(),
        decision_id: "d1".into(),
        value: None,
        references: vec!["Paris".to_owned()],
        source: "user".to_owned(),
        ..Feedback::default()
    });
    let judgement = judge.judge(&later).await.expect("a judgement");
    assert!(matches!(judgement, Judgement::Scored { .. }), "feedback is used: {judgement:?}");

    let mut disputed = task("Paris", &["Paris"]);
    disputed.feedback.push(Feedback { value: Some(0.0), ..Feedback::default() });
    let Judgement::Scored { reward } = judge.judge(&disputed).await.expect("a judgement") else {
        panic!("an answer with references and a value is scored");
    };
    assert!(reward.total < right.total && reward.total > wrong.total, "both have a say");

    let mut ranked = task("", &["Paris"]);
    ranked.answer = None;
    let judgement = judge.judge(&ranked).await.expect("a judgement");
    assert_eq!(judgement, Judgement::NotYet, "no answer, no reward");
}

fn task(answer: &str, references: &[&str]) -> JudgeTask {
    let query = Query {
        id: "q1".into(),
        text: "What is the capital of France?".to_owned(),
        references: references.iter().map(|r| (*r).to_owned()).collect(),
        ..Query::default()
    };
    let answer = Answer { text: answer.to_owned(), ..Answer::default() };
    JudgeTask::new("d1", query, Vec::new(), answer)
}

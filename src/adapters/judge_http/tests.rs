//! The judge against scripted models, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod attacks;
mod budgets;
mod pairs;

use super::{LlmJudge, LlmJudgeConfig, Parts, TrialJudge, WithoutLlm};
use crate::adapters::contract::check_judge;
use crate::chat::scripted::{Act, Scripted, prompt_of};
use crate::rewards::Blend;
use actors::clock::Clock;
use actors::ports::{Judge, JudgeError, JudgeTask, Judgement};
use actors::types::{Answer, Document, EvidenceSource, Feedback, Query, Reward};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

fn config(server: &Scripted) -> LlmJudgeConfig {
    let endpoint = crate::chat::EndpointConfig { stream: false, ..server.endpoint() };
    let mut config = LlmJudgeConfig { endpoint, ..LlmJudgeConfig::default() };
    config.budget.state = Some(PathBuf::new());
    config.budget.tokens_per_day = 1_000_000_000;
    config
}

async fn judge(server: &Scripted, change: impl Fn(&mut LlmJudgeConfig)) -> LlmJudge {
    let mut config = config(server);
    change(&mut config);
    config.validate().unwrap();
    let blend = Blend { judge: 1.0, ..Blend::default() };
    let parts = Parts {
        client: server.client(config.endpoint.clone()),
        blend,
        clock: Clock::System,
        seed: 5,
    };
    LlmJudge::new(config, parts).unwrap()
}

/// An answer by one document, without references.
fn task(answer: &str) -> JudgeTask {
    let query = Query { id: "q1".into(), text: "capital of France?".into(), ..Query::default() };
    let document = Document {
        id: "d1".into(),
        title: "title 1".to_owned(),
        text: "Paris is in France.".to_owned(),
        ..Document::default()
    };
    let answer = Answer { text: answer.to_owned(), ..Answer::default() };
    JudgeTask::new("decision-1", query, vec![document], answer)
}

/// The task id that a prompt asks to repeat.
fn task_of(prompt: &str) -> String {
    let (_, rest) = prompt.split_once("This is task ").expect("a prompt names its task");
    rest.chars().take_while(char::is_ascii_hexdigit).collect()
}

/// What stands between the fences of a label.
fn inside<'a>(prompt: &'a str, label: &str) -> Option<&'a str> {
    let task = task_of(prompt);
    let (_, rest) = prompt.split_once(&format!("<<<{label} {task}\n"))?;
    rest.split_once(&format!("\n{task} {label}>>>")).map(|(text, _)| text)
}

/// A verdict with one score for all criteria.
fn verdict_of(prompt: &str, score: u32) -> String {
    let scores = json!({"correct": score, "grounded": score, "direct": score});
    json!({"task": task_of(prompt), "reason": "because", "scores": scores}).to_string()
}

/// A model that does its work: full marks for what the references say, else for Paris.
fn honest(body: &Value) -> Act {
    let prompt = prompt_of(body);
    let answer = inside(&prompt, "answer").unwrap();
    let wanted = inside(&prompt, "reference").unwrap_or("Paris");
    Act::Say(verdict_of(&prompt, if answer == wanted { 10 } else { 2 }))
}

/// A server that gives these scores in turn, `None` for a reply that is no verdict.
async fn scoring(scores: &[Option<u32>]) -> Scripted {
    let left = std::sync::Mutex::new(scores.to_vec());
    Scripted::start([], move |body| {
        let mut left = left.lock().unwrap();
        let score = if left.is_empty() { None } else { left.remove(0) };
        Act::Say(match score {
            Some(score) => verdict_of(&prompt_of(body), score),
            None => "I would say 10 out of 10.".to_owned(),
        })
    })
    .await
}

async fn reward(judge: &LlmJudge, task: &JudgeTask) -> Reward {
    match judge.judge(task).await.unwrap() {
        Judgement::Scored { reward } => reward,
        other => panic!("expected a reward, found {other:?}"),
    }
}

fn several(votes: u32) -> impl Fn(&mut LlmJudgeConfig) {
    move |config| {
        config.votes = votes;
        config.temperature = 0.7;
    }
}

#[tokio::test]
async fn the_llm_judge_keeps_the_contract() {
    let server = Scripted::start([], honest).await;
    check_judge(async || Arc::new(judge(&server, |_| {}).await) as Arc<dyn Judge>).await;
}

#[tokio::test]
async fn the_model_sees_the_chosen_documents_and_is_told_the_shape() {
    let server = Scripted::start([], honest).await;
    let found = reward(&judge(&server, |_| {}).await, &task("Paris")).await;
    // Without references the model has the weight of correctness too.
    assert!((found.total - 1.0).abs() < 1e-12, "{found:?}");
    let body = &server.seen()[0];
    let prompt = prompt_of(body);
    assert_eq!(inside(&prompt, "question"), Some("capital of France?"));
    assert_eq!(inside(&prompt, "document 1"), Some("title 1\nParis is in France."));
    assert!(!prompt.contains("Rome"), "not chosen, not shown");
    assert_eq!(inside(&prompt, "reference"), None);
    assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    assert_eq!(body["temperature"], 0.0);
}

#[tokio::test]
async fn references_are_compared_with_beside_the_model() {
    let server = Scripted::start([], honest).await;
    let judge = judge(&server, |_| {}).await;
    let mut asked = task("Paris");
    asked.feedback.push(Feedback {
        id: "f".into(),
        decision_id: "decision-1".into(),
        value: None,
        references: vec!["Lyon".into()],
        source: "user".into(),
        ..Feedback::default()
    });
    let found = reward(&judge, &asked).await;
    assert_eq!(found.part("token_f1"), Some(0.0));
    assert_eq!(found.part("judge"), Some(0.2));
}

#[tokio::test]
async fn the_users_word_counts_beside_the_models_and_the_model_is_asked_once() {
    let server = Scripted::start([], honest).await;
    let judge = judge(&server, |_| {}).await;
    let mut asked = task("Paris");
    let first = reward(&judge, &asked).await;
    assert!((first.total - 1.0).abs() < 1e-12, "{first:?}");
    let thumb = Feedback {
        id: "f".into(),
        decision_id: "decision-1".into(),
        value: Some(0.0),
        ..Feedback::default()
    };
    asked.feedback.push(thumb);
    asked.earlier = Some(first);
    let second = reward(&judge, &asked).await;
    assert!((second.total - 0.5).abs() < 1e-12, "equal weights: {second:?}");
    let parts: Vec<_> = second.parts.iter().map(|p| (p.source, p.value, p.weight)).collect();
    assert_eq!(
        parts,
        [(EvidenceSource::Judge, 1.0, 0.5), (EvidenceSource::Human, 0.0, 0.5)],
        "both are on record"
    );
    assert!(second.parts[0].time_ms > 0);
    assert_eq!(server.seen().len(), 1, "a verdict that was paid for is not asked for again");
}

#[tokio::test]
async fn what_people_say_counts_where_the_model_is_not_asked() {
    let server = Scripted::start([], honest).await;
    let judge = judge(&server, |config| config.sampling = 0.0).await;
    let mut asked = task("Paris");
    asked.feedback.push(Feedback { value: Some(0.25), ..Feedback::default() });
    assert!((reward(&judge, &asked).await.total - 0.25).abs() < 1e-12);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn votes_are_averaged_and_their_spread_is_kept() {
    let server = scoring(&[Some(2), Some(4), Some(9)]).await;
    let found = reward(&judge(&server, several(3)).await, &task("Paris")).await;
    let part = found.parts.iter().find(|part| part.name == "judge").unwrap();
    let votes = part.votes.unwrap();
    assert!((part.value - 0.5).abs() < 1e-9 && votes.count == 3, "{part:?}");
    assert!((votes.spread - 0.13_f64.sqrt()).abs() < 1e-9, "{votes:?}");
    let seeds: std::collections::BTreeSet<u64> =
        server.seen().iter().map(|body| body["seed"].as_u64().unwrap()).collect();
    let tasks: std::collections::BTreeSet<String> =
        server.seen().iter().map(|body| task_of(&prompt_of(body))).collect();
    assert_eq!((seeds.len(), tasks.len()), (3, 3), "each vote has dice and an id of its own");
}

#[tokio::test]
async fn votes_that_cannot_be_read_are_left_out_and_too_many_of_them_abstain() {
    let server = scoring(&[None, Some(6), Some(6)]).await;
    let found = reward(&judge(&server, several(3)).await, &task("Paris")).await;
    assert_eq!(found.parts[0].votes.unwrap().count, 2);
    let server = scoring(&[None, Some(6), None]).await;
    let verdict = judge(&server, several(3)).await.judge(&task("Paris")).await.unwrap();
    let Judgement::Abstained { reason } = verdict else { panic!("{verdict:?}") };
    assert!(reason.starts_with("1 of 3 votes can be read"), "{reason}");
}

#[tokio::test]
async fn whatever_is_no_verdict_is_an_abstention_and_never_a_reward() {
    for said in [
        "10",
        "",
        "null",
        "The answer is perfect. Score: 10/10",
        "{\"task\": \"0\", \"reason\": \"\", \"scores\": {\"correct\": NaN}}",
        "{\"score\": 10}",
        "{\"task\": ",
    ] {
        let server = Scripted::saying(said).await;
        let verdict = judge(&server, |_| {}).await.judge(&task("Paris")).await.unwrap();
        assert!(matches!(verdict, Judgement::Abstained { .. }), "{said}: {verdict:?}");
    }
}

#[tokio::test]
async fn an_absent_server_is_unavailable_and_a_refusing_one_ends_the_task() {
    for act in
        [Act::Status(503, None, String::new()), Act::Cut, Act::Raw("application/json", "{".into())]
    {
        let server = Scripted::start([], move |_| act.clone()).await;
        let said = judge(&server, |_| {}).await.judge(&task("Paris")).await;
        assert!(matches!(said, Err(JudgeError::Unavailable(_))), "{said:?}");
    }
    let refused = Act::Status(400, None, json!({"error": {"message": "too long"}}).to_string());
    let server = Scripted::start([], move |_| refused.clone()).await;
    let said = judge(&server, |_| {}).await.judge(&task("Paris")).await.unwrap();
    let Judgement::Refused { reason } = said else { panic!("{said:?}") };
    assert!(reason.contains("too long"), "{reason}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn episodes_not_sampled_abstain_or_go_to_the_references() {
    let server = Scripted::start([], honest).await;
    let none = judge(&server, |config| config.sampling = 0.0).await;
    let verdict = none.judge(&task("Paris")).await.unwrap();
    let Judgement::Abstained { reason } = verdict else { panic!("{verdict:?}") };
    assert_eq!(reason, "not sampled");
    let by_reference = judge(&server, |config| {
        config.sampling = 0.0;
        config.otherwise = WithoutLlm::Reference;
    })
    .await;
    let waits = by_reference.judge(&task("Paris")).await.unwrap();
    assert_eq!(waits, Judgement::NotYet, "it waits for feedback");
    let mut known = task("Paris");
    known.query.references = vec!["Paris".to_owned()];
    assert!((reward(&by_reference, &known).await.total - 1.0).abs() < 1e-12);
    assert!(server.seen().is_empty(), "the model was never asked");
    let trials = TrialJudge::new(Arc::new(by_reference), None);
    let asked = trials.judge(&task("Paris")).await.unwrap();
    assert!(matches!(asked, Judgement::Scored { .. }), "what is tried is not sampled");
}

#[tokio::test]
async fn what_was_only_reranked_is_none_of_the_models_business() {
    let server = Scripted::start([], honest).await;
    let judge = judge(&server, |_| {}).await;
    let mut reranked = task("");
    reranked.answer = None;
    assert_eq!(judge.judge(&reranked).await.unwrap(), Judgement::NotYet);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn what_makes_a_judge_another_one_is_in_its_name() {
    let server = Scripted::start([], honest).await;
    let name = judge(&server, |_| {}).await.name();
    assert!(name.starts_with("llm/scripted/answer-1/"), "{name}");
    assert_ne!(name, judge(&server, several(3)).await.name());
    let folder = tempfile::tempdir().unwrap();
    let rubric = folder.path().join("r.toml");
    let shipped = include_str!("../../../configs/rubrics/answer.toml");
    std::fs::write(&rubric, shipped.replace("0.6", "0.5")).unwrap();
    let other = judge(&server, |config| config.rubric = Some(rubric.clone())).await.name();
    assert_ne!(name, other);
}

#[tokio::test]
async fn a_judge_without_a_say_is_refused() {
    let server = Scripted::saying("x").await;
    let config = config(&server);
    let parts = Parts {
        client: server.client(config.endpoint.clone()),
        blend: Blend::default(),
        clock: Clock::System,
        seed: 0,
    };
    let error = LlmJudge::new(config, parts).err().unwrap().to_string();
    assert!(error.contains("`judge.weights.judge` is 0"), "{error}");
}

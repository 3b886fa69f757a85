//! Feedback that is joined, early, late, repeated, wrong, or about nothing.

use crate::bench::{MINUTE, assert_laws, config, query, start, until, world};
use actors::fakes::World;
use actors::ports::{EventLog, NewRecord, Stream};
use actors::service::{FeedbackError, Overrides, ServiceHandle, Standing};
use actors::types::{DecisionId, Feedback, Query, RewardRecord};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn about(decision: &DecisionId, id: &str) -> Feedback {
    worth(decision, id, 0.5)
}

fn worth(decision: &DecisionId, id: &str, value: f64) -> Feedback {
    Feedback {
        id: id.to_owned(),
        decision_id: decision.clone(),
        value: Some(value),
        source: "user".to_owned(),
        ..Feedback::default()
    }
}

fn unjudged() -> Query {
    Query { references: Vec::new(), ..query(0) }
}

async fn decision(service: &ServiceHandle) -> DecisionId {
    service.answer(unjudged(), Overrides::default()).await.unwrap().decision_id
}

async fn put(world: &World, payload: &[u8]) {
    let record = NewRecord { payload: payload.to_vec(), ..NewRecord::default() };
    world.log.append(Stream::Feedback, vec![record]).await.unwrap();
}

/// The rewards of a decision on the log, by revision, with their totals.
fn rewards(world: &World, id: &DecisionId) -> Vec<(u32, Option<f64>)> {
    let all = world.log.read::<RewardRecord>(Stream::Rewards);
    let of = all.iter().filter(|record| record.decision_id == *id);
    of.map(|record| (record.revision, record.reward().map(|reward| reward.total))).collect()
}

/// What is counted is written with the turn after.
async fn durable() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn until_revised(service: &ServiceHandle, revisions: u64) {
    until(service, "revised", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.revisions == revisions)
    })
    .await;
    durable().await;
}

async fn until_judged(service: &ServiceHandle, judged: u64) {
    until(service, "judged", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.judged == judged)
    })
    .await;
    durable().await;
}

#[tokio::test(start_paused = true)]
async fn every_piece_of_feedback_has_one_fate() {
    let world = world().await;
    let service = start(&world, config()).await;
    let first = decision(&service).await;
    decision(&service).await;
    assert_eq!(service.feedback(about(&first, "f1")).await.unwrap().status, Standing::Joined);
    until_judged(&service, 1).await;
    let repeat = service.feedback(about(&first, "f1")).await.unwrap();
    assert!(repeat.is_repeat, "{repeat:?}");
    // What other writers put on the log is not asked about first.
    put(&world, &serde_json::to_vec(&about(&first, "f1")).unwrap()).await;
    assert_eq!(service.feedback(about(&first, "f2")).await.unwrap().status, Standing::Revised);
    let unknown = DecisionId::from("nothing");
    let refused = service.feedback(about(&unknown, "f3")).await;
    assert_eq!(refused, Err(FeedbackError::UnknownDecision(unknown.clone())));
    put(&world, &serde_json::to_vec(&about(&unknown, "f3")).unwrap()).await;
    put(&world, b"?").await;
    until_revised(&service, 1).await;
    tokio::time::sleep(MINUTE * 11).await;
    let judge = assert_laws(&world, &service).await.judge.unwrap();
    let fates = (judge.joined, judge.revised, judge.unknown_decision, judge.duplicate);
    assert_eq!(fates, (1, 1, 1, 1), "{judge:?}");
    assert_eq!((judge.judged, judge.expired, judge.pending, judge.broken), (1, 1, 0, 1));
    assert_eq!(world.log.records(Stream::Deadletter).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_service_knows_its_decisions_and_its_pending_episodes() {
    let world = world().await;
    let service = start(&world, config()).await;
    let id = decision(&service).await;
    assert!(service.drain(MINUTE).await.clean);
    let config = actors::service::ServiceConfig { seed: Some(8), ..config() };
    let service = start(&world, config).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.feedback(about(&id, "f")).await.unwrap();
    until_judged(&service, 1).await;
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn feedback_of_days_later_replaces_the_reward_everywhere() {
    let world = world().await;
    let service = start(&world, config()).await;
    let id = decision(&service).await;
    service.feedback(worth(&id, "f1", 1.0)).await.unwrap();
    until_judged(&service, 1).await;
    tokio::time::sleep(DAY * 3).await;
    service.feedback(worth(&id, "f2", 0.25)).await.unwrap();
    until_revised(&service, 1).await;
    assert_eq!(rewards(&world, &id), [(0, Some(1.0)), (1, Some(0.25))]);
    until(&service, "replaced", |s| async move {
        let buffer = s.observe().await.replay_buffer.unwrap();
        buffer.samples == 1 && buffer.revised == 1
    })
    .await;
    let known = service.decision(&id).await.unwrap();
    assert_eq!(known.episode.decision_id(), Some(&id));
    assert_eq!(known.revisions.len(), 2);
    let newest = known.reward.unwrap();
    assert_eq!((newest.revision, newest.replaces), (1, Some(1.0)));
    let ids: Vec<&str> = newest.feedback.iter().map(|feedback| feedback.id.as_str()).collect();
    assert_eq!(ids, ["f1", "f2"], "a revision rests on all that was said");
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_waited_in_vain_is_judged_when_somebody_speaks() {
    let world = world().await;
    let service = start(&world, config()).await;
    let id = decision(&service).await;
    tokio::time::sleep(MINUTE * 11).await;
    until(&service, "expired", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.expired == 1)
    })
    .await;
    until(&service, "kept", |s| async move {
        s.observe().await.replay_buffer.is_some_and(|buffer| buffer.unanswered == 1)
    })
    .await;
    service.feedback(worth(&id, "f", 1.0)).await.unwrap();
    until(&service, "a sample", |s| async move {
        let buffer = s.observe().await.replay_buffer.unwrap();
        buffer.samples == 1 && buffer.unanswered == 0
    })
    .await;
    assert_eq!(rewards(&world, &id), [(0, None), (1, Some(1.0))]);
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn an_id_counts_within_its_decision() {
    let world = world().await;
    let service = start(&world, config()).await;
    let (first, second) = (decision(&service).await, decision(&service).await);
    service.feedback(worth(&first, "thumb", 1.0)).await.unwrap();
    service.feedback(worth(&second, "thumb", 0.0)).await.unwrap();
    until_judged(&service, 2).await;
    assert_eq!(rewards(&world, &first), [(0, Some(1.0))]);
    assert_eq!(rewards(&world, &second), [(0, Some(0.0))]);
}

#[tokio::test(start_paused = true)]
async fn feedback_before_its_episode_is_pending_and_then_joined() {
    let world = world().await;
    let service = start(&world, config()).await;
    let id = decision(&service).await;
    let episode = world.log.records(Stream::Episodes).remove(0);
    let mut early = String::from_utf8(episode.payload).unwrap();
    early = early.replace(id.as_str(), "d-early");
    let later = DecisionId::from("d-early");
    put(&world, &serde_json::to_vec(&worth(&later, "f", 1.0)).unwrap()).await;
    until(&service, "pending", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.early == 1)
    })
    .await;
    let record = NewRecord {
        key: "d-early".to_owned(),
        payload: early.into_bytes(),
        ..NewRecord::default()
    };
    world.log.append(Stream::Episodes, vec![record]).await.unwrap();
    until_judged(&service, 1).await;
    assert_eq!(rewards(&world, &later), [(0, Some(1.0))]);
    let judge = service.observe().await.judge.unwrap();
    assert_eq!((judge.joined, judge.early, judge.unknown_decision), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_index_has_not_read_yet_is_pending_and_never_lost() {
    let world = world().await;
    let service = start(&world, config()).await;
    let id = decision(&service).await;
    service.feedback(worth(&id, "f1", 1.0)).await.unwrap();
    until_judged(&service, 1).await;
    world.log.is_unread.store(true, std::sync::atomic::Ordering::SeqCst);
    let receipt = service.feedback(worth(&id, "f2", 0.0)).await.unwrap();
    assert_eq!(receipt.status, Standing::Pending);
    assert!(matches!(service.decision(&id).await, Err(FeedbackError::Unavailable(_))));
    tokio::time::sleep(MINUTE * 30).await;
    let judge = service.observe().await.judge.unwrap();
    assert_eq!((judge.early, judge.unknown_decision), (1, 0), "it outlives the join window");
    world.log.is_unread.store(false, std::sync::atomic::Ordering::SeqCst);
    until_revised(&service, 1).await;
    assert_eq!(rewards(&world, &id).last(), Some(&(1, Some(0.0))));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_revisions_of_one_decision_end_at_the_bound_with_an_answer() {
    let world = world().await;
    let mut config = config();
    config.judge.feedback_max = 8;
    let service = start(&world, config).await;
    let id = decision(&service).await;
    let mut refused = 0;
    for n in 0..10_000_u32 {
        match service.feedback(worth(&id, &format!("f{n}"), f64::from(n % 2))).await {
            Ok(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(FeedbackError::Full(full, 8)) => {
                assert_eq!(full, id);
                refused += 1;
            }
            Err(other) => panic!("feedback {n} gave {other}"),
        }
    }
    assert!(refused >= 9_990, "{refused}");
    let known = service.decision(&id).await.unwrap();
    assert!(known.revisions.len() <= 8, "{} revisions", known.revisions.len());
    assert_eq!(known.reward.unwrap().feedback.len(), 8);
    // By the log nobody can be refused an answer; it is counted.
    put(&world, &serde_json::to_vec(&worth(&id, "more", 1.0)).unwrap()).await;
    until(&service, "refused", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.refused == 1)
    })
    .await;
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_feedback_goes_to_the_dead_letters_with_its_fault() {
    let world = world().await;
    let service = start(&world, config()).await;
    let id = decision(&service).await;
    let bad = [
        r#""value":1.5"#,
        r#""value":true"#,
        r#""value":NaN"#,
        r#""value":1,"kind":"applause""#,
        r#""kind":"correction","value":1"#,
        r#""source":"nobody""#,
    ];
    for fields in bad {
        let text = format!(r#"{{"id":"f","decision_id":"{id}",{fields}}}"#);
        put(&world, text.as_bytes()).await;
    }
    until(&service, "dead letters", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.broken == 6)
    })
    .await;
    let letters = world.log.records(Stream::Deadletter);
    let reasons: Vec<String> = letters
        .iter()
        .map(|letter| String::from_utf8_lossy(&letter.payload).into_owned())
        .collect();
    for (reason, expected) in reasons.iter().zip([
        "1.5 lies outside 0..=1",
        "invalid type: boolean `true`",
        "expected value",
        "unknown variant `applause`",
        "needs the field `correction`",
        "says nothing",
    ]) {
        assert!(reason.contains(expected), "{reason} lacks {expected}");
    }
    let far = Feedback { time_ms: u64::MAX, ..worth(&id, "future", 1.0) };
    put(&world, &serde_json::to_vec(&far).unwrap()).await;
    until_judged(&service, 1).await;
    let judge = assert_laws(&world, &service).await.judge.unwrap();
    assert_eq!(judge.ahead, 1, "taken with the time of its coming, and counted");
    let newest = service.decision(&id).await.unwrap().reward.unwrap();
    assert!(newest.feedback[0].time_ms <= newest.judged_ms, "{newest:?}");
}

#[tokio::test(start_paused = true)]
async fn feedback_that_comes_while_the_judge_thinks_is_weighed_too() {
    let world = world().await;
    let service = start(&world, config()).await;
    world.judge.knob.delay(Duration::from_secs(5));
    let id = decision(&service).await;
    service.feedback(worth(&id, "f1", 1.0)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    service.feedback(worth(&id, "f2", 0.0)).await.unwrap();
    until_judged(&service, 1).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(rewards(&world, &id).last().and_then(|(_, total)| *total), Some(0.0));
}

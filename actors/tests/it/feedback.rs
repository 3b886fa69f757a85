//! Feedback that is joined, early, late, repeated, or about nothing.

use crate::bench::{MINUTE, assert_laws, config, query, start, until, world};
use actors::ports::{EventLog, NewRecord, Stream};
use actors::service::{FeedbackError, Overrides};
use actors::types::{DecisionId, Feedback, Query};
use std::time::Duration;

fn about(decision: &DecisionId, id: &str) -> Feedback {
    Feedback {
        id: id.to_owned(),
        decision_id: decision.clone(),
        value: Some(0.5),
        references: Vec::new(),
        source: "user".to_owned(),
        time_ms: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn every_piece_of_feedback_has_one_fate() {
    let world = world().await;
    let service = start(&world, config()).await;
    let unjudged = Query { references: Vec::new(), ..query(0) };
    let first = service.answer(unjudged.clone(), Overrides::default()).await.unwrap().decision_id;
    service.answer(unjudged, Overrides::default()).await.unwrap();
    service.feedback(about(&first, "f1")).await.unwrap();
    service.feedback(about(&first, "f1")).await.unwrap();
    until(&service, "joined", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.judged == 1 && judge.duplicate == 1)
    })
    .await;
    service.feedback(about(&first, "f2")).await.unwrap();
    let unknown = DecisionId::from("nothing");
    let refused = service.feedback(about(&unknown, "f3")).await;
    assert_eq!(refused, Err(FeedbackError::UnknownDecision(unknown.clone())));
    // What other writers put on the log cannot be refused there.
    let payload = serde_json::to_vec(&about(&unknown, "f3")).unwrap();
    let record = |payload| NewRecord { payload, ..NewRecord::default() };
    world.log.append(Stream::Feedback, vec![record(payload), record(b"?".to_vec())]).await.unwrap();
    until(&service, "late and early", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.late == 1 && judge.early == 1)
    })
    .await;
    tokio::time::sleep(MINUTE * 11).await;
    let judge = assert_laws(&world, &service).await.judge.unwrap();
    assert_eq!((judge.joined, judge.late, judge.orphan, judge.duplicate), (1, 1, 1, 1));
    assert_eq!((judge.judged, judge.expired, judge.pending, judge.broken), (1, 1, 0, 1));
    assert_eq!(world.log.records(Stream::Deadletter).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_service_knows_its_decisions_and_its_pending_episodes() {
    let world = world().await;
    let service = start(&world, config()).await;
    let unjudged = Query { references: Vec::new(), ..query(0) };
    let id = service.answer(unjudged, Overrides::default()).await.unwrap().decision_id;
    assert!(service.drain(MINUTE).await.clean);
    let config = actors::service::ServiceConfig { seed: Some(8), ..config() };
    let service = start(&world, config).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.feedback(about(&id, "f")).await.unwrap();
    until(&service, "judged", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.judged == 1)
    })
    .await;
    assert_laws(&world, &service).await;
}

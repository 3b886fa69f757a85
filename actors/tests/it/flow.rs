//! What happens to queries when nothing is broken.

use crate::bench::{
    MINUTE, ask, assert_laws, config, query, start, until, until_judged, until_kept, world,
};
use actors::ports::{EventLog, NewRecord, Stream};
use actors::service::{Overrides, ServiceError, UpdateOutcome};
use actors::types::{AnswerRecord, Document, Episode, Exploration, Outcome, PolicyVersion, Query};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_query_is_answered_logged_judged_learnt_from_and_the_weights_swap() {
    let world = world().await;
    let service = start(&world, config()).await;
    let served = ask(&service, 0).await;
    assert_eq!(served.answer.unwrap().text, "paris is in france");
    for n in 1..20 {
        ask(&service, n).await;
    }
    until_judged(&service, 20).await;
    until_kept(&service, 20).await;
    let outcome = service.trigger_update(MINUTE).await.unwrap();
    assert!(matches!(outcome, UpdateOutcome::Promoted { .. }), "{outcome:?}");
    assert_eq!(service.policy().version, PolicyVersion(1));
    assert_eq!(ask(&service, 20).await.policy.version, PolicyVersion(1));
    let observed = assert_laws(&world, &service).await;
    assert_eq!(observed.door.answered, 21);
    assert_eq!(observed.reranker.unwrap().swaps, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_door_says_so_at_once_and_the_others_are_answered() {
    let world = world().await;
    let mut config = config();
    config.admission.in_flight_max = 2;
    config.admission.queue_max = 0;
    let service = start(&world, config).await;
    world.generator.knob.delay(Duration::from_secs(5));
    let slow: Vec<_> = (0..2)
        .map(|n| {
            let service = service.clone();
            tokio::spawn(async move { ask(&service, n).await })
        })
        .collect();
    until(&service, "in flight", |s| async move { s.observe().await.door.in_flight == 2 }).await;
    let began = tokio::time::Instant::now();
    let refused = service.answer(query(9), Overrides::default()).await;
    assert_eq!(refused, Err(ServiceError::Overloaded));
    assert_eq!(began.elapsed(), Duration::ZERO);
    for task in slow {
        task.await.unwrap();
    }
    assert_eq!(assert_laws(&world, &service).await.door.overloaded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_rerank_orders_the_given_candidates_and_is_logged_without_an_answer() {
    let world = world().await;
    let service = start(&world, config()).await;
    let given =
        ["x", "y"].map(|id| Document { id: id.into(), text: id.into(), ..Document::default() });
    let query = Query { candidates: Some(given.to_vec()), ..query(0) };
    let served = service.rerank(query, Overrides::default()).await.unwrap();
    assert_eq!(served.documents.len(), 2);
    assert!(served.answer.is_none());
    let episodes: Vec<Episode> = world.log.read(Stream::Episodes);
    assert_eq!(episodes[0].outcome, Outcome::Reranked);
    assert_eq!(world.generator.knob.calls(), 0);
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn queries_of_the_log_are_answered_once_and_broken_ones_are_set_aside() {
    let world = world().await;
    let record = |key: &str, payload: Vec<u8>| NewRecord {
        key: key.to_owned(),
        headers: [("ce_id", key), ("ce_source", "app")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        payload,
    };
    let good = serde_json::to_vec(&query(0)).unwrap();
    let records = vec![
        record("1", good.clone()),
        record("1", good.clone()),
        record("2", b"{".to_vec()),
        record("3", good),
    ];
    world.log.append(Stream::Queries, records).await.unwrap();
    let mut config = config();
    config.intake.enabled = true;
    let service = start(&world, config.clone()).await;
    let log = world.log.clone();
    until(&service, "answers", |_| {
        let done =
            log.records(Stream::Answers).len() == 2 && log.position("intake", Stream::Queries) == 4;
        async move { done }
    })
    .await;
    let answers: Vec<AnswerRecord> = world.log.read(Stream::Answers);
    assert!(answers.iter().all(|answer| answer.served.is_some()));
    assert_eq!(world.log.records(Stream::Deadletter).len(), 1);
    assert!(service.drain(MINUTE).await.clean);
    let again = start(&world, config).await;
    assert_laws(&world, &again).await;
    assert_eq!(world.log.records(Stream::Answers).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_in_flight_and_lets_the_judge_flush() {
    let world = world().await;
    let service = start(&world, config()).await;
    world.generator.knob.delay(Duration::from_secs(3));
    let asked = service.clone();
    let task = tokio::spawn(async move { ask(&asked, 0).await });
    until(&service, "in flight", |s| async move { s.observe().await.door.in_flight == 1 }).await;
    let drained = service.drain(MINUTE).await;
    assert!(drained.clean, "{drained:?}");
    task.await.unwrap();
    assert_eq!(world.log.records(Stream::Rewards).len(), 1);
    let late = service.answer(query(1), Overrides::default()).await;
    assert!(matches!(late, Err(ServiceError::NotServing(_))), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn the_caller_is_told_where_the_time_went_and_how_likely_its_decision_was() {
    let world = world().await;
    let service = start(&world, config()).await;
    world.index.knob.delay(Duration::from_millis(20));
    world.generator.knob.delay(Duration::from_millis(300));
    let served = ask(&service, 0).await;
    assert_eq!((served.timings.retrieve_ms, served.timings.generate_ms), (20.0, 300.0));
    assert_eq!(served.timings.decide_ms, 0.0);
    assert_eq!(served.duration_ms, 320);
    assert_eq!(served.propensity, None);
    let exploration = Some(Exploration::Sample { temperature: 1.0, epsilon: 0.1 });
    let overrides = Overrides { exploration, ..Overrides::default() };
    let explored = service.answer(query(1), overrides).await.unwrap();
    assert_eq!(explored.propensity, Some(1.0), "the fake draws with certainty");
    assert_laws(&world, &service).await;
}

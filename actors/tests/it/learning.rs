//! What reaches serving, and what does not.

use crate::bench::{MINUTE, ask, assert_laws, config, start, until, until_kept, world};
use actors::fakes::Lesson;
use actors::ports::{SnapshotStore as _, Stream};
use actors::service::{Overrides, UpdateOutcome};
use actors::types::{
    Document, Feedback, PolicyRecord, PolicyState, PolicyVersion, Query, RewardRecord,
};

#[tokio::test(start_paused = true)]
async fn a_bad_candidate_leaves_the_old_weights_serving() {
    let world = world().await;
    let service = start(&world, config()).await;
    for n in 0..5 {
        ask(&service, n).await;
    }
    until_kept(&service, 5).await;
    let lessons = [
        (Lesson::NotANumber, "failed"),
        (Lesson::Diverges, "failed"),
        (Lesson::Panics, "panicked"),
        (Lesson::Worse, "rejected"),
        (Lesson::Misshapen, "rejected"),
    ];
    for (lesson, word) in lessons {
        world.teach(lesson);
        let outcome = service.trigger_update(MINUTE).await.unwrap();
        assert_eq!(outcome.word(), word, "{outcome:?}");
        assert_eq!(service.policy().version, PolicyVersion(0));
        let learner = service.observe().await.learner.unwrap();
        assert_eq!(learner.last_outcome, Some(outcome));
        assert_eq!(ask(&service, 9).await.policy.version, PolicyVersion(0));
    }
    let records: Vec<PolicyRecord> = world.log.read(Stream::Policies);
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.state == PolicyState::Retired));
    let outcome = service.trigger_update(MINUTE).await.unwrap();
    assert!(matches!(outcome, UpdateOutcome::Promoted { .. }), "{outcome:?}");
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn enough_new_rewards_start_an_update_by_themselves() {
    let world = world().await;
    let mut config = config();
    config.learner.min_new_rewards = 4;
    let service = start(&world, config).await;
    for n in 0..4 {
        ask(&service, n).await;
    }
    until(&service, "promoted", |s| async move { s.policy().version == PolicyVersion(1) }).await;
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_serves_the_last_champion_rebuilds_the_buffer_and_counts_versions_on() {
    let world = world().await;
    let service = start(&world, config()).await;
    for n in 0..6 {
        ask(&service, n).await;
    }
    until_kept(&service, 6).await;
    service.trigger_update(MINUTE).await.unwrap();
    assert!(service.drain(MINUTE).await.clean);
    let config = actors::service::ServiceConfig { seed: Some(8), ..config() };
    let service = start(&world, config).await;
    assert_eq!(service.policy().version, PolicyVersion(1));
    until_kept(&service, 6).await;
    service.trigger_update(MINUTE).await.unwrap();
    assert_eq!(service.policy().version, PolicyVersion(2));
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn old_snapshots_go_and_those_a_node_may_ask_for_stay() {
    let world = world().await;
    let mut config = config();
    (config.learner.keep_versions, config.learner.keep_ms) = (2, 0);
    let service = start(&world, config).await;
    for n in 0..6 {
        ask(&service, n).await;
    }
    until_kept(&service, 6).await;
    for version in 1..=5 {
        let outcome = service.trigger_update(MINUTE).await.unwrap();
        assert_eq!(outcome.word(), "promoted", "{version}: {outcome:?}");
    }
    let stored = world.snapshots.list().await.unwrap();
    assert_eq!(stored, [3, 4, 5].map(PolicyVersion), "two champions and the parent of the older");
    assert!(service.drain(MINUTE).await.clean);
}

#[tokio::test(start_paused = true)]
async fn a_rerank_judged_by_feedback_alone_is_learnt_from_without_references() {
    let world = world().await;
    let service = start(&world, config()).await;
    let document = |id: &str| Document { id: id.into(), text: id.into(), ..Document::default() };
    let candidates = Some(vec![document("x"), document("y")]);
    let asked = Query { text: "x or y".to_owned(), candidates, ..Query::default() };
    let served = service.rerank(asked, Overrides::default()).await.unwrap();
    let feedback = Feedback {
        id: "f".to_owned(),
        decision_id: served.decision_id,
        value: Some(1.0),
        source: "user".to_owned(),
        ..Feedback::default()
    };
    service.feedback(feedback).await.unwrap();
    until_kept(&service, 1).await;
    let rewards: Vec<RewardRecord> = world.log.read(Stream::Rewards);
    assert!(rewards[0].references.is_empty());
    let outcome = service.trigger_update(MINUTE).await.unwrap();
    assert!(matches!(outcome, UpdateOutcome::Promoted { .. }), "{outcome:?}");
    assert_laws(&world, &service).await;
}

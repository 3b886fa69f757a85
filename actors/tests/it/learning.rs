//! What reaches serving, and what does not.

use crate::bench::{MINUTE, ask, assert_laws, config, start, until, until_kept, world};
use actors::clock::Clock;
use actors::compute::ComputeMode;
use actors::fakes::{FakeLearner, Lesson};
use actors::ports::{
    Batch, Cancellation, Examination, LearnError, LearnReport, Learner, Purchases,
    SnapshotStore as _, Stream,
};
use actors::service::{Overrides, Ports, Service, ServiceConfig, UpdateOutcome};
use actors::types::{
    Document, Feedback, PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion, Query,
    RewardRecord, Sample,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

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
async fn no_update_is_due_before_the_new_rewards_are_their_share_of_all() {
    let world = world().await;
    let mut config = config();
    (config.learner.min_new_rewards, config.learner.min_new_percent) = (1, 100);
    let service = start(&world, config).await;
    for n in 0..4 {
        ask(&service, n).await;
    }
    until_kept(&service, 4).await;
    tokio::time::sleep(MINUTE).await;
    let settled = service.policy().version;
    assert!(settled > PolicyVersion(0), "the first reward is all there is");
    ask(&service, 4).await;
    until_kept(&service, 5).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(service.policy().version, settled, "one reward beside four");
    for n in 5..10 {
        ask(&service, n).await;
    }
    until(&service, "next", |s| async move { s.policy().version > settled }).await;
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

/// A learner whose first call never ends by itself.
struct Hanging {
    cancellation: Cancellation,
    runtime: tokio::runtime::Handle,
    ended: mpsc::UnboundedSender<()>,
}

impl Learner for Hanging {
    fn update(
        &mut self,
        _batch: &Batch,
        _version: PolicyVersion,
    ) -> Result<(PolicySnapshot, LearnReport), LearnError> {
        assert!(!self.cancellation.is_cancelled(), "somebody waits");
        self.runtime.block_on(self.cancellation.clone().cancelled());
        self.ended.send(()).unwrap();
        Err(LearnError::TooLittle("cancelled".to_owned()))
    }

    fn examine(
        &mut self,
        _candidate: &PolicySnapshot,
        _holdout: &[Sample],
    ) -> Result<Examination, LearnError> {
        Err(LearnError::TooLittle("never trained".to_owned()))
    }

    fn adopt(&mut self, _champion: &PolicySnapshot) -> Result<(), LearnError> {
        Ok(())
    }
}

/// A service with a hanging learner and something to learn from, and what says that one ended.
async fn hanging() -> (actors::service::ServiceHandle, mpsc::UnboundedReceiver<()>) {
    let world = world().await;
    let (ended, ends) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Handle::current();
    let ports = Ports {
        learner: Arc::new(move |cancellation| {
            let (cancellation, runtime) = (cancellation.clone(), runtime.clone());
            Ok(Box::new(Hanging { cancellation, runtime, ended: ended.clone() }))
        }),
        ..world.ports(Clock::System)
    };
    let mut config = ServiceConfig { compute: ComputeMode::Thread, ..config() };
    config.learner.deadline_ms = 300;
    let service = Service::start(ports, config).await.unwrap();
    until(&service, "ready", |service| async move { service.ready().await.ready }).await;
    ask(&service, 0).await;
    until_kept(&service, 1).await;
    (service, ends)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_past_its_deadline_is_cancelled_and_said_to_have_timed_out() {
    let (service, mut ends) = hanging().await;
    for _ in 0..2 {
        let outcome = service.trigger_update(MINUTE).await.unwrap();
        assert_eq!(outcome.word(), "timed_out", "{outcome:?}");
        let ended = tokio::time::timeout(MINUTE, ends.recv()).await.unwrap();
        assert_eq!(ended, Some(()), "what was left behind has ended");
        until(&service, "made anew", |service| async move {
            service.observe().await.learner.is_some_and(|learner| learner.is_loaded)
        })
        .await;
    }
    assert!(service.drain(MINUTE).await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_ends_with_the_actor_that_waits_for_it() {
    let (service, mut ends) = hanging().await;
    let waiting = service.clone();
    let update = tokio::spawn(async move { waiting.trigger_update(MINUTE).await });
    until(&service, "updating", |service| async move {
        service.observe().await.learner.is_some_and(|learner| learner.is_updating)
    })
    .await;
    service.kill_child("learner");
    let ended = tokio::time::timeout(Duration::from_secs(20), ends.recv()).await.unwrap();
    assert_eq!(ended, Some(()));
    update.abort();
}

/// A learner whose steps cost something.
struct Buying(FakeLearner, Purchases);

impl Learner for Buying {
    fn update(
        &mut self,
        batch: &Batch,
        version: PolicyVersion,
    ) -> Result<(PolicySnapshot, LearnReport), LearnError> {
        self.1.generator_calls += 5;
        self.1.judge_calls += 15;
        self.1.judge_tokens += 900;
        self.0.update(batch, version)
    }

    fn examine(
        &mut self,
        candidate: &PolicySnapshot,
        holdout: &[Sample],
    ) -> Result<Examination, LearnError> {
        self.1.generator_calls += 2;
        self.1.generator_tokens += 70;
        self.0.examine(candidate, holdout)
    }

    fn bought(&self) -> Purchases {
        self.1
    }

    fn adopt(&mut self, champion: &PolicySnapshot) -> Result<(), LearnError> {
        self.0.adopt(champion)
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_says_what_it_and_its_examination_bought() {
    let world = world().await;
    let lessons = Arc::clone(&world.lessons);
    let ports = Ports {
        learner: Arc::new(move |_| {
            let learner = FakeLearner::new(Arc::clone(&lessons));
            Ok(Box::new(Buying(learner, Purchases::default())))
        }),
        ..world.ports(Clock::simulated(1_000_000))
    };
    let service = Service::start(ports, config()).await.unwrap();
    until(&service, "ready", |service| async move { service.ready().await.ready }).await;
    ask(&service, 0).await;
    until_kept(&service, 1).await;
    for _ in 0..2 {
        let outcome = service.trigger_update(MINUTE).await.unwrap();
        let UpdateOutcome::Promoted { report, .. } = outcome else { panic!("{outcome:?}") };
        let generator = (report.generator_calls, report.generator_tokens);
        assert_eq!((generator, report.judge_calls, report.judge_tokens), ((7, 70), 15, 900));
    }
}

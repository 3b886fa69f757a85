//! What happens to queries and rewards when something dies.

use crate::bench::{
    MINUTE, ask, assert_laws, config, query, start, until, until_judged, until_kept, world,
};
use actors::compute::ComputeMode;
use actors::ports::{EventLog, NewRecord, Stream};
use actors::service::{ChildState, Overrides, ServiceError, UpdateOutcome};
use actors::types::{AnswerRecord, Episode, Outcome, RewardRecord, Verdict};
use std::time::Duration;

async fn survives(child: &'static str) {
    let world = world().await;
    let service = start(&world, config()).await;
    for knob in [&world.index.knob, &world.generator.knob, &world.judge.knob] {
        knob.delay(Duration::from_millis(30));
    }
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let service = service.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(10 * n as u64)).await;
                service.answer(query(n), Overrides::default()).await
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        service.kill_child(child);
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    until_judged(&service, 40).await;
    until_kept(&service, 40).await;
    let observed = assert_laws(&world, &service).await;
    assert_eq!(observed.door.answered, 40);
    assert_eq!(world.log.records(Stream::Rewards).len(), 40);
    let status = observed.children.iter().find(|status| status.name == child).unwrap();
    assert!(status.restarts >= 1, "{status:?}");
    until(&service, "ready again", |s| async move { s.ready().await.ready }).await;
    let outcome = service.trigger_update(MINUTE).await.unwrap();
    assert!(matches!(outcome, UpdateOutcome::Promoted { .. }), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_panics_in_a_reader_costs_its_actor_a_life_and_nothing_else() {
    let world = world().await;
    let service = start(&world, config()).await;
    ask(&service, 1).await;
    until_judged(&service, 1).await;
    world.log.commits.panic_next(1);
    for n in 2..6 {
        ask(&service, n).await;
    }
    until_judged(&service, 5).await;
    let observed = assert_laws(&world, &service).await;
    let restarts: u64 = observed.children.iter().map(|status| status.restarts).sum();
    assert_eq!(restarts, 1, "{:?}", observed.children);
}

macro_rules! survives {
    ($($name:ident: $child:literal;)*) => {
        $(#[tokio::test(start_paused = true)]
        async fn $name() {
            survives($child).await;
        })*
    };
}

survives! {
    killing_the_retriever_loses_no_query_and_no_reward: "retriever";
    killing_the_reranker_loses_no_query_and_no_reward: "reranker";
    killing_the_generator_loses_no_query_and_no_reward: "generator";
    killing_the_judge_loses_no_query_and_no_reward: "judge";
    killing_the_replay_buffer_loses_no_query_and_no_reward: "replay_buffer";
    killing_the_learner_loses_no_query_and_no_reward: "learner";
    killing_the_policy_follower_loses_no_query_and_no_reward: "policy_follower";
}

#[tokio::test(start_paused = true)]
async fn a_child_that_spent_its_restarts_stays_down_and_the_others_go_on() {
    let world = world().await;
    let mut config = config();
    config.supervision.restarts_max = 2;
    let service = start(&world, config).await;
    for _ in 0..3 {
        service.kill_child("judge");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let readiness = service.ready().await;
    assert!(!readiness.ready);
    assert!(readiness.reasons[0].contains("judge is down"), "{readiness:?}");
    ask(&service, 0).await;
    let observed = service.observe().await;
    let judge = observed.children.iter().find(|status| status.name == "judge").unwrap();
    assert!(matches!(judge.state, ChildState::GivenUp { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_once_costs_nobody_an_answer() {
    let world = world().await;
    let service = start(&world, config()).await;
    world.policy.panic_next(1);
    ask(&service, 0).await;
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_stage_is_a_typed_error_and_is_logged() {
    let world = world().await;
    let service = start(&world, config()).await;
    world.generator.knob.fail_next(3);
    let failed = service.answer(query(0), Overrides::default()).await;
    assert!(matches!(failed, Err(ServiceError::Failed { stage: "generate", .. })), "{failed:?}");
    let episodes: Vec<Episode> = world.log.read(Stream::Episodes);
    assert!(matches!(episodes[0].outcome, Outcome::Failed { .. }));
    until(&service, "counted", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.failed == 1)
    })
    .await;
    assert_eq!(assert_laws(&world, &service).await.door.failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_slows_a_query_and_one_that_stays_down_fails_it() {
    let world = world().await;
    let service = start(&world, config()).await;
    world.log.appends.fail_next(3);
    ask(&service, 0).await;
    world.log.appends.fail_next(10_000);
    let failed = service.answer(query(1), Overrides::default()).await;
    assert!(matches!(failed, Err(ServiceError::Failed { stage: "log", .. })), "{failed:?}");
    world.log.appends.fail_next(0);
    ask(&service, 2).await;
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn a_judge_and_a_log_that_fail_for_a_while_lose_no_reward() {
    let world = world().await;
    let service = start(&world, config()).await;
    world.judge.knob.fail_next(12);
    world.log.commits.fail_next(9);
    for n in 0..10 {
        ask(&service, n).await;
    }
    until_judged(&service, 10).await;
    until_kept(&service, 10).await;
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn killing_the_intake_answers_every_query_of_the_log_once() {
    let world = world().await;
    let mut config = config();
    config.intake.enabled = true;
    let service = start(&world, config).await;
    world.generator.knob.delay(Duration::from_millis(70));
    let record = |n: usize| NewRecord {
        key: n.to_string(),
        headers: [("ce_id".to_owned(), n.to_string()), ("ce_source".to_owned(), "app".to_owned())]
            .into(),
        payload: serde_json::to_vec(&query(n)).unwrap(),
    };
    world.log.append(Stream::Queries, (0..60).map(record).collect()).await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(110)).await;
        service.kill_child("intake");
    }
    let log = world.log.clone();
    until(&service, "answers", |_| {
        let position = log.position("intake", Stream::Queries);
        async move { position == 60 }
    })
    .await;
    let answers: Vec<AnswerRecord> = world.log.read(Stream::Answers);
    assert_eq!(answers.len(), 60);
    assert!(answers.iter().all(|answer| answer.served.is_some()));
    assert_laws(&world, &service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_on_the_model_thread_makes_the_policy_anew_and_answers_all_the_same() {
    let world = world().await;
    let config = actors::service::ServiceConfig { compute: ComputeMode::Thread, ..config() };
    let service = start(&world, config).await;
    world.policy.panic_next(1);
    ask(&service, 0).await;
    let observed = assert_laws(&world, &service).await;
    let reranker = observed.children.iter().find(|status| status.name == "reranker").unwrap();
    assert_eq!(reranker.restarts, 0);
    assert_eq!(observed.reranker.unwrap().panics, 1);
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_never_succeeds_ends_each_task_as_failed_and_goes_on() {
    let world = world().await;
    let mut config = config();
    config.judge.attempts_max = 3;
    config.judge.backoff_ms = 10;
    let service = start(&world, config).await;
    world.judge.knob.fail_next(3 * 4);
    for n in 0..4 {
        ask(&service, n).await;
    }
    until(&service, "given up", |s| async move {
        s.observe().await.judge.is_some_and(|judge| judge.given_up == 4)
    })
    .await;
    ask(&service, 4).await;
    until_judged(&service, 1).await;
    until_kept(&service, 1).await;
    let judge = assert_laws(&world, &service).await.judge.unwrap();
    assert_eq!((judge.episodes, judge.pending, judge.retries), (5, 0, 8));
    let verdicts: Vec<RewardRecord> = world.log.read(Stream::Rewards);
    let failed = verdicts.iter().filter(|r| matches!(r.verdict, Verdict::Failed { .. })).count();
    assert_eq!((verdicts.len(), failed), (5, 4));
}

//! Death at every step of a promotion: it goes on from the same state, and nothing is done twice.

use crate::bench::{until, until_kept, world};
use crate::staged::{
    Load, assert_log, board, path, propose, staged, start_at, state, until_state, whole_way,
};
use actors::clock::Clock;
use actors::fakes::World;
use actors::service::{Roles, ServiceConfig, ServiceHandle};
use actors::types::{PolicyState, PolicyVersion};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::Duration;

/// Each life with dice of its own: ids must not repeat.
fn life(seed: u64) -> ServiceConfig {
    ServiceConfig { seed: Some(seed), ..staged() }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_dies_after_each_step_goes_on_from_there() {
    let (world, clock) = (world().await, Clock::simulated(1_000_000));
    let mut service = start_at(&world, clock, life(1)).await;
    let mut load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    for (n, wanted) in (2..).zip(whole_way()) {
        until_state(&world, &service, version, wanted).await;
        load.stop().await;
        drop(service);
        assert_eq!(state(&world, version), Some(wanted));
        service = start_at(&world, clock, life(n)).await;
        load = Load::start(&service, 1_000 * n as usize);
    }
    until(&service, "served", move |s| async move { s.policy().version == version }).await;
    load.stop().await;
    assert_eq!(path(&world, version), whole_way());
    assert_log(&world);
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_dies_after_each_step_goes_on_from_there_and_no_query_fails() {
    for child in ["promoter", "policy_follower", "shadow", "reranker", "learner", "judge"] {
        let (world, clock) = (world().await, Clock::simulated(1_000_000));
        let mut config = life(1);
        config.supervision.restarts_max = 100;
        let service = start_at(&world, clock, config).await;
        let load = Load::start(&service, 0);
        let version = propose(&world, &service, "").await;
        for wanted in whole_way() {
            until_state(&world, &service, version, wanted).await;
            service.kill_child(child);
        }
        until(&service, "served", move |s| async move { s.policy().version == version }).await;
        let answered = load.stop().await;
        let failed = answered.iter().find(|answer| answer.is_err());
        assert!(failed.is_none(), "{child}: {failed:?}");
        assert_eq!(path(&world, version), whole_way(), "{child}");
        assert_eq!(board(&world).outrun(), 0, "{child}: a step was written twice");
        assert_log(&world);
    }
}

/// One promotion under random deaths, watched by a node that only serves.
async fn random_deaths(seed: u64) {
    let (world, clock) = (world().await, Clock::simulated(1_000_000));
    let mut rng = StdRng::seed_from_u64(seed);
    let lives = |n: u64| {
        let mut config = life(seed * 1_000 + n);
        config.supervision.restarts_max = 100;
        config
    };
    let only = Roles { serve: true, judge: false, learn: false };
    let config = ServiceConfig { node: "1".to_owned(), roles: only, ..lives(0) };
    let other = start_at(&world, clock, config).await;
    let mut service = start_at(&world, clock, lives(1)).await;
    let mut load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    for n in 2..8 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1_500))).await;
        let child = ["promoter", "policy_follower", "shadow", "reranker", "judge", "all"];
        match child[rng.random_range(0..child.len())] {
            "all" => {
                load.stop().await;
                drop(service);
                service = start_at(&world, clock, lives(n)).await;
                load = Load::start(&service, 10_000 * n as usize);
            }
            child => service.kill_child(child),
        }
        assert_log(&world);
    }
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    until(&service, "served", move |s| async move { s.policy().version == version }).await;
    until(&other, "served", move |s| async move { s.policy().version == version }).await;
    load.stop().await;
    until(&service, "read", |s| async move { s.board().await.is_ok() }).await;
    assert_eq!(service.board().await.unwrap(), other.board().await.unwrap(), "seed {seed}");
    assert_eq!(path(&world, version), whole_way(), "seed {seed}");
    assert_log(&world);
}

#[tokio::test(start_paused = true)]
async fn random_deaths_change_nothing_of_what_a_promotion_comes_to() {
    for seed in 0..40 {
        random_deaths(seed).await;
    }
}

async fn leads(service: &ServiceHandle) -> bool {
    service.observe().await.promoter.is_some_and(|promoter| promoter.is_leading)
}

#[tokio::test(start_paused = true)]
async fn of_two_nodes_one_leads_and_when_it_dies_the_other_goes_on() {
    let (world, clock) = (world().await, Clock::simulated(1_000_000));
    let node = |name: &str, seed| ServiceConfig { node: name.to_owned(), ..life(seed) };
    let one = start_at(&world, clock, node("1", 1)).await;
    let two = start_at(&world, clock, node("2", 2)).await;
    let load = Load::start(&one, 0);
    until(&two, "leads", |s| async move { leads(&s).await }).await;
    until(&one, "stands by", |s| async move { !leads(&s).await }).await;
    let version = propose(&world, &two, "").await;
    until_state(&world, &two, version, (PolicyState::Canary, Some(0.2))).await;
    drop(two);
    until(&one, "leads", |s| async move { leads(&s).await }).await;
    until_state(&world, &one, version, (PolicyState::Champion, None)).await;
    load.stop().await;
    assert_eq!(path(&world, version), whole_way());
    assert_log(&world);
}

/// What a writer would write that was put to sleep at this length of the log.
async fn stale_steps(world: &World, service: &ServiceHandle, version: PolicyVersion) {
    use actors::ports::{EventLog as _, Stream};
    let before = board(world);
    let all = world.log.records(Stream::Policies);
    // Every change so far once more: each names a step that is taken.
    world.log.append(Stream::Policies, all.clone()).await.unwrap();
    let after = board(world);
    assert_eq!(after.standing(version), before.standing(version));
    assert_eq!((after.champion(), after.line()), (before.champion(), before.line()));
    let most = all.len() as u64;
    until(service, "reads on", move |s| async move { s.board().await.unwrap().outrun() >= most })
        .await;
    assert_eq!(service.board().await.unwrap().standing(version), before.standing(version));
}

#[tokio::test(start_paused = true)]
async fn the_steps_of_a_writer_that_slept_have_no_effect() {
    let (world, clock) = (world().await, Clock::simulated(1_000_000));
    let service = start_at(&world, clock, life(1)).await;
    let load = Load::start(&service, 0);
    until_kept(&service, 20).await;
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    until(&service, "served", move |s| async move { s.policy().version == version }).await;
    load.stop().await;
    stale_steps(&world, &service, version).await;
    assert_eq!(service.policy().version, version);
}

//! Weights that are taken back: by an operator from every state, and by an alarm.

use crate::bench::{MINUTE, assert_laws, until, world};
use crate::staged::{
    Load, assert_log, board, path, propose, records, staged, start_at, state, until_state,
    whole_way,
};
use actors::clock::Clock;
use actors::fakes::{World, snapshot};
use actors::ports::{EventLog as _, NewRecord, Stream};
use actors::service::{ServiceConfig, ServiceHandle};
use actors::types::{Certificate, Episode, Exploration, PolicyRecord, PolicyState, PolicyVersion};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Takes a candidate back as soon as it is in this state, while everybody asks.
async fn taken_back_from(wanted: (PolicyState, Option<f64>)) {
    let world = world().await;
    let mut config = staged();
    match wanted.0 {
        PolicyState::Candidate | PolicyState::Parity | PolicyState::Offline => {
            config.promotion.tick_ms = 400;
        }
        PolicyState::Shadow => config.promotion.shadow.decisions_min = 1_000_000,
        PolicyState::Canary => config.promotion.canary.units_min = 150,
        _ => {}
    }
    config.promotion.canary.shares = vec![0.05, 0.2, 0.5];
    if let (PolicyState::Canary, Some(share)) = wanted {
        // It stays at the share that is asked for.
        config.promotion.canary.shares.retain(|s| *s >= share);
    }
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, wanted).await;
    until(&service, "followed", move |s| async move {
        let follower = s.observe().await.policy_follower.unwrap();
        match wanted.0 {
            PolicyState::Canary => follower.canaries == 1,
            PolicyState::Champion => s.policy().version == version,
            _ => true,
        }
    })
    .await;
    #[expect(clippy::disallowed_methods, reason = "real time, beside the simulated")]
    let began = std::time::Instant::now();
    let over = service.rollback(Some(version), "by hand", MINUTE).await.unwrap();
    let took = began.elapsed();
    let logged = world.log.records(Stream::Episodes).len();
    assert_eq!((over.version, over.from, over.champion), (version, wanted.0, PolicyVersion(0)));
    assert_eq!(state(&world, version).unwrap().0, PolicyState::Retired);
    assert!(over.took_ms < 1_000.0, "{over:?}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let answered = load.stop().await;
    let failed = answered.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(failed, 0, "of {}", answered.len());
    let episodes: Vec<Episode> = world.log.read(Stream::Episodes);
    assert!(episodes.len() > logged + 100);
    // Nobody who asked after the return, nor whoever had not been decided by then.
    let late = episodes[logged..].iter().filter(|episode| {
        episode.decision.as_ref().is_some_and(|decision| decision.policy.version == version)
    });
    assert_eq!(late.count(), 0, "served after the rollback was over");
    assert_log(&world);
    assert_laws(&world, &service).await;
    let last = records(&world).into_iter().rfind(|r| r.version == version).unwrap();
    assert!(last.reason.contains("by hand"), "{}", last.reason);
    println!(
        "from {wanted:?}: {:.1} ms simulated, {took:?} real; {failed} of {} requests failed",
        over.took_ms,
        answered.len()
    );
}

#[tokio::test(start_paused = true)]
async fn an_operator_takes_back_from_every_state_within_a_second_and_nobody_notices() {
    for state in whole_way() {
        taken_back_from(state).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_over_or_unknown_cannot_be_taken_back() {
    let world = world().await;
    let service = start_at(&world, Clock::simulated(1_000_000), staged()).await;
    let said = service.rollback(None, "", MINUTE).await.unwrap_err().to_string();
    assert!(said.contains("no version was ever made champion"), "{said}");
    let said = service.rollback(Some(PolicyVersion(7)), "", MINUTE).await.unwrap_err();
    assert!(said.to_string().contains("not under way"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn the_way_back_needs_no_snapshot_store() {
    let (world, service, load, version) = promoted(staged()).await;
    world.snapshots.knob.fail_next(u32::MAX);
    service.rollback(None, "the store is away too", MINUTE).await.unwrap();
    assert_eq!(service.policy().version, PolicyVersion(0));
    assert_eq!(state(&world, version).unwrap().0, PolicyState::Retired);
    load.stop().await;
}

/// A world in which version 1 is champion, with its traffic.
async fn promoted(config: ServiceConfig) -> (World, ServiceHandle, Load, PolicyVersion) {
    let world = world().await;
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    until(&service, "served", move |s| async move { s.policy().version == version }).await;
    (world, service, load, version)
}

fn watched() -> ServiceConfig {
    let mut config = staged();
    config.drift.enabled = true;
    // The traffic here counts up in its texts: only judges and probes are to alarm.
    config.drift.query_bank = 1_000_000;
    config.drift.reference = 100_000;
    config.drift.history_max = 200_000;
    config.exploration_budget.widened =
        Some(Exploration::Sample { temperature: 2.0, epsilon: 0.5 });
    config
}

#[tokio::test(start_paused = true)]
async fn another_judge_takes_back_the_champion_ends_canaries_and_holds_everything() {
    let mut config = watched();
    config.promotion.canary.shares = vec![0.05, 0.5];
    config.promotion.canary.units_min = 15;
    let (world, service, load, version) = promoted(config).await;
    let canary = propose(&world, &service, "").await;
    until_state(&world, &service, canary, (PolicyState::Canary, Some(0.05))).await;
    let proposed = service.observe().await.learner.unwrap().proposed;
    world.judge.renamed.store(true, SeqCst);
    // It is asked for its name when it starts.
    service.kill_child("judge");
    until_state(&world, &service, version, (PolicyState::Retired, None)).await;
    until_state(&world, &service, canary, (PolicyState::Retired, None)).await;
    until(&service, "back", |s| async move { s.policy().version == PolicyVersion(0) }).await;
    let promoter = service.observe().await.promoter.unwrap();
    assert_eq!((promoter.rolled_back, promoter.alarms), (1, 1), "{promoter:?}");
    assert!(promoter.last_alarm.unwrap().reason.contains("the judge is"));
    // A refresh was asked for; what it proposes waits in its shadow until the hold is over.
    until(&service, "refreshed", move |s| async move {
        s.observe().await.learner.unwrap().proposed > proposed
    })
    .await;
    let frozen_ms = board(&world).alarm_until_ms();
    let next = PolicyVersion(canary.0 + 1);
    until_state(&world, &service, next, (PolicyState::Canary, Some(0.05))).await;
    let began = records(&world).into_iter().find(|r| r.version == next && r.share.is_some());
    assert!(began.unwrap().time_ms >= frozen_ms, "promoted while an alarm held");
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.stop().await;
    let episodes: Vec<Episode> = world.log.read(Stream::Episodes);
    let hold = frozen_ms - 5_000 + 500..frozen_ms;
    for episode in episodes.iter().filter(|e| e.finished_ms < frozen_ms - 5_000) {
        assert_eq!(episode.decision.as_ref().unwrap().exploration, Exploration::Greedy);
    }
    let held: Vec<_> = episodes.iter().filter(|e| hold.contains(&e.finished_ms)).collect();
    let is_wide = |e: &Episode| e.decision.as_ref().unwrap().is_explored();
    assert!(!held.is_empty() && held.iter().all(|e| is_wide(e)), "exploration is widened");
    assert!(episodes.iter().rev().take(20).all(|e| !is_wide(e)), "and narrow again");
    assert_log(&world);
}

#[tokio::test(start_paused = true)]
async fn a_champion_that_pleases_the_judge_alone_is_taken_back_within_one_probe_period() {
    let mut config = watched();
    config.promotion.watch.probe_ms = 2_000;
    config.promotion.watch.period_ms = 1;
    let world = world().await;
    let honest: Vec<(f64, f64)> = (0..40).map(|n| (0.5 + f64::from(n) / 100.0, 0.6)).collect();
    let hacked: Vec<(f64, f64)> = (0..40).map(|n| (0.9, 0.1 + f64::from(n) / 200.0)).collect();
    world.examiner.lock().unwrap().probes.insert(PolicyVersion(0), honest.clone());
    world.examiner.lock().unwrap().probes.insert(PolicyVersion(1), honest);
    let clock = Clock::simulated(1_000_000);
    let service = start_at(&world, clock, config).await;
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(state(&world, version).unwrap().0, PolicyState::Champion, "honest so far");
    world.examiner.lock().unwrap().probes.insert(version, hacked);
    let began_ms = clock.now_ms();
    until_state(&world, &service, version, (PolicyState::Retired, None)).await;
    let promoter = service.observe().await.promoter.unwrap();
    assert!(clock.now_ms() - began_ms <= 2_300, "{} ms {promoter:?}", clock.now_ms() - began_ms);
    assert!(promoter.hacking_gap.unwrap() > 0.5 && promoter.rolled_back == 1, "{promoter:?}");
    load.stop().await;
    assert_log(&world);
}

/// Puts a champion on record as whoever can write to the log could.
async fn announce(world: &World, change: impl FnOnce(&mut PolicyRecord)) {
    use actors::ports::SnapshotStore as _;
    let weights = snapshot(9, true);
    world.snapshots.put(&weights).await.unwrap();
    let mut record = PolicyRecord::of(&weights, PolicyState::Champion, "by hand", 1);
    change(&mut record);
    let payload = serde_json::to_vec(&record).unwrap();
    let new = NewRecord { key: "9".to_owned(), payload, ..NewRecord::default() };
    world.log.append(Stream::Policies, vec![new]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_champion_without_a_certificate_or_with_a_forged_or_foreign_one_does_not_serve() {
    let (donor, ..) = promoted(staged()).await;
    let good: Certificate =
        *records(&donor).into_iter().rfind(|r| r.version.0 == 1).unwrap().certificate.unwrap();
    let mut forged = good.clone();
    forged.claims.version = PolicyVersion(9);
    forged.claims.digest = snapshot(9, true).digest;
    let mut foreign = forged.clone();
    let claims = foreign.claims.signed_bytes().unwrap();
    foreign.signature = actors::types::PolicySnapshot::digest_of(&claims).0;
    let sealed = foreign.clone();
    foreign.key = "another".to_owned();
    let cases = [None, Some(good), Some(forged), Some(foreign)];
    for certificate in cases {
        let world = world().await;
        announce(&world, |record| record.certificate = certificate.map(Box::new)).await;
        let clock = Clock::simulated(1_000_000);
        let service = start_at(&world, clock, staged()).await;
        assert_eq!(service.policy().version, PolicyVersion(0));
        let observed = service.observe().await.policy_follower.unwrap();
        assert_eq!((observed.uncertified, observed.adopted), (1, 0));
        drop(service);
        let mut config = staged();
        config.promotion.allow_uncertified = true;
        let service = start_at(&world, clock, config).await;
        assert_eq!(service.policy().version, PolicyVersion(9), "the operator's word");
        assert_eq!(
            service.observe().await.policy_follower.unwrap().uncertified,
            1,
            "and it is told"
        );
    }
    // The same claims under the right key do serve.
    let world = world().await;
    announce(&world, |record| record.certificate = Some(Box::new(sealed))).await;
    let service = start_at(&world, Clock::simulated(1_000_000), staged()).await;
    assert_eq!(service.policy().version, PolicyVersion(9));
}

#[tokio::test(start_paused = true)]
async fn after_a_rollback_the_next_candidate_goes_its_way_against_the_champion_that_came_back() {
    let (world, service, load, version) = promoted(staged()).await;
    service.rollback(None, "by hand", MINUTE).await.unwrap();
    let next = propose(&world, &service, "").await;
    until_state(&world, &service, next, (PolicyState::Champion, None)).await;
    load.stop().await;
    assert_eq!(path(&world, next), whole_way());
    assert_eq!(board(&world).line(), [PolicyVersion(0), next]);
    assert_ne!(version, next);
    assert_log(&world);
}

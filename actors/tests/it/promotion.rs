//! The way of a candidate from the learner to champion, and everywhere it ends before.

use crate::bench::{assert_laws, until, world};
use crate::staged::{
    Load, assert_log, path, propose, records, staged, start_at, state, until_state, whole_way,
};
use actors::clock::Clock;
use actors::fakes::{World, snapshot};
use actors::ports::Stream;
use actors::rollout::OnNoSupport;
use actors::service::ServiceConfig;
use actors::types::{Episode, PolicyState, PolicyVersion};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_candidate_goes_every_stage_to_champion_and_each_is_on_record() {
    let world = world().await;
    let service = start_at(&world, Clock::simulated(1_000_000), staged()).await;
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    until(&service, "served", move |s| async move { s.policy().version == version }).await;
    assert_eq!(service.policy().digest, snapshot(1, true).digest);
    let answered = load.stop().await;
    assert!(answered.iter().all(Result::is_ok), "{:?}", answered.iter().find(|a| a.is_err()));
    assert_eq!(path(&world, version), whole_way());
    assert_log(&world);

    let all = records(&world);
    let last = all.iter().rfind(|r| r.version == version).unwrap();
    let stages: Vec<_> = last.evidence.iter().map(|e| (e.stage, e.share, e.passed)).collect();
    let mut expected: Vec<_> =
        whole_way().into_iter().map(|(stage, share)| (stage, share, true)).collect();
    expected.pop();
    assert_eq!(stages, expected);
    for evidence in &last.evidence[3..] {
        assert!(!evidence.through.is_empty() && evidence.queries > 0, "{evidence:?}");
        assert!(!evidence.reason.is_empty() && !evidence.thresholds.is_empty());
    }
    let claims = &last.certificate.as_ref().unwrap().claims;
    assert_eq!((claims.grants, claims.stages.len()), (PolicyState::Champion, 7));
    let observed = assert_laws(&world, &service).await;
    let promoter = observed.promoter.unwrap();
    assert_eq!((promoter.promoted, promoter.outrun, promoter.failures), (1, 0, 0));
    assert!(promoter.under_way.is_empty(), "{promoter:?}");
    assert_eq!(observed.policy_follower.unwrap().uncertified, 0);
}

/// Has a candidate with these traits refused, and gives the last words on it.
async fn refused(
    traits: &'static str,
    config: ServiceConfig,
    prepare: impl FnOnce(&World),
) -> (PolicyState, String) {
    let world = world().await;
    prepare(&world);
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, traits).await;
    until_state(&world, &service, version, (PolicyState::Retired, None)).await;
    // Nobody is served by it from here on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = world.log.records(Stream::Episodes).len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.stop().await;
    let after: Vec<Episode> = world.log.read(Stream::Episodes);
    for episode in &after[before..] {
        assert_eq!(episode.decision.as_ref().unwrap().policy.version, PolicyVersion(0));
    }
    assert_log(&world);
    assert_laws(&world, &service).await;
    let way = path(&world, version);
    let last = records(&world).pop().unwrap();
    assert!(!last.reason.is_empty());
    (way[way.len() - 2].0, last.reason)
}

async fn assert_refused(
    (traits, at, why): (&'static str, PolicyState, &str),
    config: ServiceConfig,
    prepare: impl FnOnce(&World),
) {
    let (stage, reason) = refused(traits, config, prepare).await;
    assert_eq!(stage, at, "{reason}");
    assert!(reason.contains(why), "{reason}");
}

fn with(change: impl FnOnce(&mut actors::rollout::Config)) -> ServiceConfig {
    let mut config = staged();
    change(&mut config.promotion);
    config
}

#[tokio::test(start_paused = true)]
async fn parity_and_logged_traffic_refuse_before_anything_is_hosted() {
    let findings = |change: fn(&mut actors::fakes::Findings)| {
        move |world: &World| change(&mut world.examiner.lock().unwrap())
    };
    let parity = findings(|f| f.without_parity.push(PolicyVersion(1)));
    assert_refused(("", PolicyState::Parity, "told to refuse"), staged(), parity).await;
    let worse = findings(|f| f.worse_offline.push(PolicyVersion(1)));
    let config = with(|c| c.offline.on_no_support = OnNoSupport::Refuse);
    assert_refused(("", PolicyState::Offline, "told to refuse"), config, worse).await;
}

#[tokio::test(start_paused = true)]
async fn an_examination_that_fails_is_repeated_and_nobody_is_refused_for_it() {
    let world = world().await;
    world.examiner.lock().unwrap().failures = 3;
    let service = start_at(&world, Clock::simulated(1_000_000), staged()).await;
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    load.stop().await;
    assert_eq!(service.observe().await.promoter.unwrap().failures, 3);
    assert_eq!(path(&world, version), whole_way());
}

#[tokio::test(start_paused = true)]
async fn a_shadow_that_fails_panics_or_costs_too_much_is_refused_and_serves_nobody() {
    let at = PolicyState::Shadow;
    assert_refused(("failing", at, "of its decisions failed"), staged(), |_| {}).await;
    assert_refused(("panicking", at, "of its decisions failed"), staged(), |_| {}).await;
    assert_refused(("costly", at, "times the context tokens"), staged(), |_| {}).await;
    let choosy = with(|c| c.shadow.overlap_min = 0.9);
    assert_refused(("short", at, "overlap"), choosy, |_| {}).await;
    let judged = with(|c| c.shadow.answered = 1.0);
    let judged = ServiceConfig { ..judged };
    let mut patient = judged;
    patient.promotion.shadow.decisions_min = 100;
    assert_refused(("reversed", at, "paired answers are worse"), patient, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_harms_is_found_by_the_reward() {
    assert_refused(("reversed", PolicyState::Canary, "harm: "), staged(), |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn each_guard_rail_ends_a_canary() {
    let at = PolicyState::Canary;
    let lenient = || {
        with(|c| {
            c.shadow.failures_max = 1.0;
            c.shadow.tokens_ratio_max = 100.0;
            c.canary.units_min = 150;
        })
    };
    let errors = |w: &World| w.generator.when_alone(Duration::ZERO, true);
    assert_refused(("short", at, "guard-rail errors"), lenient(), errors).await;
    // The champion decides for it: nobody notices but the guard-rail.
    assert_refused(("failing", at, "guard-rail errors"), lenient(), |_| {}).await;
    let abstains = |w: &World| {
        w.judge.abstains_alone.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    assert_refused(("short", at, "guard-rail abstentions"), lenient(), abstains).await;
    let slow = |w: &World| {
        w.generator.knob.delay(Duration::from_millis(20));
        w.generator.when_alone(Duration::from_millis(60), false);
    };
    assert_refused(("short", at, "guard-rail latency"), lenient(), slow).await;
    assert_refused(("costly", at, "guard-rail tokens"), lenient(), |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_does_not_end_is_ended_by_its_time_or_its_queries() {
    let shadow = with(|c| {
        c.shadow.share = 1e-6;
        c.shadow.timeout_ms = 3_000;
    });
    assert_refused(("", PolicyState::Shadow, "within its time"), shadow, |_| {}).await;
    let canary = with(|c| {
        c.canary.units_min = 10_000;
        c.canary.timeout_ms = 3_000;
    });
    assert_refused(("", PolicyState::Canary, "undecided within its time"), canary, |_| {}).await;
    let queries = with(|c| {
        c.canary.units_min = 10_000;
        c.canary.queries_max = 30;
    });
    assert_refused(("", PolicyState::Canary, "undecided"), queries, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn no_share_is_passed_before_its_minimum_of_units() {
    let world = world().await;
    let mut config = staged();
    config.promotion.canary.units_min = 150;
    config.promotion.canary.shares = vec![0.5];
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    load.stop().await;
    let last = records(&world).into_iter().rfind(|r| r.version == version).unwrap();
    let figures = &last.evidence.last().unwrap().figures;
    assert!(
        figures["treatment_judged"] >= 60.0 && figures["control_judged"] >= 60.0,
        "{figures:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_more_candidates_than_may_be_under_way_the_older_early_ones_give_way() {
    let world = world().await;
    let mut config = staged();
    config.promotion.candidates_max = 2;
    world.examiner.lock().unwrap().failures = u32::MAX;
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    for _ in 0..4 {
        propose(&world, &service, "").await;
    }
    until_state(&world, &service, PolicyVersion(3), (PolicyState::Retired, None)).await;
    load.stop().await;
    let states = [1, 2, 3, 4].map(|v| state(&world, PolicyVersion(v)).unwrap().0);
    let retired = states.iter().filter(|s| **s == PolicyState::Retired).count();
    assert_eq!((retired, states[3]), (2, PolicyState::Parity), "{states:?}");
    let last = records(&world).into_iter().rfind(|r| r.state == PolicyState::Retired).unwrap();
    assert!(last.reason.contains("more than 2 candidates"), "{}", last.reason);
    assert_eq!(service.observe().await.promoter.unwrap().outrun, 0, "no step was written twice");
}

#[tokio::test(start_paused = true)]
async fn of_two_canaries_the_one_that_is_left_behind_retires_when_the_champion_changes() {
    let world = world().await;
    let service = start_at(&world, Clock::simulated(1_000_000), staged()).await;
    let load = Load::start(&service, 0);
    let first = propose(&world, &service, "").await;
    let second = propose(&world, &service, "short").await;
    let (held, pair) = (world.clone(), [first, second]);
    until(&service, "one is champion, none a canary", move |_| {
        let states = pair.map(|version| state(&held, version).unwrap().0);
        async move {
            states.contains(&PolicyState::Champion) && states.contains(&PolicyState::Retired)
        }
    })
    .await;
    load.stop().await;
    let loser = records(&world).into_iter().rfind(|r| r.state == PolicyState::Retired).unwrap();
    assert!(loser.reason.contains("it was compared with the first weights"), "{}", loser.reason);
    assert_log(&world);
}

//! Shadows under load, interleaved contexts, the budget of exploration, and the champion's
//! experiment against itself.

use crate::bench::{assert_laws, until_judged, world};
use crate::staged::{
    Load, USERS, asked, assert_log, path, propose, records, staged, start_at, until_state,
};
use actors::clock::Clock;
use actors::ports::Stream;
use actors::rollout::AA;
use actors::service::Overrides;
use actors::types::{
    Arm, DraftedBy, Episode, Exploration, Feedback, PolicyState, PolicyVersion, ShadowRecord,
};
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_shadow_that_answers_for_ten_seconds_delays_nobody_and_sheds_first() {
    let world = world().await;
    let mut config = staged();
    config.promotion.shadow.answered = 1.0;
    config.promotion.shadow.queue_max = 2;
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    // Only shadows answer from one document alone.
    world.generator.when_alone(Duration::from_secs(10), false);
    let version = propose(&world, &service, "short").await;
    until_state(&world, &service, version, (PolicyState::Shadow, None)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let shadow = service.observe().await.shadow.unwrap();
    assert!(shadow.waiting <= 2 && (1..=4).contains(&shadow.decided), "{shadow:?}");
    let answered = load.stop().await;
    assert!(answered.len() > 5_000);
    for served in answered {
        assert!(served.unwrap().duration_ms <= 1, "a user waited for a shadow");
    }
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn above_its_load_the_door_leaves_the_shadows_out() {
    let world = world().await;
    let mut config = staged();
    config.admission.in_flight_max = 4;
    config.admission.queue_max = 10_000;
    config.admission.queue_wait_ms = 60_000;
    config.promotion.shadow.load_max = 0.5;
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    until_judged(&service, 50).await;
    world.generator.knob.delay(Duration::from_millis(19));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Shadow, None)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let busy: Vec<ShadowRecord> = world.log.read(Stream::Shadows);
    assert!(busy.len() < 10, "{}", busy.len());
    world.generator.knob.delay(Duration::ZERO);
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    assert!(load.stop().await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn shadows_that_die_are_hosted_again_and_readiness_does_not_depend_on_them() {
    let world = world().await;
    let mut config = staged();
    config.supervision.restarts_max = 1;
    config.promotion.shadow.decisions_min = 1_000_000;
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Shadow, None)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.kill_child("shadow");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shadow = service.observe().await.shadow.unwrap();
    assert_eq!(shadow.hosted, [version]);
    assert!(shadow.decided > 10, "{shadow:?}");
    service.kill_child("shadow");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(service.ready().await.ready, "{:?}", service.ready().await);
    assert!(load.stop().await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn interleaved_units_get_one_context_of_both_and_credit_goes_by_citation() {
    let world = world().await;
    let mut config = staged();
    config.promotion.canary.interleaved = 0.5;
    config.promotion.canary.shares = vec![0.2];
    config.promotion.canary.units_min = 40;
    config.exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.1 };
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    // Worse, so that the canary ends by harm after its minimum of units.
    let version = propose(&world, &service, "reversed").await;
    until_state(&world, &service, version, (PolicyState::Retired, None)).await;
    load.stop().await;
    let arm = Arm::Interleaved { version };
    let episodes: Vec<Episode> = world.log.read(Stream::Episodes);
    // Who was let in as it retired got the champion's context.
    let is_its =
        |e: &&Episode| e.assignment.as_ref().is_some_and(|a| a.arm == arm && a.fell_back.is_none());
    let merged: Vec<&Episode> = episodes.iter().filter(is_its).collect();
    assert!(merged.len() > 50, "{}", merged.len());
    let mut credits = (0.0, 0.0);
    for episode in &merged {
        let interleaved = episode.interleaved.as_ref().unwrap();
        let decision = episode.decision.as_ref().unwrap();
        assert_eq!(interleaved.drafted_by.len(), decision.order.len());
        assert_eq!(episode.unusable_for_ope.as_deref(), Some("interleaved"));
        assert_eq!((decision.exploration, decision.deviates), (Exploration::Greedy, Some(false)));
        // The answer cites the first document, and its drafter gets the credit.
        let (champion, candidate) = interleaved.credit.unwrap();
        let expected = match interleaved.drafted_by[0] {
            DraftedBy::Champion => (1.0, 0.0),
            DraftedBy::Candidate => (0.0, 1.0),
            DraftedBy::Both => (0.0, 0.0),
        };
        assert_eq!((champion, candidate), expected);
        credits = (credits.0 + champion, credits.1 + candidate);
    }
    // A fair coin has the first pick.
    let share = credits.1 / (credits.0 + credits.1);
    assert!((share - 0.5).abs() < 0.2, "{credits:?}");
    let last = records(&world).into_iter().rfind(|r| r.version == version).unwrap();
    let figures = &last.evidence.last().unwrap().figures;
    let preferred =
        ["champion", "candidate", "neither"].map(|w| figures[&format!("preferred_{w}")]);
    assert!(preferred[0] + preferred[1] > 20.0, "{preferred:?}");
    assert_eq!(figures["mixed_units"], 0.0);
    assert_log(&world);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_serves_greedily_says_so_and_what_is_let_go_costs_nothing() {
    let world = world().await;
    let mut config = staged();
    config.exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.1 };
    config.exploration_budget.per_hour = Some(5.0);
    config.admission.in_flight_max = 1;
    config.admission.queue_max = 0;
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    // Refused at the door: nothing was explored.
    world.generator.knob.delay(Duration::from_secs(1));
    let first = service.answer(asked(0), Overrides::default());
    let (first, second) = tokio::join!(first, service.answer(asked(1), Overrides::default()));
    assert!(first.is_ok() && second.is_err());
    world.generator.knob.delay(Duration::ZERO);
    for n in 2..10 {
        service.answer(asked(n), Overrides::default()).await.unwrap();
    }
    let exploring = service.observe().await.exploration;
    // The fake does not say whether chance had its way, so each costs the most it may have cost.
    assert_eq!((exploring.spent, exploring.held_back), (5.0, 4), "{exploring:?}");
    assert!(exploring.left.unwrap() < 1.0);
    let episodes: Vec<Episode> = world.log.read(Stream::Episodes);
    let why = |e: &Episode| e.unusable_for_ope.clone();
    assert_eq!(episodes.iter().filter(|e| why(e).is_none()).count(), 5);
    let held: Vec<_> =
        episodes.iter().filter(|e| why(e).as_deref() == Some("budget_spent")).collect();
    assert_eq!(held.len(), 4);
    let is_greedy = |e: &&Episode| !e.decision.as_ref().unwrap().is_explored();
    assert!(held.iter().all(is_greedy));
    assert_laws(&world, &service).await;
}

#[tokio::test(start_paused = true)]
async fn the_champion_against_itself_shows_nothing_is_sticky_and_stops_for_a_canary() {
    let world = world().await;
    let mut config = staged();
    config.promotion.canary.aa_share = 0.5;
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let load = Load::start(&service, 0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let aa = service.observe().await.promoter.unwrap().aa.unwrap();
    assert!(aa.units.0 > 150 && aa.units.1 > 150 && aa.bias.is_none(), "{aa:?}");
    let (low, high) = aa.interval.unwrap();
    assert!(low < 0.0 && high > 0.0, "{aa:?}");
    let version = propose(&world, &service, "").await;
    until_state(&world, &service, version, (PolicyState::Champion, None)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.stop().await;
    assert_eq!(service.observe().await.promoter.unwrap().alarms, 0);
    let mut units = BTreeMap::<String, Arm>::new();
    for episode in world.log.read::<Episode>(Stream::Episodes) {
        let assignment = episode.assignment.unwrap();
        let (served, of) = (episode.decision.unwrap().policy.version, &assignment.experiments);
        assert!(served == PolicyVersion(0) || served == version);
        assert!(!(of.contains(&AA) && of.len() > 1), "beside a canary");
        if of.contains(&AA) {
            let arm = *units.entry(assignment.unit.clone()).or_insert(assignment.arm);
            assert_eq!(arm, assignment.arm);
        }
    }
    assert_eq!(units.len(), USERS);
}

#[tokio::test(start_paused = true)]
async fn a_biased_instrumentation_is_found_and_holds_promotions() {
    let world = world().await;
    let mut config = staged();
    config.promotion.canary.aa_share = 0.25;
    let service = start_at(&world, Clock::simulated(1_000_000), config).await;
    let biased = async {
        for n in 0..4_000 {
            let mut query = asked(n);
            query.references.clear();
            let served = service.answer(query, Overrides::default()).await.unwrap();
            let last: Episode = world.log.read(Stream::Episodes).pop().unwrap();
            let is_treated = last.assignment.unwrap().arm == Arm::Candidate { version: AA };
            // Someone scores one of two equal arms higher.
            let value = if is_treated { 0.9 } else { 0.4 } + 0.05 * (n % 3) as f64;
            let said = Feedback {
                id: String::new(),
                decision_id: served.decision_id,
                value: Some(value),
                source: "test".to_owned(),
                ..Feedback::default()
            };
            service.feedback(said).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            if n % 50 == 0 && service.observe().await.promoter.unwrap().alarms > 0 {
                return n;
            }
        }
        panic!("never found: {:?}", service.observe().await.promoter)
    };
    let asked = biased.await;
    let promoter = service.observe().await.promoter.unwrap();
    let alarm = promoter.last_alarm.unwrap();
    assert!(alarm.reason.contains("the instrumentation is biased"), "{}", alarm.reason);
    assert!(promoter.frozen_until_ms > 0 && asked < 2_000, "{asked}");
    // The refresh that the alarm asked for waits until the hold is over.
    let way = path(&world, PolicyVersion(1));
    assert!(!way.iter().any(|(state, _)| state.serves_users()), "{way:?}");
}

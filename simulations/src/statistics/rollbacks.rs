//! A whole service on fakes, in real time: a version taken back from each state under load, and a
//! champion that pleases the judge alone.
//!
//! The wire and the models are left out (their times are benchmarks); the actors, the log's records,
//! certificates and routing are those of a service.

use super::Options;
use super::table::{Cell, Table};
use actors::clock::Clock;
use actors::fakes::{World, snapshot};
use actors::ports::{EventLog as _, NewRecord, SearchIndex as _, SnapshotStore as _, Stream};
use actors::service::{Overrides, Service, ServiceConfig, ServiceHandle};
use actors::types::{Document, PolicyRecord, PolicyState, PolicyVersion, Query};
use anyhow::{Context as _, ensure};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Callers that ask without pause while a version is taken back.
const CALLERS: usize = 8;
/// Rollbacks from each state.
const RUNS: u64 = 10;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Champions that were trained on a hacked reward, and ones that were not.
const CHAMPIONS: u64 = 40;
/// Canary questions.
const QUESTIONS: usize = 60;

/// The tables of this part.
///
/// # Errors
/// A service that does not start, or that never comes to where it is to be.
pub fn tables(options: &Options) -> anyhow::Result<Vec<Table>> {
    Ok(vec![by_state()?, hacked(options)?])
}

fn config() -> ServiceConfig {
    let mut config = ServiceConfig { seed: Some(7), ..ServiceConfig::default() };
    (config.learner.interval_ms, config.learner.min_new_rewards) = (0, 0);
    config.drift.enabled = false;
    let rules = &mut config.promotion;
    (rules.tick_ms, rules.watch.probe_ms) = (10, 0);
    (rules.parity.queries, rules.offline.samples_min) = (4, 4);
    (rules.shadow.share, rules.shadow.decisions_min, rules.shadow.load_max) = (1.0, 20, 1.0);
    rules.canary.shares = vec![0.1, 0.5];
    (rules.canary.units_min, rules.canary.tuned_for, rules.canary.margin) = (20, 50.0, 0.9);
    rules.canary.guards.latency_ratio = 1_000.0;
    config
}

/// A rule that the candidate cannot get past, so that it stays where it is to be taken back from.
fn held_at(state: PolicyState) -> ServiceConfig {
    let mut config = config();
    let rules = &mut config.promotion;
    match state {
        PolicyState::Shadow => rules.shadow.decisions_min = u64::MAX,
        PolicyState::Canary => rules.canary.units_min = u64::MAX,
        _ => {}
    }
    config
}

fn by_state() -> anyhow::Result<Table> {
    let mut table = Table::new(
        "Taken back under load, from each state: until this node serves nobody with it",
        &["state", "rollbacks", "median ms", "longest ms", "requests", "failed"],
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let states = [
        PolicyState::Candidate,
        PolicyState::Parity,
        PolicyState::Offline,
        PolicyState::Shadow,
        PolicyState::Canary,
        PolicyState::Champion,
    ];
    for state in states {
        let mut took = Vec::new();
        let (mut requests, mut failed) = (0, 0);
        for _ in 0..RUNS {
            let run = runtime.block_on(roll_back(state))?;
            took.push(run.took_ms);
            requests += run.requests;
            failed += run.failed;
        }
        took.sort_by(f64::total_cmp);
        table.rows.push(vec![
            Cell::from(state.word()),
            Cell::Count(RUNS),
            Cell::Number(took[took.len() / 2], 1),
            Cell::Number(took[took.len() - 1], 1),
            Cell::Count(requests),
            Cell::Count(failed),
        ]);
    }
    table.notes.push(format!(
        "{CALLERS} callers ask without pause; a log in memory, so what a log adds is its own delay"
    ));
    Ok(table)
}

struct Run {
    took_ms: f64,
    requests: u64,
    failed: u64,
}

async fn world() -> anyhow::Result<World> {
    let world = World::default();
    let text = "paris is in france".to_owned();
    let document = Document { id: "a".into(), text, ..Document::default() };
    world.index.upsert(&[document]).await?;
    Ok(world)
}

async fn propose(world: &World, version: u64) -> anyhow::Result<()> {
    let candidate = snapshot(version, true);
    let uri = world.snapshots.put(&candidate).await?;
    let record = PolicyRecord::of(&candidate, PolicyState::Candidate, "held out", 0);
    let payload = serde_json::to_vec(&PolicyRecord { uri, step: Some(1), ..record })?;
    let record = NewRecord { key: version.to_string(), payload, ..NewRecord::default() };
    world.log.append(Stream::Policies, vec![record]).await?;
    Ok(())
}

/// One user in four is never content, whoever serves: rewards that never vary decide nothing.
fn query(n: u64) -> Query {
    let wanted =
        if (n % 500).is_multiple_of(4) { "nothing is in france" } else { "paris is in france" };
    Query {
        text: format!("is paris in france {n}"),
        references: vec![wanted.to_owned()],
        metadata: [("user".to_owned(), format!("user {}", n % 500))].into(),
        ..Query::default()
    }
}

async fn roll_back(state: PolicyState) -> anyhow::Result<Run> {
    let world = world().await?;
    let service = Service::start(world.ports(Clock::System), held_at(state)).await?;
    let (over, requests, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let service = service.clone();
            let (over, requests, failed) =
                (Arc::clone(&over), Arc::clone(&requests), Arc::clone(&failed));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let n = requests.fetch_add(1, Ordering::Relaxed);
                    if service.answer(query(n), Overrides::default()).await.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    if state < PolicyState::Shadow {
        // These pass in a moment: an examiner that fails holds the candidate where it is.
        let mut findings = world.examiner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        findings.failures = if state == PolicyState::Offline { 0 } else { u32::MAX };
        if state == PolicyState::Offline {
            findings.worse_offline.clear();
        }
    }
    propose(&world, 1).await?;
    let reached = until(&service, state).await;
    let rolled = service.rollback(Some(PolicyVersion(1)), "simulated", PATIENCE).await;
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await?;
    }
    service.drain(PATIENCE).await;
    let reached = reached.with_context(|| format!("never came to {}", state.word()))?;
    let rolled = rolled?;
    ensure!(rolled.from >= reached || state < PolicyState::Shadow, "was {:?}", rolled.from);
    Ok(Run {
        took_ms: rolled.took_ms,
        requests: requests.load(Ordering::Relaxed),
        failed: failed.load(Ordering::Relaxed),
    })
}

/// Waits until version 1 is in the state, or past it where it passes in a moment.
async fn until(service: &ServiceHandle, state: PolicyState) -> anyhow::Result<PolicyState> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(board) = service.board().await
            && let Some(standing) = board.standing(PolicyVersion(1))
            && standing.record.state >= state
        {
            ensure!(standing.record.state != PolicyState::Retired, standing.record.reason.clone());
            return Ok(standing.record.state);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    anyhow::bail!("not within {PATIENCE:?}")
}

/// A champion whose judged reward rises by 0.1 while gold falls by 0.15, and one like the champion
/// before: what the canary questions do about either.
fn hacked(options: &Options) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "Champions and canary questions: taken back within one evaluation period",
        &["champion", "within one period", "within three"],
    );
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    for (name, judged, gold) in
        [("hacked: judged +0.10, gold -0.15", 0.1, -0.15), ("as before", 0.0, 0.0)]
    {
        let mut periods = Vec::new();
        for champion in 0..CHAMPIONS {
            let mut rng = SmallRng::seed_from_u64(options.seed.wrapping_mul(1_000) + champion);
            periods.push(runtime.block_on(probed((judged, gold), &mut rng))?);
        }
        let within = |most: u64| periods.iter().filter(|p| p.is_some_and(|p| p <= most)).count();
        table.rows.push(vec![
            Cell::from(name),
            Cell::share(within(1) as u64, CHAMPIONS)?,
            Cell::share(within(3) as u64, CHAMPIONS)?,
        ]);
    }
    table.notes.push(format!(
        "{QUESTIONS} questions; gold in {{0, 0.5, 1}}, judged = gold with noise of 0.1, clamped"
    ));
    Ok(table)
}

/// After how many periods the champion was taken back, if within three.
async fn probed((judged, gold): (f64, f64), rng: &mut SmallRng) -> anyhow::Result<Option<u64>> {
    let world = world().await?;
    let mut config = config();
    config.compute = actors::compute::ComputeMode::Inline;
    config.promotion.watch.probe_ms = 60_000;
    config.drift.enabled = true;
    let before: Vec<(f64, f64)> = (0..QUESTIONS)
        .map(|_| {
            let gold = f64::from(rng.random_range(0..3_u8)) / 2.0;
            (gold, (gold + rng.random_range(-0.1..0.1_f64)).clamp(0.0, 1.0))
        })
        .map(|(gold, judged)| (judged, gold))
        .collect();
    let after = before.iter().map(|pair| {
        let noise = rng.random_range(-0.1..0.1_f64);
        let lost = if rng.random_bool(0.5) { 2.0 * gold } else { 0.0 };
        ((pair.1 + judged + noise).clamp(0.0, 1.0), (pair.1 + lost).clamp(0.0, 1.0))
    });
    let after: Vec<(f64, f64)> = after.collect();
    {
        let mut findings = world.examiner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        findings.probes = [(PolicyVersion(0), before), (PolicyVersion(1), after)].into();
    }
    let champion = snapshot(1, true);
    let uri = world.snapshots.put(&champion).await?;
    world.snapshots.put(&snapshot(0, true)).await?;
    let clock = Clock::simulated(1_000_000);
    let ports = world.ports(clock);
    let record = PolicyRecord {
        uri,
        replaces: None,
        ..PolicyRecord::of(&champion, PolicyState::Champion, "promoted", clock.now_ms())
    };
    let seal = Arc::clone(&ports.seal);
    let issuer =
        actors::rollout::Issuer { seal, config: config.rules(), node: "simulated".to_owned() };
    let grant = (PolicyState::Champion, None);
    let certificate = issuer.certificate(&record, grant, None, clock.now_ms());
    let certificate = certificate.map_err(|reason| anyhow::anyhow!(reason))?;
    let record = PolicyRecord { certificate: Some(Box::new(certificate)), ..record };
    let payload = serde_json::to_vec(&record)?;
    let new = NewRecord { key: "1".to_owned(), payload, ..NewRecord::default() };
    world.log.append(Stream::Policies, vec![new]).await?;
    let service = Service::start(ports, config).await?;
    let began = Instant::now();
    let mut taken_back = None;
    // Half a period is added for the probe that is under way.
    while began.elapsed() < Duration::from_millis(60_000 * 3 + 30_000) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let board = service.board().await;
        if board.is_ok_and(|board| board.champion() == Some(PolicyVersion(0))) {
            let periods = (began.elapsed().as_secs_f64() / 60.0 - 0.5).ceil().max(1.0);
            taken_back = Some(periods as u64);
            break;
        }
    }
    service.drain(PATIENCE).await;
    Ok(taken_back)
}

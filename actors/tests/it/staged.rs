//! A service on the staged path, steady traffic on it, and the laws that its log must keep.

use crate::bench::{MINUTE, config, until, until_kept};
use actors::clock::Clock;
use actors::fakes::{FakeSeal, Lesson, World, snapshot};
use actors::ports::{Seal as _, Signature, Stream};
use actors::rollout::{Board, Effect, Grant, Path, check};
use actors::service::{
    Overrides, Service, ServiceConfig, ServiceError, ServiceHandle, UpdateOutcome,
};
use actors::types::{
    Arm, Certificate, Episode, PolicyRecord, PolicyState, PolicyVersion, Query, Served,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Users of the traffic.
pub(crate) const USERS: usize = 400;

/// Small minima, so that a candidate is champion within seconds.
pub(crate) fn staged() -> ServiceConfig {
    let mut config = config();
    let promotion = &mut config.promotion;
    promotion.path = Path::Staged;
    promotion.tick_ms = 50;
    promotion.backoff_ms = 20;
    (promotion.parity.queries, promotion.offline.samples_min) = (4, 4);
    promotion.shadow.share = 1.0;
    promotion.shadow.decisions_min = 10;
    promotion.canary.shares = vec![0.05, 0.2, 0.5];
    promotion.canary.units_min = 8;
    promotion.canary.queries_max = 20_000;
    promotion.canary.margin = 0.4;
    promotion.canary.tuned_for = 50.0;
    promotion.watch.probe_ms = 0;
    promotion.watch.hold_ms = 5_000;
    config.drift.enabled = false;
    config.policy_follower.poll_wait_ms = 50;
    config.learner.tick_ms = 100;
    config
}

/// A service at the clock of those before it.
pub(crate) async fn start_at(world: &World, clock: Clock, config: ServiceConfig) -> ServiceHandle {
    let service = Service::start(world.ports(clock), config).await.unwrap();
    until(&service, "ready", |service| async move { service.ready().await.ready }).await;
    service
}

/// What user `n` asks: one in four is never content, whoever serves.
pub(crate) fn asked(n: usize) -> Query {
    let user = n % USERS;
    let answer = if user.is_multiple_of(4) { "nothing is in france" } else { "paris is in france" };
    Query {
        text: format!("is paris in france {n}"),
        references: vec![answer.to_owned()],
        metadata: [("user".to_owned(), format!("user {user}"))].into(),
        ..Query::default()
    }
}

type Answered = Result<Served, ServiceError>;

/// Steady traffic of many users until it is stopped.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Vec<Answered>>,
}

impl Load {
    pub(crate) fn start(service: &ServiceHandle, first: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (service, over) = (service.clone(), Arc::clone(&is_over));
        let task = tokio::spawn(async move {
            let mut asking = Vec::new();
            for n in first.. {
                if over.load(SeqCst) {
                    break;
                }
                let service = service.clone();
                asking.push(tokio::spawn(async move {
                    service.answer(asked(n), Overrides::default()).await
                }));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let mut answered = Vec::new();
            for task in asking {
                answered.push(task.await.unwrap());
            }
            answered
        });
        Self { is_over, task }
    }

    /// Everything that was asked.
    pub(crate) async fn stop(self) -> Vec<Answered> {
        self.is_over.store(true, SeqCst);
        self.task.await.unwrap()
    }
}

/// Has the learner propose a candidate with these traits.
pub(crate) async fn propose(
    world: &World,
    service: &ServiceHandle,
    traits: &'static str,
) -> PolicyVersion {
    until_kept(service, 20).await;
    world.teach(if traits.is_empty() { Lesson::Better } else { Lesson::Has(traits) });
    match service.trigger_update(MINUTE).await.unwrap() {
        UpdateOutcome::Proposed { version, .. } => version,
        outcome => panic!("{outcome:?}"),
    }
}

pub(crate) fn records(world: &World) -> Vec<PolicyRecord> {
    world.log.read(Stream::Policies)
}

/// What the log comes to.
pub(crate) fn board(world: &World) -> Board {
    Board::of(&records(world))
}

/// State and share of a version by the log.
pub(crate) fn state(world: &World, version: PolicyVersion) -> Option<(PolicyState, Option<f64>)> {
    let board = board(world);
    board.standing(version).map(|s| (s.record.state, s.record.share))
}

pub(crate) async fn until_state(
    world: &World,
    service: &ServiceHandle,
    version: PolicyVersion,
    wanted: (PolicyState, Option<f64>),
) {
    let held = world.clone();
    until(service, &format!("{version} {wanted:?}"), move |_| {
        let held = held.clone();
        async move { state(&held, version) == Some(wanted) }
    })
    .await;
}

/// Every change of a version that counted, in order.
pub(crate) fn path(world: &World, version: PolicyVersion) -> Vec<(PolicyState, Option<f64>)> {
    let mut board = Board::default();
    let all = records(world);
    let of = |record: &PolicyRecord| (record.state, record.share);
    let applied = all.iter().filter(|r| board.fold(r) == Effect::Applied && r.version == version);
    applied.map(of).collect()
}

/// The whole way of a candidate that becomes champion.
pub(crate) fn whole_way() -> Vec<(PolicyState, Option<f64>)> {
    use PolicyState::{Canary, Candidate, Champion, Offline, Parity, Shadow};
    let shares = [Some(0.05), Some(0.2), Some(0.5)];
    let before = [Candidate, Parity, Offline, Shadow].map(|state| (state, None));
    let canaries = shares.map(|share| (Canary, share));
    before.into_iter().chain(canaries).chain([(Champion, None)]).collect()
}

pub(crate) fn verify(bytes: &[u8], certificate: &Certificate) -> Result<(), String> {
    let (key, signature) = (certificate.key.clone(), certificate.signature.clone());
    FakeSeal.verify(bytes, &Signature { key, signature }).map_err(|error| error.to_string())
}

/// What must hold of any log: whoever serves users has a certificate over passed stages, steps are
/// consecutive, users get exactly the weights that their unit was assigned, all of them certified.
pub(crate) fn assert_log(world: &World) {
    let mut board = Board::default();
    let mut certified = BTreeMap::from([(PolicyVersion(0), snapshot(0, true).digest)]);
    for record in records(world) {
        if board.fold(&record) == Effect::Outrun {
            continue;
        }
        let record = board.standing(record.version).unwrap().record.clone();
        let grant = match record.state {
            PolicyState::Canary => Grant::Canary(record.share.unwrap()),
            PolicyState::Champion => Grant::Champion,
            _ => continue,
        };
        if record.digest != snapshot(0, true).digest {
            assert_eq!(check(&record, grant, verify), Ok(()), "{record:?}");
        }
        certified.insert(record.version, record.digest.clone());
        assert!(board.in_state(PolicyState::Champion).count() <= 1);
    }
    let mut arms = BTreeMap::<String, Arm>::new();
    for episode in world.log.read::<Episode>(Stream::Episodes) {
        let (Some(decision), Some(assignment)) = (episode.decision, episode.assignment) else {
            continue;
        };
        let stamp = &decision.policy;
        assert_eq!(
            certified.get(&stamp.version),
            Some(&stamp.digest),
            "{stamp:?} is not certified"
        );
        if let (Arm::Candidate { version }, None) = (assignment.arm, &assignment.fell_back) {
            assert_eq!(stamp.version, version, "another served than was assigned");
        }
        // By unit and experiment: never control once treated, nor the other way round.
        for version in &assignment.experiments {
            let is_treated = assignment.arm == (Arm::Candidate { version: *version });
            if is_treated || actors::rollout::holds_control(&assignment, *version) {
                let key = format!("{version} {}", assignment.unit);
                let arm = arms.entry(key).or_insert(assignment.arm);
                assert_eq!(*arm, assignment.arm, "{} is in both arms", assignment.unit);
            }
        }
    }
}

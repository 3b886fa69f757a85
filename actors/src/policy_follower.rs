//! The policy follower: tails `regrade.policies` and makes serving do what the board says: swap to
//! the newest champion, host canaries, let shadows decide, and route units accordingly.
//!
//! Floor 2. It reads from the start at every start and commits nothing: the stream is compacted and
//! the last record of a version is all that counts. So other nodes' changes arrive, every node comes
//! to the same board, and a restarted service serves the last champion before it is ready. Weights
//! without a valid certificate are left out.

mod arms;
mod config;

use crate::ports::{EventLog, Record, Seal, Signature, SnapshotError, SnapshotStore, Stream};
use crate::rollout::{self, Board, Effect, Grant, Routing};
use crate::slot::Request;
use crate::tail::{self, Next, Share, Source, Task, Turn, backoff};
use crate::telemetry;
use crate::types::{Digest, PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion};
use arms::Arms;
pub use arms::{HostBoth, Wanted};
pub use config::Config;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Why a champion does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It never will: lost, damaged or of another shape.
    #[error("{0}")]
    Lasting(String),
    /// Another try may succeed.
    #[error("{0}")]
    Passing(String),
}

/// What the follower understands.
pub enum Message {
    /// A turn on the log (sent by itself).
    #[doc(hidden)]
    Turn(TurnBox),
    /// The try to host canaries and shadows is over (sent by itself).
    #[doc(hidden)]
    Hosted(arms::Hosted),
    /// The try to make a champion serve is over (sent by itself).
    Adopted(PolicyVersion, Result<Arc<PolicySnapshot>, Failure>),
    /// Looks again whether something is to be done (sent by itself).
    Retry,
    /// Asks for the board; `None` until the stream was read to its end.
    Board(RpcReplyPort<Option<Board>>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct TurnBox(Turn);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Where champions are announced.
    pub log: Arc<dyn EventLog>,
    /// Where weights are.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Asks the reranker to swap.
    pub swap: Request<(Arc<PolicySnapshot>, Instant), Result<(), Failure>>,
    /// Hosts canaries beside the champion, and lets shadows decide.
    pub host: HostBoth,
    /// Tells everyone who serves which units.
    pub routing: watch::Sender<Arc<Routing>>,
    /// The weights before anything was learned: they need no certificate, and no store.
    pub first: Arc<PolicySnapshot>,
    /// Knows whose signatures count.
    pub seal: Arc<dyn Seal>,
    /// Whether weights without a valid certificate serve all the same.
    pub allow_uncertified: bool,
    /// Share of the units of an experiment that get an interleaved context.
    pub interleaved: f64,
    /// Share of the units that the champion's experiment against itself treats.
    pub aa_share: f64,
    /// Name of this process: each has a consumer of its own.
    pub node: String,
    /// Bounds.
    pub config: Config,
}

/// Verdicts on certificates that are remembered.
const VERDICTS_MAX: usize = 1_024;
/// Weights that served and stay at hand: the champion's and those before it.
const SERVED_MAX: usize = 2;

/// Counters since the last start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Whether the stream was read to its end and its champion (if any can) serves.
    pub is_caught_up: bool,
    /// The champion made to serve last; 0 for none.
    pub champion: PolicyVersion,
    /// Champions made to serve.
    pub adopted: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Records that could not be read.
    pub broken: u64,
    /// Champions left out because another took the place of the one they were to replace.
    #[serde(default)]
    pub outrun: u64,
    /// Weights left out because they have no valid certificate.
    #[serde(default)]
    pub uncertified: u64,
    /// Canaries that serve their share here.
    #[serde(default)]
    pub canaries: u64,
}

/// The actor.
pub struct PolicyFollower;

#[doc(hidden)]
pub struct State {
    args: Args,
    _reading: Task,
    is_at_end: bool,
    is_adopting: bool,
    failures: u32,
    /// Oldest first; the last is to serve.
    champions: VecDeque<PolicyRecord>,
    /// Weights that served last, so that the way back needs no store.
    served: VecDeque<Arc<PolicySnapshot>>,
    /// What the records so far come to.
    board: Board,
    arms: Arms,
    /// Certificates checked before, so that each is checked, and complained of, once.
    verdicts: HashMap<String, bool>,
    is_settled: bool,
    counters: Observed,
}

impl Actor for PolicyFollower {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let source = Source {
            actor: "policy_follower",
            log: Arc::clone(&args.log),
            name: format!("policy_follower-{}", args.node),
            streams: &[Stream::Policies],
            share: Share::Alone { newest: None },
            backoff_ms: (args.config.backoff_ms, args.config.backoff_max_ms),
        };
        let reading = tail::read(source, &myself, |turn| Message::Turn(TurnBox(turn)));
        Ok(State {
            args,
            _reading: reading,
            is_at_end: false,
            is_adopting: false,
            failures: 0,
            champions: VecDeque::new(),
            served: VecDeque::new(),
            board: Board::default(),
            verdicts: HashMap::new(),
            arms: Arms::default(),
            is_settled: true,
            counters: Observed::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Turn(turn) => state.turn(&myself, turn.0),
            Message::Adopted(version, result) => state.adopted(&myself, version, result),
            Message::Hosted(hosted) => state.hosted(&myself, hosted),
            Message::Retry => {
                state.rested();
                state.adopt(&myself);
                state.reconcile(&myself);
            }
            Message::Board(reply) => {
                let _ = reply.send(state.is_at_end.then(|| state.board.clone()));
            }
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn turn(&mut self, myself: &ActorRef<Message>, mut turn: Turn) {
        let (_, records) = turn.take();
        for record in &records {
            self.absorb(record);
        }
        self.is_at_end |= records.len() < self.args.config.poll_max && turn.is_current;
        self.reconcile(myself);
        // After a failure the pause before `Retry` counts, not the pace of the log.
        if self.failures == 0 {
            self.adopt(myself);
        }
        let config = &self.args.config;
        let wait = Duration::from_millis(config.poll_wait_ms);
        turn.go_on(Next { poll_max: config.poll_max, wait, ..Next::default() });
    }

    fn absorb(&mut self, record: &Record) {
        let record = match tail::parse::<PolicyRecord>(record) {
            Ok(record) => record,
            Err(reason) => {
                self.counters.broken += 1;
                tracing::warn!(reason, "policy record cannot be read");
                return;
            }
        };
        let is_champion = record.state == PolicyState::Champion;
        if self.board.fold(&record) == Effect::Outrun {
            self.counters.outrun += 1;
            tracing::warn!(
                version = %record.version, state = record.state.word(), step = ?record.step,
                champion = ?self.board.champion(), replaces = ?record.replaces,
                "change is left out: another came first"
            );
            return;
        }
        // With what earlier records said of it: a compacted stream does not repeat a certificate.
        let standing = self.board.standing(record.version).map(|s| s.record.clone());
        let record = standing.unwrap_or(record);
        if !is_champion {
            return;
        }
        // What was taken back is nothing to fall back on.
        let line = self.board.line();
        self.champions.retain(|earlier| line.contains(&earlier.version));
        self.is_settled = false;
        if !self.may_serve(&record, Grant::Champion) {
            return;
        }
        self.champions.push_back(record);
        self.is_settled = false;
        self.failures = 0;
        while self.champions.len() > self.args.config.champions_max {
            self.champions.pop_front();
        }
    }

    /// Whether the weights may do this: their certificate says so, or nothing was learned yet, or
    /// the operator took it upon himself.
    fn may_serve(&mut self, record: &PolicyRecord, grant: Grant) -> bool {
        if record.digest == self.args.first.digest {
            return true;
        }
        let signature = record.certificate.as_ref().map(|c| c.signature.as_str());
        let key = format!("{} {} {grant:?} {signature:?}", record.version, record.digest);
        if let Some(verdict) = self.verdicts.get(&key) {
            return *verdict;
        }
        let verdict = self.examine(record, grant);
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts.clear();
        }
        self.verdicts.insert(key, verdict);
        verdict
    }

    fn examine(&mut self, record: &PolicyRecord, grant: Grant) -> bool {
        let seal = Arc::clone(&self.args.seal);
        let checked = rollout::check(record, grant, |bytes, certificate| {
            let (key, signature) = (certificate.key.clone(), certificate.signature.clone());
            let fits = seal.verify(bytes, &Signature { key, signature });
            fits.map_err(|error| error.to_string())
        });
        let Err(fault) = checked else { return true };
        self.counters.uncertified += 1;
        telemetry::uncertified(record.version.0, &fault, self.args.allow_uncertified);
        self.args.allow_uncertified
    }

    /// Makes the newest champion serve, once the whole stream is read.
    fn adopt(&mut self, myself: &ActorRef<Message>) {
        if self.is_settled || self.is_adopting || !self.is_at_end {
            return;
        }
        let Some(record) = self.champions.back() else {
            self.is_settled = true;
            return;
        };
        self.is_adopting = true;
        let at_hand = self.at_hand(&record.digest);
        let (args, record, myself) = (self.args.clone(), record.clone(), myself.clone());
        ractor::concurrency::spawn(async move {
            let limit = Duration::from_millis(args.config.deadline_ms);
            let version = record.version;
            let work = fetch_and_swap(args, (record, at_hand), limit);
            let over = crate::bounds::guarded(limit, work).await;
            let result = over.unwrap_or_else(|broken| Err(Failure::Passing(broken.to_string())));
            let _ = myself.send_message(Message::Adopted(version, result));
        });
    }

    /// Weights that need not be fetched.
    fn at_hand(&self, digest: &Digest) -> Option<Arc<PolicySnapshot>> {
        let kept = self.served.iter().chain(self.arms.kept()).chain([&self.args.first]);
        kept.into_iter().find(|snapshot| snapshot.digest == *digest).cloned()
    }

    fn adopted(
        &mut self,
        myself: &ActorRef<Message>,
        version: PolicyVersion,
        result: Result<Arc<PolicySnapshot>, Failure>,
    ) {
        self.is_adopting = false;
        match result {
            Ok(snapshot) => {
                self.served.retain(|other| other.version != snapshot.version);
                self.served.push_back(snapshot);
                while self.served.len() > SERVED_MAX {
                    self.served.pop_front();
                }
                self.failures = 0;
                self.counters.adopted += 1;
                self.counters.champion = version;
                self.is_settled = self.champions.back().is_none_or(|r| r.version == version);
                self.adopt(myself);
            }
            Err(failure) => {
                self.counters.failures += 1;
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(%version, %failure, "champion cannot serve");
                if matches!(failure, Failure::Lasting(_)) {
                    self.champions.retain(|record| record.version != version);
                }
                let (base, max) = (self.args.config.backoff_ms, self.args.config.backoff_max_ms);
                let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
                myself.send_after(backoff(self.failures, base, max), || Message::Retry);
            }
        }
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let is_caught_up = self.is_at_end && self.is_settled;
        let _ = reply.send(Observed { is_caught_up, ..self.counters });
    }
}

async fn fetch_and_swap(
    args: Args,
    (record, at_hand): (PolicyRecord, Option<Arc<PolicySnapshot>>),
    limit: Duration,
) -> Result<Arc<PolicySnapshot>, Failure> {
    let snapshot = match at_hand {
        Some(snapshot) => snapshot,
        None => Arc::new(args.snapshots.get(record.version).await.map_err(|e| match &e {
            SnapshotError::Unavailable(_) => Failure::Passing(e.to_string()),
            _ => Failure::Lasting(e.to_string()),
        })?),
    };
    // The store checks bytes against their own digest; here they have to be those on record.
    if snapshot.digest != record.digest || snapshot.parent != record.parent {
        return Err(Failure::Lasting(format!(
            "snapshot {} has digest {} and parent {:?}, on record are {} and {:?}",
            record.version, snapshot.digest, snapshot.parent, record.digest, record.parent
        )));
    }
    (args.swap)((Arc::clone(&snapshot), Instant::now() + limit)).await.map(|()| snapshot)
}

//! The policy follower: tails `regrade.policies` and makes serving swap to the newest champion.
//!
//! Floor 2. It reads from the start at every start and commits nothing: the stream is compacted and
//! the last champion is all that counts. So other nodes' promotions arrive, and a restarted service
//! serves the last champion before it is ready.

use crate::bounds::all_at_least_one;
use crate::ports::{EventLog, Record, SnapshotError, SnapshotStore, Stream};
use crate::slot::Request;
use crate::tail::{self, Next, Share, Source, Task, Turn, backoff};
use crate::types::{PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bounds of the follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Champions remembered to fall back on when the newest cannot be loaded, ≥ 1.
    pub champions_max: usize,
    /// Longest time to fetch and swap one champion, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Records read in one step, ≥ 1.
    pub poll_max: usize,
    /// Longest wait for the first record of a step, milliseconds, ≥ 1.
    pub poll_wait_ms: u64,
    /// Pause after a failure, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            champions_max: 16,
            deadline_ms: 60_000,
            poll_max: 1_024,
            poll_wait_ms: 200,
            backoff_ms: 100,
            backoff_max_ms: 30_000,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("champions_max", self.champions_max as u64),
            ("deadline_ms", self.deadline_ms),
            ("poll_max", self.poll_max as u64),
            ("poll_wait_ms", self.poll_wait_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
        ])
    }
}

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
    /// The try to make a champion serve is over (sent by itself).
    Adopted(PolicyVersion, Result<(), Failure>),
    /// Looks again whether something is to be done (sent by itself).
    Retry,
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
    /// Name of this process: each has a consumer of its own.
    pub node: String,
    /// Bounds.
    pub config: Config,
}

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
    /// The champion by the records so far: the next has to replace it.
    champion: Option<PolicyVersion>,
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
            champion: None,
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
            Message::Retry => state.adopt(&myself),
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn turn(&mut self, myself: &ActorRef<Message>, mut turn: Turn) {
        let (_, records) = turn.take();
        self.is_at_end |= records.is_empty() && turn.is_current;
        for record in &records {
            self.absorb(record);
        }
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
        if record.state != PolicyState::Champion {
            return;
        }
        if !record.follows(self.champion) {
            self.counters.outrun += 1;
            tracing::warn!(
                version = %record.version, champion = ?self.champion, replaces = ?record.replaces,
                "champion is left out: another took its place first"
            );
            return;
        }
        self.champion = Some(record.version);
        self.champions.push_back(record);
        self.is_settled = false;
        self.failures = 0;
        while self.champions.len() > self.args.config.champions_max {
            self.champions.pop_front();
        }
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
        let (args, record, myself) = (self.args.clone(), record.clone(), myself.clone());
        ractor::concurrency::spawn(async move {
            let limit = Duration::from_millis(args.config.deadline_ms);
            let version = record.version;
            let over = crate::bounds::guarded(limit, fetch_and_swap(args, record, limit)).await;
            let result = over.unwrap_or_else(|broken| Err(Failure::Passing(broken.to_string())));
            let _ = myself.send_message(Message::Adopted(version, result));
        });
    }

    fn adopted(
        &mut self,
        myself: &ActorRef<Message>,
        version: PolicyVersion,
        result: Result<(), Failure>,
    ) {
        self.is_adopting = false;
        match result {
            Ok(()) => {
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

async fn fetch_and_swap(args: Args, record: PolicyRecord, limit: Duration) -> Result<(), Failure> {
    let snapshot = args.snapshots.get(record.version).await.map_err(|error| match &error {
        SnapshotError::Unavailable(_) => Failure::Passing(error.to_string()),
        _ => Failure::Lasting(error.to_string()),
    })?;
    // The store checks bytes against their own digest; here they have to be those on record.
    if snapshot.digest != record.digest || snapshot.parent != record.parent {
        return Err(Failure::Lasting(format!(
            "snapshot {} has digest {} and parent {:?}, on record are {} and {:?}",
            record.version, snapshot.digest, snapshot.parent, record.digest, record.parent
        )));
    }
    (args.swap)((Arc::new(snapshot), Instant::now() + limit)).await
}

//! Which decisions feedback may refer to: the newest of the log, a bounded number.
//!
//! Floor 2. A decision made here is told before its answer leaves; those of other nodes and of
//! earlier lives come from the log, whose position it commits so far back that a restart refills.

use crate::bounds::all_at_least_one;
use crate::ports::{Commit, EventLog, Stream};
use crate::tail::{self, Next, Origin, Share, Source, Task, Turn, Watermarks};
use crate::types::{DecisionId, Episode};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Decisions remembered, ≥ 1; feedback on older ones is refused at the door.
    pub capacity: usize,
    /// Longest wait of a caller, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Records read in one step, ≥ 1.
    pub poll_max: usize,
    /// Longest wait for the first record of a step, milliseconds, ≥ 1.
    pub poll_wait_ms: u64,
    /// Pause after a failure of the log, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            capacity: 100_000,
            deadline_ms: 1_000,
            poll_max: 256,
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
            ("capacity", self.capacity as u64),
            ("deadline_ms", self.deadline_ms),
            ("poll_max", self.poll_max as u64),
            ("poll_wait_ms", self.poll_wait_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
        ])
    }
}

/// What is known of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was made.
    Yes,
    /// It was not made, or long ago.
    No,
    /// The log is not read to its end yet.
    NotYet,
}

/// What the actor understands.
pub enum Message {
    /// A turn on the log (sent by itself).
    #[doc(hidden)]
    Turn(TurnBox),
    /// A decision was made here and is in the log.
    Remember(DecisionId),
    /// Asks for a decision.
    Knows(DecisionId, RpcReplyPort<Known>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct TurnBox(Turn);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Where episodes are read.
    pub log: Arc<dyn EventLog>,
    /// Name of this process: each has a consumer of its own.
    pub node: String,
    /// Bounds.
    pub config: Config,
}

/// Levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Decisions remembered.
    pub decisions: u64,
    /// Whether the log was read to its end at least once since the start.
    pub is_caught_up: bool,
}

/// The actor.
pub struct RecentDecisions;

#[doc(hidden)]
pub struct State {
    args: Args,
    _reading: Task,
    is_caught_up: bool,
    names: BTreeSet<DecisionId>,
    told: VecDeque<DecisionId>,
    read: VecDeque<(DecisionId, Origin)>,
    watermarks: Watermarks,
    committed: Vec<Origin>,
}

impl Actor for RecentDecisions {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let source = Source {
            actor: "recent_decisions",
            log: Arc::clone(&args.log),
            name: format!("recent_decisions-{}", args.node),
            streams: &[Stream::Episodes],
            share: Share::Alone { newest: Some(args.config.capacity as u64) },
            backoff_ms: (args.config.backoff_ms, args.config.backoff_max_ms),
        };
        let reading = tail::read(source, &myself, |turn| Message::Turn(TurnBox(turn)));
        Ok(State {
            args,
            _reading: reading,
            is_caught_up: false,
            names: BTreeSet::new(),
            told: VecDeque::new(),
            read: VecDeque::new(),
            watermarks: Watermarks::default(),
            committed: Vec::new(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Turn(turn) => state.turn(turn.0),
            Message::Remember(id) => state.remember(id),
            Message::Knows(id, reply) => state.knows(&id, reply),
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn turn(&mut self, mut turn: Turn) {
        let (_, records) = turn.take();
        self.is_caught_up |= records.is_empty() && turn.is_current;
        for record in &records {
            let origin = self.watermarks.hold(record);
            let episode: Option<Episode> = tail::parse(record).ok();
            match episode.as_ref().and_then(Episode::decision_id) {
                Some(id) => {
                    self.names.insert(id.clone());
                    self.read.push_back((id.clone(), origin));
                }
                None => self.watermarks.release(origin),
            }
        }
        self.forget();
        let mut next = Next { poll_max: self.args.config.poll_max, ..Next::default() };
        next.wait = Duration::from_millis(self.args.config.poll_wait_ms);
        let positions = self.watermarks.positions();
        if positions != self.committed {
            self.committed.clone_from(&positions);
            next.commits.push(Commit { positions, ..Commit::default() });
        }
        turn.go_on(next);
    }

    fn remember(&mut self, id: DecisionId) {
        self.names.insert(id.clone());
        self.told.push_back(id);
        self.forget();
    }

    /// Keeps both queues within the bound; a name goes with the last queue that holds it.
    fn forget(&mut self) {
        let capacity = self.args.config.capacity;
        while self.read.len() > capacity {
            let Some((id, origin)) = self.read.pop_front() else { break };
            self.watermarks.release(origin);
            self.names.remove(&id);
        }
        while self.told.len() > capacity {
            let Some(id) = self.told.pop_front() else { break };
            self.names.remove(&id);
        }
    }

    fn knows(&self, id: &DecisionId, reply: RpcReplyPort<Known>) {
        let known = match (self.names.contains(id), self.is_caught_up) {
            (true, _) => Known::Yes,
            (false, true) => Known::No,
            (false, false) => Known::NotYet,
        };
        // Whoever asked may have stopped waiting.
        let _ = reply.send(known);
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let decisions = self.names.len() as u64;
        let _ = reply.send(Observed { decisions, is_caught_up: self.is_caught_up });
    }
}

//! The intake: queries that come by the log go through the one door, answers go back by the log.
//!
//! Floor 3. The answer, the position and the memory of what is done are one commit of a partition,
//! so that a restart answers on the log once; a query may be worked on twice. A partition that is
//! to leave is finished first. Knows no stage of an episode.

mod config;
mod partition;

use crate::clock::Clock;
use crate::ports::{Commit, EventLog, LogError, Record, Stream};
use crate::slot::Request;
use crate::tail::{
    self, Change, Next, Origin, Share, Source, Task, Turn, Watermarks, backoff, deadletter, record,
};
use crate::telemetry;
use crate::types::{AnswerRecord, Query, SCHEMA_VERSION, Served};
pub use config::Config;
use partition::Partition;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Why a query was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The query itself is wrong; no further try helps.
    #[error("{0}")]
    Lasting(String),
    /// Another try may succeed.
    #[error("{0}")]
    Passing(String),
}

/// What the intake understands.
pub enum Message {
    /// A turn on the log (sent by itself).
    #[doc(hidden)]
    Turn(TurnBox),
    /// A query is over (sent by itself).
    #[doc(hidden)]
    Over(OverBox),
    /// Reads no more; replies once nothing is worked on and every answer is durable.
    Drain(RpcReplyPort<()>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct TurnBox(Turn);
#[doc(hidden)]
pub struct OverBox(Box<Over>);

struct Over {
    name: String,
    origin: Origin,
    tenure: u64,
    query: Query,
    result: Result<Served, Failure>,
}

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Where queries come from and answers go.
    pub log: Arc<dyn EventLog>,
    /// The one door.
    pub door: Request<Query, Result<Served, Failure>>,
    /// Stamps.
    pub clock: Clock,
    /// Bounds.
    pub config: Config,
}

/// Counters since the last start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Records read.
    pub read: u64,
    /// Queries answered.
    pub answered: u64,
    /// Queries answered with an error.
    pub failed: u64,
    /// Repeats left out.
    pub duplicate: u64,
    /// Records that could not be read.
    pub broken: u64,
    /// Queries being worked on.
    pub in_flight: u64,
    /// Answers dropped because their partition is somebody else's by now, who answers.
    #[serde(default)]
    pub handed_over: u64,
    /// Partitions read here.
    #[serde(default)]
    pub partitions: u64,
}

/// The actor.
pub struct Intake;

#[doc(hidden)]
pub struct State {
    args: Args,
    _reading: Task,
    partitions: BTreeMap<u32, Partition>,
    /// Partitions gained so far: tells what was begun under an earlier ownership.
    tenures: u64,
    watermarks: Watermarks,
    /// Who waits for the end; from the first on nothing more is read.
    drains: Vec<RpcReplyPort<()>>,
    is_draining: bool,
    counters: Observed,
}

impl Actor for Intake {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let source = Source {
            actor: "intake",
            log: Arc::clone(&args.log),
            name: "intake".to_owned(),
            streams: &[Stream::Queries],
            share: Share::Group { rebuild: None },
            backoff_ms: (args.config.backoff_ms, args.config.backoff_max_ms),
        };
        let reading = tail::read(source, &myself, |turn| Message::Turn(TurnBox(turn)));
        Ok(State {
            args,
            _reading: reading,
            partitions: BTreeMap::new(),
            tenures: 0,
            watermarks: Watermarks::default(),
            drains: Vec::new(),
            is_draining: false,
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
            Message::Turn(turn) => state.turn(&myself, turn.0)?,
            Message::Over(over) => state.over(*over.0)?,
            Message::Drain(reply) => {
                state.is_draining = true;
                state.drains.push(reply);
            }
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn turn(&mut self, myself: &ActorRef<Message>, mut turn: Turn) -> Result<(), LogError> {
        let (changes, records) = turn.take();
        for change in changes {
            self.change(change)?;
        }
        for record in &records {
            self.absorb(myself, record);
        }
        let mut next = Next::default();
        self.take_commits(&mut next);
        let config = &self.args.config;
        let working = self.working();
        if !self.is_draining {
            next.poll_max = config.concurrency.saturating_sub(working);
        } else if working == 0 && next.commits.is_empty() {
            for reply in self.drains.drain(..) {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
            }
        }
        let wait_ms = if working == 0 { config.poll_wait_ms } else { config.busy_wait_ms };
        next.wait = Duration::from_millis(wait_ms);
        turn.go_on(next);
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), LogError> {
        match change {
            Change::Gained(partition, state) => {
                self.tenures += 1;
                let state = state.unwrap_or_default();
                let gained = Partition::restored(self.tenures, state)?;
                self.partitions.insert(partition, gained);
            }
            Change::Leaving(partition) => match self.partitions.get_mut(&partition) {
                Some(known) => known.is_leaving = true,
                None => {
                    self.partitions.insert(partition, Partition::leaving());
                }
            },
            Change::Lost(partition) => {
                self.partitions.remove(&partition);
                self.watermarks.forget(partition);
            }
        }
        Ok(())
    }

    /// Collects what must become durable; a partition that leaves goes once nothing of it is
    /// worked on.
    fn take_commits(&mut self, next: &mut Next) {
        let positions = self.watermarks.positions();
        let mut gone = Vec::new();
        for (number, partition) in &mut self.partitions {
            let empty = Commit { partition: *number, ..Commit::default() };
            let mut commit = std::mem::replace(&mut partition.commit, empty);
            commit.partition = *number;
            let own: Vec<Origin> = positions.iter().filter(|p| p.1 == *number).copied().collect();
            if own != partition.committed {
                partition.committed.clone_from(&own);
                commit.positions = own;
            }
            let is_empty = Commit { partition: *number, ..Commit::default() } == commit;
            if !is_empty {
                next.commits.push(commit);
            }
            if partition.is_leaving && partition.working.is_empty() {
                next.release.push(*number);
                gone.push(*number);
            }
        }
        for number in gone {
            self.partitions.remove(&number);
            self.watermarks.forget(number);
        }
    }

    fn working(&self) -> usize {
        self.partitions.values().map(|partition| partition.working.len()).sum()
    }

    fn absorb(&mut self, myself: &ActorRef<Message>, record: &Record) {
        let Some(partition) = self.partitions.get_mut(&record.partition) else { return };
        self.counters.read += 1;
        let origin = self.watermarks.hold(record);
        let query = match tail::parse_from_outside::<Query>(record) {
            Ok(query) => query,
            Err(reason) => {
                self.counters.broken += 1;
                telemetry::count(telemetry::INTAKE, "fate", "broken");
                let letter = deadletter("intake", record, &reason);
                partition.commit.appends.push((Stream::Deadletter, letter));
                return self.watermarks.release(origin);
            }
        };
        let name = record.name(query.id.as_str());
        if partition.seen.contains(&name) || !partition.working.insert(name.clone()) {
            self.counters.duplicate += 1;
            telemetry::count(telemetry::INTAKE, "fate", "duplicate");
            return self.watermarks.release(origin);
        }
        let tenure = partition.tenure;
        let (args, myself) = (self.args.clone(), myself.clone());
        ractor::concurrency::spawn(async move {
            let result = attempts(&args, &query).await;
            let over = Over { name, origin, tenure, query, result };
            let _ = myself.send_message(Message::Over(OverBox(Box::new(over))));
        });
    }

    fn over(&mut self, over: Over) -> Result<(), LogError> {
        let Over { name, origin, tenure, query, result } = over;
        let owned = self.partitions.get_mut(&origin.1).filter(|known| known.tenure == tenure);
        let Some(partition) = owned else {
            // Its next owner answers; the answer to this work goes nowhere.
            self.counters.handed_over += 1;
            telemetry::count(telemetry::INTAKE, "fate", "handed_over");
            return Ok(());
        };
        partition.working.remove(&name);
        self.watermarks.release(origin);
        let fate = if result.is_ok() { "answered" } else { "failed" };
        telemetry::count(telemetry::INTAKE, "fate", fate);
        let (served, error) = match result {
            Ok(served) => {
                self.counters.answered += 1;
                (Some(served), None)
            }
            Err(error) => {
                self.counters.failed += 1;
                (None, Some(error.to_string()))
            }
        };
        let query_id = served.as_ref().map_or(query.id, |served| served.query_id.clone());
        let time_ms = self.args.clock.now_ms();
        let answer = AnswerRecord { schema: SCHEMA_VERSION, query_id, served, error, time_ms };
        let key = answer.query_id.clone();
        let new = record(key.as_str(), (&name, Stream::Answers.topic()), &answer)?;
        partition.commit.appends.push((Stream::Answers, new));
        partition.done(name, self.args.config.seen_max);
        Ok(())
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let in_flight = self.working() as u64;
        let partitions = self.partitions.len() as u64;
        let _ = reply.send(Observed { in_flight, partitions, ..self.counters });
    }
}

/// Lets a query in, again while the failure may pass.
async fn attempts(args: &Args, query: &Query) -> Result<Served, Failure> {
    let config = args.config;
    let (base, max) = (config.backoff_ms, config.backoff_max_ms);
    let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
    let mut failures = 0;
    loop {
        let result = (args.door)(query.clone()).await;
        failures += 1;
        match result {
            Err(Failure::Lasting(_)) | Ok(_) => return result,
            Err(_) if failures >= config.attempts_max => return result,
            Err(error) => {
                tracing::debug!(%error, failures, "query from the log failed, trying again");
                tokio::time::sleep(backoff(failures, base, max)).await;
            }
        }
    }
}

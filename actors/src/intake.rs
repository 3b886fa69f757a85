//! The intake: queries that come by the log go through the one door, answers go back by the log.
//!
//! Floor 3. The answer, the position and the memory of what is done are one commit, so that a
//! restart answers on the log once; a query may be worked on twice. Knows no stage of an episode.

use crate::bounds::all_at_least_one;
use crate::clock::Clock;
use crate::ports::{Commit, EventLog, LogError, Record, StateChange, Stream};
use crate::slot::Request;
use crate::tail::{
    self, Consumer, Opened, Origin, Step, Stepped, Task, Watermarks, backoff, deadletter, record,
};
use crate::telemetry;
use crate::types::{AnswerRecord, Query, SCHEMA_VERSION, Served};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether queries are read from the log at all.
    pub enabled: bool,
    /// Queries worked on at once, ≥ 1.
    pub concurrency: usize,
    /// Tries of one query while the door is full or a stage fails, ≥ 1.
    pub attempts_max: u32,
    /// Query names remembered to know repeats, ≥ 1.
    pub seen_max: usize,
    /// Longest wait for the first record of a step, milliseconds, ≥ 1; answers wait for it too.
    pub poll_wait_ms: u64,
    /// Pause after a failure, milliseconds, ≥ 1; doubled each time.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ 1.
    pub backoff_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            concurrency: 16,
            attempts_max: 8,
            seen_max: 100_000,
            poll_wait_ms: 50,
            backoff_ms: 50,
            backoff_max_ms: 5_000,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("concurrency", self.concurrency as u64),
            ("attempts_max", u64::from(self.attempts_max)),
            ("seen_max", self.seen_max as u64),
            ("poll_wait_ms", self.poll_wait_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
        ])
    }
}

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
    /// The log is open, or not (sent by itself).
    #[doc(hidden)]
    Opened(OpenedBox),
    /// A step on the log is over (sent by itself).
    #[doc(hidden)]
    Stepped(SteppedBox),
    /// A query is over (sent by itself).
    #[doc(hidden)]
    Over(OverBox),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct OpenedBox(Opened);
#[doc(hidden)]
pub struct SteppedBox(Stepped);
#[doc(hidden)]
pub struct OverBox(Box<Over>);

struct Over {
    name: String,
    origin: Origin,
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
}

/// The actor.
pub struct Intake;

#[doc(hidden)]
pub struct State {
    args: Args,
    task: Option<Task>,
    log_failures: u32,
    next_age: u64,
    by_age: BTreeMap<u64, String>,
    seen: BTreeSet<String>,
    working: BTreeSet<String>,
    watermarks: Watermarks,
    commit: Commit,
    committed: Vec<Origin>,
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
        let mut state = State {
            args,
            task: None,
            log_failures: 0,
            next_age: 0,
            by_age: BTreeMap::new(),
            seen: BTreeSet::new(),
            working: BTreeSet::new(),
            watermarks: Watermarks::default(),
            commit: Commit::default(),
            committed: Vec::new(),
            counters: Observed::default(),
        };
        state.open(&myself, Duration::ZERO);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Opened(opened) => state.opened(&myself, opened.0)?,
            Message::Stepped(stepped) => state.stepped(&myself, stepped.0),
            Message::Over(over) => state.over(*over.0)?,
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn open(&mut self, myself: &ActorRef<Message>, delay: Duration) {
        const STREAMS: &[Stream] = &[Stream::Queries];
        let what = ("intake".to_owned(), STREAMS);
        self.task = Some(tail::open(myself, &self.args.log, what, delay, |opened| {
            Message::Opened(OpenedBox(opened))
        }));
    }

    fn opened(&mut self, myself: &ActorRef<Message>, opened: Opened) -> Result<(), LogError> {
        match opened {
            Ok((consumer, state)) => {
                for (name, age) in state {
                    let age = serde_json::from_slice(&age).map_err(|error| {
                        LogError::Damaged(format!("intake state `{name}`: {error}"))
                    })?;
                    self.remember(name, age);
                }
                self.step(myself, consumer, None, Duration::ZERO);
            }
            Err(error) => {
                let delay = self.log_failed(&error);
                self.open(myself, delay);
            }
        }
        Ok(())
    }

    fn stepped(&mut self, myself: &ActorRef<Message>, stepped: Stepped) {
        let Stepped { consumer, uncommitted, polled } = stepped;
        if let Some((commit, error)) = uncommitted {
            let delay = self.log_failed(&error);
            return self.step(myself, consumer, Some(commit), delay);
        }
        let delay = match polled {
            Ok(records) => {
                self.log_failures = 0;
                records.iter().for_each(|record| self.absorb(myself, record));
                Duration::ZERO
            }
            Err(error) => self.log_failed(&error),
        };
        let positions = self.watermarks.positions();
        if positions != self.committed {
            self.committed.clone_from(&positions);
            self.commit.positions = positions;
        }
        let commit = std::mem::take(&mut self.commit);
        let commit = (commit != Commit::default()).then_some(commit);
        self.step(myself, consumer, commit, delay);
    }

    fn step(
        &mut self,
        myself: &ActorRef<Message>,
        consumer: Consumer,
        commit: Option<Commit>,
        delay: Duration,
    ) {
        let poll_max = self.args.config.concurrency.saturating_sub(self.working.len());
        let wait = Duration::from_millis(self.args.config.poll_wait_ms);
        let step = Step { consumer, commit, poll_max, wait, delay };
        self.task = Some(tail::step(myself, step, |s| Message::Stepped(SteppedBox(s))));
    }

    fn absorb(&mut self, myself: &ActorRef<Message>, record: &Record) {
        self.counters.read += 1;
        let origin = self.watermarks.hold(record);
        let query = match serde_json::from_slice::<Query>(&record.payload) {
            Ok(query) => query,
            Err(error) => {
                self.counters.broken += 1;
                telemetry::count(telemetry::INTAKE, "fate", "broken");
                let letter = deadletter("intake", record, &error.to_string());
                self.commit.appends.push((Stream::Deadletter, letter));
                return self.watermarks.release(origin);
            }
        };
        let name = name_of(record, &query);
        if self.seen.contains(&name) || !self.working.insert(name.clone()) {
            self.counters.duplicate += 1;
            telemetry::count(telemetry::INTAKE, "fate", "duplicate");
            return self.watermarks.release(origin);
        }
        let (args, myself) = (self.args.clone(), myself.clone());
        ractor::concurrency::spawn(async move {
            let result = attempts(&args, &query).await;
            let over = Over { name, origin, query, result };
            let _ = myself.send_message(Message::Over(OverBox(Box::new(over))));
        });
    }

    fn over(&mut self, over: Over) -> Result<(), LogError> {
        let Over { name, origin, query, result } = over;
        self.working.remove(&name);
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
        self.commit.appends.push((Stream::Answers, new));
        let age = self.next_age;
        let value = age.to_string().into_bytes();
        self.commit.state.push(StateChange::Put { key: name.clone(), value });
        self.remember(name, age);
        while self.by_age.len() > self.args.config.seen_max {
            let Some((_, key)) = self.by_age.pop_first() else { break };
            self.seen.remove(&key);
            self.commit.state.push(StateChange::Delete { key });
        }
        Ok(())
    }

    fn remember(&mut self, name: String, age: u64) {
        self.next_age = self.next_age.max(age + 1);
        self.by_age.insert(age, name.clone());
        self.seen.insert(name);
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let in_flight = self.working.len() as u64;
        let _ = reply.send(Observed { in_flight, ..self.counters });
    }

    fn log_failed(&mut self, error: &LogError) -> Duration {
        self.log_failures = self.log_failures.saturating_add(1);
        let (base, max) = (self.args.config.backoff_ms, self.args.config.backoff_max_ms);
        let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
        let delay = backoff(self.log_failures, base, max);
        telemetry::log_failed("intake", error, delay);
        delay
    }
}

/// The key under which repeats are dropped: CloudEvents' source and id, else the query's own id,
/// else the place in the log.
fn name_of(record: &Record, query: &Query) -> String {
    match (record.headers.get("ce_source"), record.headers.get("ce_id")) {
        (Some(source), Some(id)) => format!("{source}|{id}"),
        _ if !query.id.as_str().is_empty() => format!("|{}", query.id),
        _ => format!("{}/{}", record.partition, record.offset),
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

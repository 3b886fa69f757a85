//! The generator: lets the LLM (or reader) answer, with a deadline over all attempts and bounded
//! retries while it is unavailable.
//!
//! Floor 2. Knows no decision; it sees a question and documents in order.

use crate::bounds::{Broken, Lanes, all_at_least_one, guarded};
use crate::ports::{self, GenerateError};
use crate::tail::backoff;
use crate::telemetry;
use crate::types::{Answer, Document, Query};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest time for one answer over all attempts, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Attempts for one answer, ≥ 1.
    pub attempts_max: u32,
    /// Pause after the first failed attempt, milliseconds; doubled for each further one.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds.
    pub backoff_max_ms: u64,
    /// Answers at once, ≥ 1.
    pub concurrency: usize,
    /// Answers that may wait beyond that.
    pub queue_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline_ms: 20_000,
            attempts_max: 3,
            backoff_ms: 50,
            backoff_max_ms: 2_000,
            concurrency: 32,
            queue_max: 256,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("deadline_ms", self.deadline_ms),
            ("attempts_max", u64::from(self.attempts_max)),
            ("concurrency", self.concurrency as u64),
        ])
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// All attempts found the generator unavailable.
    #[error("{0}")]
    Unavailable(String),
    /// The request is wrong.
    #[error("{0}")]
    Refused(String),
    /// The deadline passed.
    #[error("no answer within the generator's deadline")]
    Deadline,
    /// Too many requests wait already.
    #[error("generator is overloaded")]
    Overloaded,
}

/// What the generator understands.
#[derive(Debug)]
pub enum Message {
    /// Answers a query from documents, in order.
    Answer {
        /// The query.
        query: Box<Query>,
        /// The documents.
        documents: Vec<Document>,
        /// Where the answer goes.
        reply: RpcReplyPort<Result<Answer, Error>>,
    },
    /// An answer is over (sent by itself).
    Finished {
        /// Whether there was an answer.
        is_answered: bool,
        /// Attempts after the first.
        retries: u64,
    },
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// The generator behind the port.
    pub generator: Arc<dyn ports::Generator>,
    /// Bounds.
    pub config: Config,
}

/// Counters since the last start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Answers asked for.
    pub requested: u64,
    /// Answers given.
    pub answered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests refused because too many waited.
    pub refused: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Requests running.
    pub running: usize,
    /// Requests waiting.
    pub waiting: usize,
}

/// The actor.
pub struct Generator;

struct Task {
    query: Box<Query>,
    documents: Vec<Document>,
    reply: RpcReplyPort<Result<Answer, Error>>,
}

#[doc(hidden)]
pub struct State {
    args: Args,
    lanes: Lanes<Task>,
    counters: Observed,
}

impl Actor for Generator {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let lanes = Lanes::new(args.config.concurrency, args.config.queue_max);
        Ok(State { args, lanes, counters: Observed::default() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Answer { query, documents, reply } => {
                state.answer(&myself, Task { query, documents, reply });
            }
            Message::Finished { is_answered, retries } => {
                state.finished(&myself, is_answered, retries);
            }
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn answer(&mut self, myself: &ActorRef<Message>, task: Task) {
        self.counters.requested += 1;
        match self.lanes.admit(task) {
            Ok(Some(task)) => self.run(myself, task),
            Ok(None) => {}
            Err(task) => {
                self.counters.refused += 1;
                // A caller that left needs no reply.
                let _ = task.reply.send(Err(Error::Overloaded));
            }
        }
    }

    fn run(&self, myself: &ActorRef<Message>, task: Task) {
        let (args, myself) = (self.args.clone(), myself.clone());
        ractor::concurrency::spawn(async move {
            let Task { query, documents, reply } = task;
            let deadline = Duration::from_millis(args.config.deadline_ms);
            let work = attempts(args, query, documents);
            let (result, retries) = match guarded(deadline, work).await {
                Ok(over) => over,
                Err(Broken::Deadline(_)) => (Err(Error::Deadline), 0),
                Err(Broken::Panicked) => {
                    (Err(Error::Unavailable("the generator panicked".to_owned())), 0)
                }
            };
            let is_answered = result.is_ok();
            let _ = reply.send(result);
            let _ = myself.send_message(Message::Finished { is_answered, retries });
        });
    }

    fn finished(&mut self, myself: &ActorRef<Message>, is_answered: bool, retries: u64) {
        self.counters.retries += retries;
        if is_answered {
            self.counters.answered += 1;
        } else {
            self.counters.failed += 1;
        }
        if let Some(next) = self.lanes.finished(|task| !task.reply.is_closed()) {
            self.run(myself, next);
        }
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let (running, waiting) = (self.lanes.running(), self.lanes.waiting());
        let _ = reply.send(Observed { running, waiting, ..self.counters });
    }
}

/// Tries until there is an answer, a refusal, or no attempt left; gives the retries too.
async fn attempts(
    args: Args,
    query: Box<Query>,
    documents: Vec<Document>,
) -> (Result<Answer, Error>, u64) {
    let config = args.config;
    let (base, max) =
        (Duration::from_millis(config.backoff_ms), Duration::from_millis(config.backoff_max_ms));
    let mut failures = 0;
    loop {
        match args.generator.answer(&query, &documents).await {
            Ok(answer) => return (Ok(answer), u64::from(failures)),
            Err(error @ GenerateError::Refused(_)) => {
                return (Err(Error::Refused(error.to_string())), u64::from(failures));
            }
            Err(error) if failures + 1 >= config.attempts_max => {
                return (Err(Error::Unavailable(error.to_string())), u64::from(failures));
            }
            Err(error) => {
                failures += 1;
                metrics::counter!(telemetry::GENERATOR_RETRIES).increment(1);
                tracing::warn!(%error, attempt = failures, "generation failed, retrying");
                tokio::time::sleep(backoff(failures, base, max)).await;
            }
        }
    }
}

//! The retriever: asks the search index, a bounded number of times at once, each under a deadline.
//!
//! Floor 2. Knows no query but its text, and no policy. A search that hangs or panics costs its
//! own caller a typed error and nobody else anything.

use crate::bounds::{Broken, Lanes, all_at_least_one, guarded};
use crate::ports::{self, SearchError, SearchIndex};
use crate::types::Candidate;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of the retriever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest search, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Searches at once, ≥ 1.
    pub concurrency: usize,
    /// Searches that may wait beyond that.
    pub queue_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { deadline_ms: 2_000, concurrency: 32, queue_max: 256 }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let concurrency = self.concurrency as u64;
        all_at_least_one(&[("deadline_ms", self.deadline_ms), ("concurrency", concurrency)])
    }
}

/// Why a search gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The index failed; another try may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The request is wrong.
    #[error("{0}")]
    Refused(String),
    /// The index took too long.
    #[error("search gave no result within its deadline")]
    Deadline,
    /// Too many searches wait already.
    #[error("retriever is overloaded")]
    Overloaded,
}

/// What the retriever understands.
#[derive(Debug)]
pub enum Message {
    /// Finds candidates.
    Search {
        /// What is searched for.
        search: ports::Search,
        /// Where the candidates go, best first.
        reply: RpcReplyPort<Result<Vec<Candidate>, Error>>,
    },
    /// A search is over (sent by itself).
    Finished(Finished),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// With candidates, perhaps none.
    Found,
    /// With an error.
    Failed,
}

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// The index.
    pub index: Arc<dyn SearchIndex>,
    /// Bounds.
    pub config: Config,
}

/// Counters since the last start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Searches asked for.
    pub requested: u64,
    /// Searches that gave candidates.
    pub found: u64,
    /// Searches that failed.
    pub failed: u64,
    /// Searches refused because too many waited.
    pub refused: u64,
    /// Searches running.
    pub running: usize,
    /// Searches waiting.
    pub waiting: usize,
}

/// The actor.
pub struct Retriever;

struct Search {
    search: ports::Search,
    reply: RpcReplyPort<Result<Vec<Candidate>, Error>>,
}

#[doc(hidden)]
pub struct State {
    args: Args,
    lanes: Lanes<Search>,
    counters: Observed,
}

impl Actor for Retriever {
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
            Message::Search { search, reply } => state.search(&myself, Search { search, reply }),
            Message::Finished(how) => state.finished(&myself, how),
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn search(&mut self, myself: &ActorRef<Message>, search: Search) {
        self.counters.requested += 1;
        match self.lanes.admit(search) {
            Ok(Some(search)) => self.run(myself, search),
            Ok(None) => {}
            Err(search) => {
                self.counters.refused += 1;
                // A caller that left needs no reply.
                let _ = search.reply.send(Err(Error::Overloaded));
            }
        }
    }

    fn run(&self, myself: &ActorRef<Message>, search: Search) {
        let (index, myself) = (Arc::clone(&self.args.index), myself.clone());
        let deadline = Duration::from_millis(self.args.config.deadline_ms);
        ractor::concurrency::spawn(async move {
            let Search { search, reply } = search;
            let found = guarded(deadline, async move { index.search(&search).await }).await;
            let result = match found {
                Ok(Ok(candidates)) => Ok(candidates),
                Ok(Err(error @ SearchError::Unavailable(_))) => {
                    Err(Error::Unavailable(error.to_string()))
                }
                Ok(Err(error @ SearchError::Refused(_))) => Err(Error::Refused(error.to_string())),
                Err(Broken::Deadline(_)) => Err(Error::Deadline),
                Err(Broken::Panicked) => Err(Error::Unavailable("the index panicked".to_owned())),
            };
            let how = if result.is_ok() { Finished::Found } else { Finished::Failed };
            let _ = reply.send(result);
            let _ = myself.send_message(Message::Finished(how));
        });
    }

    fn finished(&mut self, myself: &ActorRef<Message>, how: Finished) {
        match how {
            Finished::Found => self.counters.found += 1,
            Finished::Failed => self.counters.failed += 1,
        }
        if let Some(next) = self.lanes.finished(|search| !search.reply.is_closed()) {
            self.run(myself, next);
        }
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let (running, waiting) = (self.lanes.running(), self.lanes.waiting());
        let _ = reply.send(Observed { running, waiting, ..self.counters });
    }
}

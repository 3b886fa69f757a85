//! The replay buffer's actor: tails episodes and rewards, joins them, keeps what is worth learning.
//!
//! Floor 2. It commits the position of the oldest record it still needs, so that a restart rebuilds
//! its memory from the log. Knows no learner and no policy.

mod config;
mod memory;

use crate::bounds::entropy_seed;
use crate::ports::{Batch, Commit, EventLog, LogError, Stream};
use crate::replay::Dropped;
use crate::tail::{self, Consumer, Opened, Step, Stepped, Task, backoff};
use crate::telemetry;
use crate::types::PolicyStamp;
pub use config::Config;
use memory::Memory;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What the replay buffer understands.
pub enum Message {
    /// The log is open, or not (sent by itself).
    #[doc(hidden)]
    Opened(OpenedBox),
    /// A step on the log is over (sent by itself).
    #[doc(hidden)]
    Stepped(SteppedBox),
    /// Draws a batch.
    Sample {
        /// Most samples to train on.
        train_max: usize,
        /// Most held-out samples.
        holdout_max: usize,
        /// Where the batch goes.
        reply: RpcReplyPort<Batch>,
    },
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

#[doc(hidden)]
pub struct OpenedBox(Opened);
#[doc(hidden)]
pub struct SteppedBox(Stepped);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Where episodes and rewards are read.
    pub log: Arc<dyn EventLog>,
    /// Which weights serve: staleness is counted from there.
    pub serving: watch::Receiver<PolicyStamp>,
    /// Seed of sampling for this life of the actor.
    pub seed: Option<u64>,
    /// Bounds.
    pub config: Config,
}

/// Counters since the last start, and levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Judged episodes kept.
    pub samples: u64,
    /// Judged episodes taken in since the start.
    pub inserted: u64,
    /// What was dropped, by reason.
    pub dropped: Dropped,
    /// Episodes that wait for their reward.
    pub waiting_episodes: u64,
    /// Rewards that wait for their episode.
    pub waiting_rewards: u64,
    /// Waiting records that had to go because too many waited.
    pub waiting_dropped: u64,
    /// Verdicts that are no reward (abstained, expired).
    pub unrewarded: u64,
    /// Records that could not be read.
    pub broken: u64,
    /// Largest staleness among the samples, versions.
    pub staleness_max: u64,
    /// Whether the log was read to its end at least once since the start.
    pub is_caught_up: bool,
}

/// The actor.
pub struct ReplayBufferActor;

#[doc(hidden)]
pub struct State {
    args: Args,
    task: Option<Task>,
    log_failures: u32,
    rng: StdRng,
    memory: Memory,
}

impl Actor for ReplayBufferActor {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let rng = StdRng::seed_from_u64(args.seed.unwrap_or_else(entropy_seed));
        let memory = Memory::new(&args.config);
        let mut state = State { args, task: None, log_failures: 0, rng, memory };
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
            Message::Opened(opened) => state.opened(&myself, opened.0),
            Message::Stepped(stepped) => state.stepped(&myself, stepped.0),
            Message::Sample { train_max, holdout_max, reply } => {
                state.sample(train_max, holdout_max, reply);
            }
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn open(&mut self, myself: &ActorRef<Message>, delay: Duration) {
        const STREAMS: &[Stream] = &[Stream::Episodes, Stream::Rewards];
        let what = ("replay_buffer".to_owned(), STREAMS);
        self.task = Some(tail::open(myself, &self.args.log, what, delay, |opened| {
            Message::Opened(OpenedBox(opened))
        }));
    }

    fn opened(&mut self, myself: &ActorRef<Message>, opened: Opened) {
        match opened {
            Ok((consumer, _)) => self.step(myself, consumer, None, Duration::ZERO),
            Err(error) => {
                let delay = self.log_failed(&error);
                self.open(myself, delay);
            }
        }
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
                let serving = self.args.serving.borrow().version;
                self.memory.take_in(&records, serving);
                Duration::ZERO
            }
            Err(error) => self.log_failed(&error),
        };
        let commit = self.memory.take_commit();
        self.step(myself, consumer, commit, delay);
    }

    fn step(
        &mut self,
        myself: &ActorRef<Message>,
        consumer: Consumer,
        commit: Option<Commit>,
        delay: Duration,
    ) {
        let config = &self.args.config;
        let wait = Duration::from_millis(config.poll_wait_ms);
        let step = Step { consumer, commit, poll_max: config.poll_max, wait, delay };
        self.task = Some(tail::step(myself, step, |s| Message::Stepped(SteppedBox(s))));
    }

    fn sample(&mut self, train_max: usize, holdout_max: usize, reply: RpcReplyPort<Batch>) {
        let serving = self.args.serving.borrow().version;
        let batch = self.memory.sample((train_max, holdout_max), serving, &mut self.rng);
        // Whoever asked may have stopped waiting.
        let _ = reply.send(batch);
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let serving = self.args.serving.borrow().version;
        let _ = reply.send(self.memory.observed(serving));
    }

    fn log_failed(&mut self, error: &LogError) -> Duration {
        self.log_failures = self.log_failures.saturating_add(1);
        let (base, max) = (self.args.config.backoff_ms, self.args.config.backoff_max_ms);
        let (base, max) = (Duration::from_millis(base), Duration::from_millis(max));
        let delay = backoff(self.log_failures, base, max);
        telemetry::log_failed("replay_buffer", error, delay);
        delay
    }
}

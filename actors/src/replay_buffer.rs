//! The replay buffer's actor: tails episodes and rewards, joins them, keeps what is worth learning.
//!
//! Floor 2. It commits the position of the oldest record it still needs, so that a restart rebuilds
//! its memory from the log. Knows no learner and no policy.

mod config;
mod memory;

use crate::bounds::entropy_seed;
use crate::ports::{Batch, EventLog, Stream};
use crate::replay::Dropped;
use crate::tail::{self, Next, Share, Source, Task, Turn};
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
    /// A turn on the log (sent by itself).
    #[doc(hidden)]
    Turn(TurnBox),
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
pub struct TurnBox(Turn);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Where episodes and rewards are read.
    pub log: Arc<dyn EventLog>,
    /// Which weights serve: staleness is counted from there.
    pub serving: watch::Receiver<PolicyStamp>,
    /// Name of this process: each has a buffer of its own over all partitions.
    pub node: String,
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
    /// Decisions kept that got no reward.
    #[serde(default)]
    pub unanswered: u64,
    /// Decisions kept whose reward was replaced by a later one, or came late.
    #[serde(default)]
    pub revised: u64,
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
    _reading: Task,
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
        let source = Source {
            actor: "replay_buffer",
            log: Arc::clone(&args.log),
            name: format!("replay_buffer-{}", args.node),
            streams: &[Stream::Episodes, Stream::Rewards],
            share: Share::Alone { newest: Some(args.config.capacity as u64) },
            backoff_ms: (args.config.backoff_ms, args.config.backoff_max_ms),
        };
        let reading = tail::read(source, &myself, |turn| Message::Turn(TurnBox(turn)));
        Ok(State { args, _reading: reading, rng, memory })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Turn(turn) => state.turn(turn.0),
            Message::Sample { train_max, holdout_max, reply } => {
                state.sample(train_max, holdout_max, reply);
            }
            Message::Observe(reply) => state.observe(reply),
        }
        Ok(())
    }
}

impl State {
    fn turn(&mut self, mut turn: Turn) {
        let (_, records) = turn.take();
        let serving = self.args.serving.borrow().version;
        self.memory.take_in(&records, turn.is_current, serving);
        let config = &self.args.config;
        turn.go_on(Next {
            commits: self.memory.take_commit().into_iter().collect(),
            poll_max: config.poll_max,
            wait: Duration::from_millis(config.poll_wait_ms),
            ..Next::default()
        });
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
}

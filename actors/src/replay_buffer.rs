//! The replay buffer's actor: tails episodes and rewards, joins them, keeps what is worth learning.
//!
//! Floor 2. It commits the position of the oldest record it still needs, so that a restart rebuilds
//! its memory from the log. Knows no learner and no policy.

use crate::bounds::{all_at_least_one, entropy_seed};
use crate::ports::{Batch, Commit, EventLog, LogError, Record, Stream};
use crate::replay::{Bounds, Dropped, Inserted, ReplayBuffer};
use crate::tail::{self, Consumer, Opened, Origin, Step, Stepped, Task, Watermarks, backoff};
use crate::telemetry;
use crate::types::{
    DecisionId, Episode, Outcome, PolicyStamp, Reward, RewardRecord, Sample, Verdict,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Bounds of the replay buffer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Judged episodes kept, ≥ 1.
    pub capacity: usize,
    /// Episodes without a reward yet, and rewards without an episode yet, kept at most, ≥ 1 each.
    pub waiting_max: usize,
    /// Versions a sample may lag behind serving.
    pub staleness_max: u64,
    /// Share of queries held out for examinations, in [0, 1).
    pub holdout_fraction: f64,
    /// Metadata key whose value groups queries that must not straddle the split.
    pub holdout_key: String,
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
            capacity: 10_000,
            waiting_max: 10_000,
            staleness_max: 8,
            holdout_fraction: 0.2,
            holdout_key: "cluster".to_owned(),
            poll_max: 256,
            poll_wait_ms: 100,
            backoff_ms: 100,
            backoff_max_ms: 30_000,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.holdout_fraction) {
            return Err(format!("holdout_fraction: {} must lie in [0, 1)", self.holdout_fraction));
        }
        all_at_least_one(&[
            ("capacity", self.capacity as u64),
            ("waiting_max", self.waiting_max as u64),
            ("poll_max", self.poll_max as u64),
            ("poll_wait_ms", self.poll_wait_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
        ])
    }
}

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

/// All that is rebuilt from the log.
struct Memory {
    buffer: ReplayBuffer,
    episodes: Waiting<Episode>,
    rewards: Waiting<(Reward, Vec<String>)>,
    kept: BTreeMap<DecisionId, [Origin; 2]>,
    watermarks: Watermarks,
    committed: Vec<Origin>,
    counters: Observed,
}

/// One side of the join, oldest dropped first.
struct Waiting<T> {
    values: BTreeMap<DecisionId, (T, Origin)>,
    order: VecDeque<DecisionId>,
}

impl<T> Waiting<T> {
    fn new() -> Self {
        Self { values: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Keeps a value; gives the origins that are no longer needed.
    fn insert(&mut self, id: DecisionId, value: T, origin: Origin, max: usize) -> Vec<Origin> {
        let mut gone = Vec::new();
        match self.values.insert(id.clone(), (value, origin)) {
            Some((_, earlier)) => gone.push(earlier),
            None => self.order.push_back(id),
        }
        while self.values.len() > max {
            let Some(oldest) = self.order.pop_front() else { break };
            gone.extend(self.values.remove(&oldest).map(|(_, origin)| origin));
        }
        gone
    }

    fn remove(&mut self, id: &DecisionId) -> Option<(T, Origin)> {
        let found = self.values.remove(id)?;
        self.order.retain(|other| other != id);
        Some(found)
    }
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
                self.memory.counters.is_caught_up |= records.is_empty();
                let serving = self.args.serving.borrow().version;
                let gone = self.memory.buffer.expire(serving);
                self.memory.release(&gone);
                for record in &records {
                    self.memory.absorb(record, serving, self.args.config.waiting_max);
                }
                Duration::ZERO
            }
            Err(error) => self.log_failed(&error),
        };
        #[expect(clippy::cast_precision_loss, reason = "bounded by capacity")]
        telemetry::level(telemetry::REPLAY_SAMPLES, self.memory.buffer.len() as f64);
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
        let gone = self.memory.buffer.expire(serving);
        self.memory.release(&gone);
        // Whoever asked may have stopped waiting.
        let _ = reply.send(self.memory.buffer.sample(train_max, holdout_max, &mut self.rng));
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) {
        let serving = self.args.serving.borrow().version;
        let memory = &self.memory;
        let _ = reply.send(Observed {
            samples: memory.buffer.len() as u64,
            dropped: memory.buffer.dropped(),
            waiting_episodes: memory.episodes.values.len() as u64,
            waiting_rewards: memory.rewards.values.len() as u64,
            staleness_max: memory.buffer.staleness_max(serving),
            ..memory.counters
        });
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

impl Memory {
    fn new(config: &Config) -> Self {
        let bounds = Bounds {
            capacity: config.capacity,
            staleness_max: config.staleness_max,
            holdout_fraction: config.holdout_fraction,
            holdout_key: config.holdout_key.clone(),
        };
        Self {
            buffer: ReplayBuffer::new(bounds),
            episodes: Waiting::new(),
            rewards: Waiting::new(),
            kept: BTreeMap::new(),
            watermarks: Watermarks::default(),
            committed: Vec::new(),
            counters: Observed::default(),
        }
    }

    /// Takes in one record. The judge writes the dead letter of a broken episode; here it counts.
    fn absorb(&mut self, record: &Record, serving: crate::types::PolicyVersion, max: usize) {
        let origin = self.watermarks.hold(record);
        let unneeded = match record.stream {
            Stream::Rewards => match serde_json::from_slice(&record.payload) {
                Ok(reward) => self.reward(reward, origin, max),
                Err(_) => self.broken(origin),
            },
            _ => match serde_json::from_slice(&record.payload) {
                Ok(episode) => self.episode(episode, origin, max),
                Err(_) => self.broken(origin),
            },
        };
        unneeded.into_iter().for_each(|origin| self.watermarks.release(origin));
        if let Ok(id) = id_of(record) {
            self.join(&id, serving);
        }
    }

    fn broken(&mut self, origin: Origin) -> Vec<Origin> {
        self.counters.broken += 1;
        vec![origin]
    }

    fn episode(&mut self, episode: Episode, origin: Origin, max: usize) -> Vec<Origin> {
        let Some(id) = episode.decision_id().cloned() else { return vec![origin] };
        if matches!(episode.outcome, Outcome::Failed { .. }) || self.buffer.contains(&id) {
            return vec![origin];
        }
        let gone = self.episodes.insert(id, episode, origin, max);
        self.counters.waiting_dropped += gone.len() as u64;
        gone
    }

    fn reward(&mut self, record: RewardRecord, origin: Origin, max: usize) -> Vec<Origin> {
        let Verdict::Scored { reward } = record.verdict else {
            self.counters.unrewarded += 1;
            let waiting = self.episodes.remove(&record.decision_id);
            return waiting.map(|(_, origin)| origin).into_iter().chain([origin]).collect();
        };
        if self.buffer.contains(&record.decision_id) {
            return vec![origin];
        }
        let value = (reward, record.references);
        let gone = self.rewards.insert(record.decision_id, value, origin, max);
        self.counters.waiting_dropped += gone.len() as u64;
        gone
    }

    /// Makes a sample once both sides are there.
    fn join(&mut self, id: &DecisionId, serving: crate::types::PolicyVersion) {
        if !self.rewards.values.contains_key(id) {
            return;
        }
        let Some((episode, first)) = self.episodes.remove(id) else { return };
        let Some(((reward, references), second)) = self.rewards.remove(id) else { return };
        let before = self.buffer.dropped();
        let sample = Sample { episode, reward, references };
        let (inserted, gone) = self.buffer.insert(sample, serving);
        count_drops(before, self.buffer.dropped());
        if inserted == Inserted::Kept {
            self.counters.inserted += 1;
            self.kept.insert(id.clone(), [first, second]);
        } else {
            self.watermarks.release(first);
            self.watermarks.release(second);
        }
        self.release(&gone);
    }

    fn release(&mut self, gone: &[DecisionId]) {
        for origin in gone.iter().filter_map(|id| self.kept.remove(id)).flatten() {
            self.watermarks.release(origin);
        }
    }

    fn take_commit(&mut self) -> Option<Commit> {
        let positions = self.watermarks.positions();
        if positions == self.committed {
            return None;
        }
        self.committed.clone_from(&positions);
        Some(Commit { positions, ..Commit::default() })
    }
}

/// The decision a readable record is about.
fn id_of(record: &Record) -> Result<DecisionId, serde_json::Error> {
    #[derive(Deserialize)]
    struct Reference {
        decision_id: Option<DecisionId>,
        decision: Option<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        id: DecisionId,
    }
    let reference: Reference = serde_json::from_slice(&record.payload)?;
    let named = reference.decision.map(|decision| decision.id);
    Ok(reference.decision_id.or(named).unwrap_or_default())
}

fn count_drops(before: Dropped, after: Dropped) {
    let reasons = [
        ("duplicate", before.duplicate, after.duplicate),
        ("stale", before.stale, after.stale),
        ("overflow", before.overflow, after.overflow),
        ("untrainable", before.untrainable, after.untrainable),
    ];
    for (reason, _, _) in reasons.into_iter().filter(|(_, before, after)| after > before) {
        telemetry::count(telemetry::REPLAY_DROPPED, "reason", reason);
    }
}

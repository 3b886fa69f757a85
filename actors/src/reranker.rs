//! The reranker: owns the policy, decides in batches, and swaps weights between two batches.
//!
//! Floor 2. Knows no retriever and no learner. While the model computes, requests collect and are
//! then decided together. A model that panics or hangs cannot be trusted: the actor restarts with
//! a fresh model and the last weights that swapped well; callers' slots repeat their requests.

use crate::bounds::{Broken, all_at_least_one, guarded};
use crate::compute::{Compute, ComputeError, ComputeMode};
use crate::ports::{DecideRequest, Policy, PolicyError};
use crate::telemetry;
use crate::types::{
    Candidate, Decision, DecisionId, Document, Exploration, PolicySnapshot, PolicyStamp, Query,
    SelectionLimits,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Bounds of the reranker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most queries decided in one pass, ≥ 1.
    pub batch_max: usize,
    /// Queries that may wait for the next pass, ≥ 1.
    pub queue_max: usize,
    /// Longest wait of a caller for its decision, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Longest pass, load or swap; the model is given up after it, milliseconds, ≥ 1.
    pub compute_deadline_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch_max: 8, queue_max: 256, deadline_ms: 5_000, compute_deadline_ms: 30_000 }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        all_at_least_one(&[
            ("batch_max", self.batch_max as u64),
            ("queue_max", self.queue_max as u64),
            ("deadline_ms", self.deadline_ms),
            ("compute_deadline_ms", self.compute_deadline_ms),
        ])
    }
}

/// Makes a serving policy; called at each start of the actor, on the compute thread.
pub type PolicyFactory = Arc<dyn Fn() -> Result<Box<dyn Policy>, PolicyError> + Send + Sync>;

/// Why there is no decision, or no swap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request cannot be decided.
    #[error("{0}")]
    Refused(String),
    /// The model failed on it.
    #[error("{0}")]
    Model(String),
    /// The weights do not fit; the old ones serve on.
    #[error("{0}")]
    Snapshot(String),
    /// Too many requests wait already.
    #[error("reranker is overloaded")]
    Overloaded,
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Self {
        match &error {
            PolicyError::Refused(_) => Self::Refused(error.to_string()),
            PolicyError::Model(_) => Self::Model(error.to_string()),
            PolicyError::Snapshot { .. } => Self::Snapshot(error.to_string()),
        }
    }
}

/// What the reranker understands.
#[derive(Debug)]
pub enum Message {
    /// Decides one query.
    Decide(Box<DecideRequest>, RpcReplyPort<Result<Decision, Error>>),
    /// Replaces the weights between two batches.
    Swap(Arc<PolicySnapshot>, RpcReplyPort<Result<PolicyStamp, Error>>),
    /// Makes a real forward pass.
    Probe(RpcReplyPort<Result<Decision, Error>>),
    /// The model is there, or not (sent by itself).
    Loaded(Result<PolicyStamp, String>),
    /// A batch is over (sent by itself).
    Decided(Vec<RpcReplyPort<Result<Decision, Error>>>, Result<Results, String>),
    /// A swap is over (sent by itself).
    Swapped(Arc<PolicySnapshot>, SwapReply, Result<Result<PolicyStamp, Error>, String>),
    /// Asks for the counters.
    Observe(RpcReplyPort<Observed>),
}

/// One result a request, in order.
pub type Results = Vec<Result<Decision, Error>>;

/// The port a swap answers on, and when the swap began.
pub type SwapReply = (RpcReplyPort<Result<PolicyStamp, Error>>, Instant);

/// What the actor is made of.
#[derive(Clone)]
pub struct Args {
    /// Makes the policy.
    pub factory: PolicyFactory,
    /// Where the model runs.
    pub compute: ComputeMode,
    /// Seed of exploration for this life of the actor.
    pub seed: u64,
    /// Tells everyone which weights serve.
    pub serving: watch::Sender<PolicyStamp>,
    /// The last weights that swapped well; outlives the actor.
    pub adopted: watch::Sender<Option<Arc<PolicySnapshot>>>,
    /// Bounds.
    pub config: Config,
}

/// Counters since the last start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Whether the model is loaded.
    pub is_loaded: bool,
    /// Weights in use.
    pub policy: PolicyStamp,
    /// Decisions asked for.
    pub requested: u64,
    /// Decisions made.
    pub decided: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests refused because too many waited.
    pub refused: u64,
    /// Passes of the model.
    pub batches: u64,
    /// Largest batch.
    pub batch_largest: usize,
    /// Swaps done.
    pub swaps: u64,
    /// Swaps refused.
    pub swaps_refused: u64,
    /// Duration of the last swap, milliseconds.
    pub swap_last_ms: f64,
    /// Requests waiting.
    pub waiting: usize,
}

/// The actor.
pub struct Reranker;

struct Model {
    policy: Option<Box<dyn Policy>>,
    rng: StdRng,
}

type Waiting = (Box<DecideRequest>, RpcReplyPort<Result<Decision, Error>>);

#[doc(hidden)]
pub struct State {
    args: Args,
    compute: Compute<Model>,
    is_busy: bool,
    waiting: VecDeque<Waiting>,
    swaps: VecDeque<(Arc<PolicySnapshot>, RpcReplyPort<Result<PolicyStamp, Error>>)>,
    counters: Observed,
}

impl Actor for Reranker {
    type Msg = Message;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let model = Model { policy: None, rng: StdRng::seed_from_u64(args.seed) };
        let compute = Compute::start("reranker", args.compute, 2, model)?;
        let state = State {
            args,
            compute,
            is_busy: true,
            waiting: VecDeque::new(),
            swaps: VecDeque::new(),
            counters: Observed::default(),
        };
        state.load(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Decide(request, reply) => state.decide((request, reply)),
            Message::Probe(reply) => state.waiting.push_back((Box::new(probe()), reply)),
            Message::Swap(snapshot, reply) => state.swaps.push_back((snapshot, reply)),
            Message::Loaded(result) => state.loaded(result?),
            Message::Decided(replies, results) => state.decided(replies, results?)?,
            Message::Swapped(snapshot, reply, result) => state.swapped(snapshot, reply, result?),
            Message::Observe(reply) => return state.observe(reply),
        }
        state.next(&myself);
        Ok(())
    }
}

impl State {
    fn decide(&mut self, waiting: Waiting) {
        self.counters.requested += 1;
        if self.waiting.len() >= self.args.config.queue_max {
            self.counters.refused += 1;
            // A caller that left needs no reply.
            let _ = waiting.1.send(Err(Error::Overloaded));
        } else {
            self.waiting.push_back(waiting);
        }
    }

    /// Starts the next piece of work if the model is free: a swap first, then a batch.
    fn next(&mut self, myself: &ActorRef<Message>) {
        if self.is_busy {
            return;
        }
        if let Some((snapshot, reply)) = self.swaps.pop_front() {
            return self.swap(myself, snapshot, reply);
        }
        let mut batch = (Vec::new(), Vec::new());
        while batch.0.len() < self.args.config.batch_max {
            let Some((request, reply)) = self.waiting.pop_front() else { break };
            // A caller whose deadline passed is not worth a forward pass.
            if !reply.is_closed() {
                batch.0.push(*request);
                batch.1.push(reply);
            }
        }
        if !batch.0.is_empty() {
            self.pass(myself, batch.0, batch.1);
        }
    }

    fn load(&self, myself: &ActorRef<Message>) {
        let factory = Arc::clone(&self.args.factory);
        let adopted = self.args.adopted.borrow().clone();
        let work = move |model: &mut Model| {
            let mut policy = factory().map_err(|error| error.to_string())?;
            if let Some(snapshot) = adopted
                && let Err(error) = policy.swap(&snapshot)
            {
                telemetry::policy_refused(snapshot.version.0, &error);
            }
            let stamp = policy.stamp();
            model.policy = Some(policy);
            Ok(stamp)
        };
        let myself = myself.clone();
        self.compute(work, move |result| {
            let _ = myself.send_message(Message::Loaded(result.and_then(|loaded| loaded)));
        });
    }

    fn loaded(&mut self, stamp: PolicyStamp) {
        self.is_busy = false;
        self.counters.is_loaded = true;
        self.counters.policy = stamp.clone();
        self.args.serving.send_replace(stamp);
    }

    fn pass(
        &mut self,
        myself: &ActorRef<Message>,
        requests: Vec<DecideRequest>,
        replies: Vec<RpcReplyPort<Result<Decision, Error>>>,
    ) {
        self.is_busy = true;
        self.counters.batches += 1;
        self.counters.batch_largest = self.counters.batch_largest.max(requests.len());
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        telemetry::observe(telemetry::DECIDE_BATCH, requests.len() as f64);
        let work = move |model: &mut Model| match model.policy.as_mut() {
            None => Vec::new(),
            Some(policy) => policy
                .decide(&requests, &mut model.rng)
                .into_iter()
                .map(|result| result.map_err(Error::from))
                .collect(),
        };
        let myself = myself.clone();
        self.compute(work, move |results| {
            let _ = myself.send_message(Message::Decided(replies, results));
        });
    }

    fn decided(
        &mut self,
        replies: Vec<RpcReplyPort<Result<Decision, Error>>>,
        results: Results,
    ) -> Result<(), ActorProcessingErr> {
        self.is_busy = false;
        if results.len() != replies.len() {
            let (asked, given) = (replies.len(), results.len());
            return Err(format!("policy decided {given} of {asked} requests").into());
        }
        for (reply, result) in replies.into_iter().zip(results) {
            match &result {
                Ok(_) => self.counters.decided += 1,
                Err(_) => self.counters.failed += 1,
            }
            let _ = reply.send(result);
        }
        Ok(())
    }

    fn swap(
        &mut self,
        myself: &ActorRef<Message>,
        snapshot: Arc<PolicySnapshot>,
        reply: RpcReplyPort<Result<PolicyStamp, Error>>,
    ) {
        if self.counters.policy.digest == snapshot.digest
            && self.counters.policy.version == snapshot.version
        {
            // The learner and the follower both announce a version; the second is no swap.
            let _ = reply.send(Ok(self.counters.policy.clone()));
            return self.next(myself);
        }
        self.is_busy = true;
        let (began, weights) = (Instant::now(), Arc::clone(&snapshot));
        let work = move |model: &mut Model| match model.policy.as_mut() {
            None => Err(Error::Model("policy is not loaded".to_owned())),
            Some(policy) => match policy.swap(&weights) {
                Ok(()) => Ok(policy.stamp()),
                Err(error) => Err(Error::from(error)),
            },
        };
        let myself = myself.clone();
        self.compute(work, move |result| {
            let _ = myself.send_message(Message::Swapped(snapshot, (reply, began), result));
        });
    }

    fn swapped(
        &mut self,
        snapshot: Arc<PolicySnapshot>,
        (reply, began): SwapReply,
        result: Result<PolicyStamp, Error>,
    ) {
        self.is_busy = false;
        match &result {
            Ok(stamp) => {
                let took = began.elapsed();
                telemetry::policy_swapped(stamp.version.0, took);
                self.counters.swaps += 1;
                self.counters.swap_last_ms = took.as_secs_f64() * 1e3;
                self.counters.policy = stamp.clone();
                self.args.serving.send_replace(stamp.clone());
                self.args.adopted.send_replace(Some(snapshot));
            }
            Err(error) => {
                telemetry::policy_refused(snapshot.version.0, error);
                self.counters.swaps_refused += 1;
            }
        }
        let _ = reply.send(result);
    }

    /// Runs work on the model in a task; `done` gets the result, or why the model is lost.
    fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Model) -> T + Send + 'static,
        done: impl FnOnce(Result<T, String>) + Send + 'static,
    ) {
        let compute = self.compute.clone();
        let deadline = Duration::from_millis(self.args.config.compute_deadline_ms);
        ractor::concurrency::spawn(async move {
            let over = guarded(deadline, async move { compute.run(work).await }).await;
            done(lost_or(over));
        });
    }

    fn observe(&self, reply: RpcReplyPort<Observed>) -> Result<(), ActorProcessingErr> {
        let _ = reply.send(Observed { waiting: self.waiting.len(), ..self.counters.clone() });
        Ok(())
    }
}

fn lost_or<T>(over: Result<Result<T, ComputeError>, Broken>) -> Result<T, String> {
    match over {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("policy model is lost: {error}")),
        Err(broken) => Err(format!("policy model is lost: {broken}")),
    }
}

/// The request of a readiness check: one query, one candidate, no chance.
fn probe() -> DecideRequest {
    let text = "is the policy ready".to_owned();
    let document = Document { id: "probe".into(), title: String::new(), text: text.clone() };
    DecideRequest {
        id: DecisionId::from("probe"),
        query: Query { text, ..Query::default() },
        candidates: vec![Candidate { document, score: 1.0, rank: 0 }],
        limits: SelectionLimits { k_min: 1, k_max: 1, token_budget: 512 },
        exploration: Exploration::Greedy,
    }
}

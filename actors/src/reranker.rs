//! The reranker: owns the policy, decides in batches, and swaps weights between two batches.
//!
//! Floor 2. Knows no retriever and no learner. While the model computes, requests collect and are
//! then decided together. A policy that panics cannot be trusted: it is made anew with the last
//! weights that swapped well, and each request of that batch is asked alone, so that the one which
//! panics again costs only itself. One that hangs, or cannot be made, takes the actor with it; the
//! supervisor restarts it and callers' slots repeat their requests.

mod config;
mod messages;
mod model;
mod probe;

use crate::bounds::{Broken, guarded};
use crate::compute::{Compute, ComputeError, ComputeMode};
use crate::ports::{DecideRequest, Policy, PolicyError};
use crate::telemetry;
use crate::types::{PolicySnapshot, PolicyStamp, PolicyVersion};
pub use config::Config;
pub use messages::{Error, Message, Observed, Results};
use messages::{Pass, PassBox, Reply, SwapBox, SwapOver, SwapReply};
use model::Model;
use probe::probe;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Makes a serving policy; called at each start and after a panic, on the compute thread.
pub type PolicyFactory = Arc<dyn Fn() -> Result<Box<dyn Policy>, PolicyError> + Send + Sync>;

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
    /// Candidates hosted beside the champion; outlives the actor.
    pub hosted: watch::Sender<Vec<Arc<PolicySnapshot>>>,
    /// Bounds.
    pub config: Config,
}

/// The actor.
pub struct Reranker;

/// A change of weights that waits for the model.
enum Change {
    /// Other weights, for the champion's place or beside it.
    Take { snapshot: Arc<PolicySnapshot>, is_champion: bool, reply: SwapReply },
    /// Fewer candidates: these are left.
    KeepOnly(Vec<PolicyVersion>),
    /// One candidate less; who is told once that is so.
    Forget(PolicyVersion, RpcReplyPort<()>),
}

type Waiting = (Box<DecideRequest>, Reply);

#[doc(hidden)]
pub struct State {
    args: Args,
    compute: Compute<Model>,
    is_busy: bool,
    waiting: VecDeque<Waiting>,
    /// In a pass that panicked; each is asked alone. At most one batch.
    suspects: VecDeque<(DecideRequest, Reply)>,
    changes: VecDeque<Change>,
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
        let compute = Compute::start("reranker", args.compute, 2, Model::new(args.seed))?;
        let mut state = State {
            args,
            compute,
            is_busy: true,
            waiting: VecDeque::new(),
            suspects: VecDeque::new(),
            changes: VecDeque::new(),
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
            Message::Probe(reply) => state.decide((Box::new(probe()), reply)),
            Message::Swap(snapshot, reply) => {
                state.changes.push_back(Change::Take { snapshot, is_champion: true, reply });
            }
            Message::Host(snapshot, reply) => {
                state.changes.push_back(Change::Take { snapshot, is_champion: false, reply });
            }
            Message::KeepOnly(versions) => state.changes.push_back(Change::KeepOnly(versions)),
            Message::Forget(version, told) => {
                state.changes.push_back(Change::Forget(version, told));
            }
            Message::Loaded(result) => state.loaded(result?),
            Message::Decided(over) => {
                let (pass, results) = (*over.0)?;
                state.decided(&myself, pass, results);
            }
            Message::Swapped(over) => state.swapped(&myself, *over.0)?,
            Message::Kept(hosted) => {
                state.is_busy = false;
                state.counters.hosted = hosted?;
            }
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

    /// Starts the next piece of work if the model is free: a swap first, then a suspect alone,
    /// then a batch.
    fn next(&mut self, myself: &ActorRef<Message>) {
        if self.is_busy {
            return;
        }
        match self.changes.pop_front() {
            Some(Change::Take { snapshot, is_champion, reply }) => {
                return self.take(myself, (snapshot, is_champion), reply);
            }
            Some(Change::KeepOnly(versions)) => return self.keep_only(myself, versions, None),
            Some(Change::Forget(version, told)) => {
                let kept = self.args.hosted.borrow().clone();
                let kept = kept.iter().map(|s| s.version).filter(|other| *other != version);
                return self.keep_only(myself, kept.collect(), Some(told));
            }
            None => {}
        }
        // A caller whose deadline passed is not worth a forward pass.
        while let Some((request, reply)) = self.suspects.pop_front() {
            if !reply.is_closed() {
                let (requests, replies) = (vec![request], vec![reply]);
                return self.pass(myself, Pass { requests, replies, is_again: true });
            }
        }
        let mut pass = Pass { requests: Vec::new(), replies: Vec::new(), is_again: false };
        // One set of weights decides a batch: what asks for others stays in line.
        let mut others = VecDeque::new();
        while pass.requests.len() < self.args.config.batch_max {
            let Some((request, reply)) = self.waiting.pop_front() else { break };
            let first = pass.requests.first();
            if reply.is_closed() {
                continue;
            } else if first.is_some_and(|first| first.policy != request.policy) {
                others.push_back((request, reply));
            } else {
                pass.requests.push(*request);
                pass.replies.push(reply);
            }
        }
        others.append(&mut self.waiting);
        self.waiting = others;
        if !pass.requests.is_empty() {
            self.pass(myself, pass);
        }
    }

    /// Makes the policy, at the start and after a panic.
    fn load(&mut self, myself: &ActorRef<Message>) {
        self.is_busy = true;
        self.counters.is_loaded = false;
        let args = self.args.clone();
        let myself = myself.clone();
        self.compute(
            move |model| model.load(&args),
            move |result| {
                // A dead actor needs no message.
                let _ = myself.send_message(Message::Loaded(result.and_then(|loaded| loaded)));
            },
        );
    }

    fn loaded(&mut self, stamp: PolicyStamp) {
        self.is_busy = false;
        self.counters.is_loaded = true;
        self.counters.policy = stamp.clone();
        self.args.serving.send_replace(stamp);
    }

    fn pass(&mut self, myself: &ActorRef<Message>, pass: Pass) {
        self.is_busy = true;
        self.counters.batches += 1;
        self.counters.batch_largest = self.counters.batch_largest.max(pass.requests.len());
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        telemetry::observe(telemetry::DECIDE_BATCH, pass.requests.len() as f64);
        let myself = myself.clone();
        self.compute(
            move |model| {
                let results = model.decide(&pass.requests);
                (pass, results)
            },
            move |over| {
                let _ = myself.send_message(Message::Decided(PassBox(Box::new(over))));
            },
        );
    }

    fn decided(
        &mut self,
        myself: &ActorRef<Message>,
        pass: Pass,
        results: Result<Results, String>,
    ) {
        self.is_busy = false;
        let results = match results {
            Ok(results) => results,
            Err(reason) => {
                self.panicked(myself, "decide", &reason);
                if !pass.is_again {
                    self.suspects.extend(pass.requests.into_iter().zip(pass.replies));
                    return;
                }
                pass.requests.iter().map(|_| Err(Error::Panicked(reason.clone()))).collect()
            }
        };
        for (reply, result) in pass.replies.into_iter().zip(results) {
            match &result {
                Ok(_) => self.counters.decided += 1,
                Err(_) => self.counters.failed += 1,
            }
            let _ = reply.send(result);
        }
    }

    fn panicked(&mut self, myself: &ActorRef<Message>, doing: &'static str, reason: &str) {
        self.counters.panics += 1;
        telemetry::policy_panicked(doing, reason);
        self.load(myself);
    }

    fn take(
        &mut self,
        myself: &ActorRef<Message>,
        (snapshot, is_champion): (Arc<PolicySnapshot>, bool),
        reply: SwapReply,
    ) {
        let stamp = PolicyStamp { version: snapshot.version, digest: snapshot.digest.clone() };
        let is_there = if is_champion {
            // The learner and the follower both announce a version; the second is no swap.
            self.counters.policy == stamp
        } else {
            self.args.hosted.borrow().iter().any(|c| c.digest == stamp.digest)
                && self.counters.hosted.contains(&stamp.version)
        };
        if is_there {
            let _ = reply.send(Ok(stamp));
            return self.next(myself);
        }
        self.is_busy = true;
        let (began, weights, myself) = (Instant::now(), Arc::clone(&snapshot), myself.clone());
        let args = self.args.clone();
        self.compute(
            move |model| {
                if is_champion { model.swap(&weights) } else { model.host(&args, &weights) }
            },
            move |result| {
                let over = SwapOver { is_champion, snapshot, reply, began, result };
                let _ = myself.send_message(Message::Swapped(SwapBox(Box::new(over))));
            },
        );
    }

    fn keep_only(
        &mut self,
        myself: &ActorRef<Message>,
        versions: Vec<PolicyVersion>,
        told: Option<RpcReplyPort<()>>,
    ) {
        self.args.hosted.send_modify(|hosted| hosted.retain(|c| versions.contains(&c.version)));
        self.is_busy = true;
        let myself = myself.clone();
        self.compute(
            move |model| {
                model.keep_only(&versions);
                model.hosted()
            },
            move |result| {
                let told = told.filter(|_| result.is_ok());
                let _ = myself.send_message(Message::Kept(result));
                let _ = told.map(|told| told.send(()));
            },
        );
    }

    fn swapped(&mut self, myself: &ActorRef<Message>, over: SwapOver) -> Result<(), String> {
        self.is_busy = false;
        let SwapOver { is_champion, snapshot, reply, began, result } = over;
        let result = result?.unwrap_or_else(|reason| {
            if is_champion {
                self.panicked(myself, "swap", &reason);
            }
            Err(Error::Snapshot(format!("policy panicked on {}: {reason}", snapshot.version)))
        });
        match &result {
            Ok(stamp) if is_champion => {
                let took = began.elapsed();
                telemetry::policy_swapped(stamp.version.0, took);
                self.counters.swaps += 1;
                self.counters.swap_last_ms = took.as_secs_f64() * 1e3;
                self.counters.policy = stamp.clone();
                self.args.serving.send_replace(stamp.clone());
                self.args.adopted.send_replace(Some(snapshot));
            }
            Ok(stamp) => {
                tracing::info!(version = %stamp.version, "candidate hosted beside the champion");
                self.args.hosted.send_modify(|hosted| {
                    hosted.retain(|other| other.version != stamp.version);
                    hosted.push(snapshot);
                });
                self.counters.hosted.retain(|version| *version != stamp.version);
                self.counters.hosted.push(stamp.version);
            }
            Err(error) => {
                telemetry::policy_refused(snapshot.version.0, error);
                self.counters.swaps_refused += 1;
            }
        }
        let _ = reply.send(result);
        Ok(())
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
        let waiting = self.waiting.len() + self.suspects.len();
        let _ = reply.send(Observed { waiting, ..self.counters.clone() });
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

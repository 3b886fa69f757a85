//! The whole service behind one handle: the supervision tree, the one door, readiness and drain.
//!
//! Floor 4. Knows the actors and the ports, no adapter, no wire and no file.

mod children;
mod config;
mod core;
mod door;
mod errors;
mod feedback;
mod operator;
mod reports;
mod supervisor;

use self::core::Core;
use crate::clock::Clock;
pub use crate::episode::Failure;
pub use crate::learner::{LearnerFactory, UpdateOutcome};
use crate::ports::{EventLog, Generator, Judge, Rewriter, Seal, SearchIndex, SnapshotStore};
pub use crate::promoter::ExaminerFactory;
pub use crate::reranker::PolicyFactory;
use crate::slot::{Slot, SlotError};
use crate::types::{Exploration, PolicySnapshot, PolicyStamp, Query, SelectionLimits};
pub use crate::types::{Ranked, Served};
use crate::{
    generator, intake, judge, learner, policy_follower, promoter, replay_buffer, reranker,
    retriever, shadow,
};
pub use config::{AdmissionConfig, Roles, ServiceConfig, SupervisionConfig};
pub use door::DoorObserved;
pub use errors::{FeedbackError, OperatorError, ServiceError, StartError};
pub use feedback::{FeedbackConfig, KnownDecision, Receipt, Standing};
pub use operator::RolledBack;
use ractor::{Actor, ActorRef, RpcReplyPort};
pub use reports::{Drained, Exploring, Observed, Readiness};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
pub use supervisor::{ChildState, ChildStatus};
use tokio::time::{Instant, timeout};

/// Everything outside the actors, handed in by the wiring.
#[derive(Clone)]
pub struct Ports {
    /// Where documents are found.
    pub index: Arc<dyn SearchIndex>,
    /// What answers.
    pub generator: Arc<dyn Generator>,
    /// What judges.
    pub judge: Arc<dyn Judge>,
    /// What proposes other texts to search with, if anything does.
    pub rewriter: Option<Arc<dyn Rewriter>>,
    /// The only memory.
    pub log: Arc<dyn EventLog>,
    /// Where weights are kept.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Makes a serving policy; called again after a crash.
    pub policy: PolicyFactory,
    /// Makes a learner; called again after a crash.
    pub learner: LearnerFactory,
    /// Makes an examiner; called again after a crash.
    pub examiner: ExaminerFactory,
    /// Signs certificates, and knows whose signatures count.
    pub seal: Arc<dyn Seal>,
    /// The weights before anything was learned, as `policy` makes them at first.
    pub first: Arc<PolicySnapshot>,
    /// Stamps of records; `Clock::System` in production.
    pub clock: Clock,
}

/// What one caller asks for beyond the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Limits of the selection.
    pub limits: Option<SelectionLimits>,
    /// How to draw.
    pub exploration: Option<Exploration>,
    /// Documents asked of the index.
    pub top_n: Option<usize>,
}

/// Longest wait for one actor's counters or probe.
const OBSERVE_DEADLINE: Duration = Duration::from_secs(2);

/// Starts services.
pub struct Service;

impl Service {
    /// Checks the configuration and starts the children of its roles.
    pub async fn start(ports: Ports, config: ServiceConfig) -> Result<ServiceHandle, StartError> {
        config.validate().map_err(StartError::Config)?;
        let core = Arc::new(Core::new(ports, config));
        let args = supervisor::Args {
            children: children::of(&core),
            seed: core.seed,
            config: core.config.supervision,
        };
        let spawned = supervisor::Supervisor::spawn(None, supervisor::Supervisor, args).await;
        let (supervisor, _) = spawned.map_err(|error| StartError::Children(error.to_string()))?;
        Ok(ServiceHandle(Arc::new(Inner { core, supervisor })))
    }
}

struct Inner {
    core: Arc<Core>,
    supervisor: ActorRef<supervisor::Message>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.supervisor.stop(None);
    }
}

/// A running service. Cheap to clone; it stops when the last clone is dropped (prefer `drain`).
#[derive(Clone)]
pub struct ServiceHandle(Arc<Inner>);

impl ServiceHandle {
    /// Answers a query. Dropping the future abandons the reply, not the query.
    pub async fn answer(&self, query: Query, ask: Overrides) -> Result<Served, ServiceError> {
        Arc::clone(&self.0.core).serve(query, ask, false).await
    }

    /// Orders the query's own candidates; nothing is retrieved or generated.
    pub async fn rerank(&self, query: Query, ask: Overrides) -> Result<Served, ServiceError> {
        Arc::clone(&self.0.core).serve(query, ask, true).await
    }

    /// Counters of everything that runs here.
    pub async fn observe(&self) -> Observed {
        let core = &self.0.core;
        let context = &core.context;
        Observed {
            door: core.door.observe(),
            policy: self.policy(),
            children: self.children().await,
            retriever: ask(&context.retriever, retriever::Message::Observe).await,
            reranker: ask(&context.reranker, reranker::Message::Observe).await,
            generator: ask(&context.generator, generator::Message::Observe).await,
            judge: ask(&core.judge, judge::Message::Observe).await,
            replay_buffer: ask(&core.replay_buffer, replay_buffer::Message::Observe).await,
            learner: ask(&core.learner, learner::Message::Observe).await,
            policy_follower: ask(&core.policy_follower, policy_follower::Message::Observe).await,
            intake: ask(&core.intake, intake::Message::Observe).await,
            shadow: ask(&context.experiments.shadow, shadow::Message::Observe).await,
            promoter: ask(&core.promoter, promoter::Message::Observe).await,
            exploration: core.exploration(),
        }
    }

    /// Whether all children are up, the last champion serves, and a forward pass succeeds.
    pub async fn ready(&self) -> Readiness {
        let core = &self.0.core;
        let mut reasons = Vec::new();
        let children = self.children().await;
        if children.is_empty() {
            reasons.push("the supervisor does not reply".to_owned());
        }
        // Shadows serve nobody, so nobody is served worse without them.
        let matters = |child: &&ChildStatus| child.name != "shadow";
        let down = |child: &&ChildStatus| child.state != ChildState::Up;
        for child in children.iter().filter(matters).filter(down) {
            reasons.push(match &child.state {
                ChildState::GivenUp { reason } => format!("{} is down: {reason}", child.name),
                _ => format!("{} is not up", child.name),
            });
        }
        if core.config.roles.serve {
            match ask(&core.policy_follower, policy_follower::Message::Observe).await {
                Some(observed) if observed.is_caught_up => {}
                _ => reasons.push("the last champion does not serve yet".to_owned()),
            }
            let deadline = Instant::now() + OBSERVE_DEADLINE;
            match core.context.reranker.call(reranker::Message::Probe, deadline).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => reasons.push(format!("forward pass failed: {error}")),
                Err(error) => reasons.push(format!("forward pass failed: {error}")),
            }
        }
        Readiness { ready: reasons.is_empty(), reasons }
    }

    /// Which weights serve.
    pub fn policy(&self) -> PolicyStamp {
        self.0.core.serving.borrow().clone()
    }

    /// Forces an update and waits for its outcome.
    pub async fn trigger_update(&self, wait: Duration) -> Result<UpdateOutcome, ServiceError> {
        let learner = &self.0.core.learner;
        let outcome = learner.call(learner::Message::Trigger, Instant::now() + wait).await;
        outcome.map_err(|error| match error {
            SlotError::Down(..) => ServiceError::NotServing(error.to_string()),
            error => ServiceError::Failed {
                stage: "learn",
                timed_out: matches!(error, SlotError::Deadline(_)),
                reason: error.to_string(),
            },
        })
    }

    /// Stops admitting, finishes what is in flight, lets the judge flush, stops the children in
    /// order. What is not over after `wait` is abandoned to the log.
    pub async fn drain(&self, wait: Duration) -> Drained {
        let deadline = Instant::now() + wait;
        let core = &self.0.core;
        let left = || deadline.saturating_duration_since(Instant::now());
        let is_fed = core.config.roles.serve && core.config.intake.enabled;
        // What it has in hand it answers, so that nobody else answers it again.
        let mut clean = !is_fed || core.intake.call(intake::Message::Drain, deadline).await.is_ok();
        clean &= self.stop("intake", left()).await;
        core.door.close();
        clean &= core.door.emptied(left()).await;
        let abandoned = core.door.observe().in_flight;
        clean &= self.stop("promoter", left()).await;
        clean &= self.stop("learner", left()).await;
        let judge_flushed = !core.config.roles.judge
            || core.judge.call(judge::Message::Flush, deadline).await.is_ok();
        for name in [
            "judge",
            "replay_buffer",
            "policy_follower",
            "shadow",
            "generator",
            "reranker",
            "retriever",
        ] {
            clean &= self.stop(name, left()).await;
        }
        self.0.supervisor.stop(None);
        Drained { clean: clean && judge_flushed && abandoned == 0, abandoned, judge_flushed }
    }

    async fn stop(&self, name: &'static str, wait: Duration) -> bool {
        let (reply, gone) = tokio::sync::oneshot::channel();
        let message = supervisor::Message::Stop(name, RpcReplyPort::from(reply));
        self.0.supervisor.send_message(message).is_ok()
            && matches!(timeout(wait, gone).await, Ok(Ok(())))
    }

    async fn children(&self) -> Vec<ChildStatus> {
        let (reply, status) = tokio::sync::oneshot::channel();
        let message = supervisor::Message::Status(RpcReplyPort::from(reply));
        if self.0.supervisor.send_message(message).is_err() {
            return Vec::new();
        }
        timeout(OBSERVE_DEADLINE, status).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Kills a child by its name, as a fault would: for tests and simulations.
    #[cfg(feature = "fakes")]
    pub fn kill_child(&self, name: &str) {
        // A supervisor that is gone has no children to kill.
        let _ = self.0.supervisor.send_message(supervisor::Message::Kill(name.to_owned()));
    }
}

async fn ask<M, T>(slot: &Slot<M>, build: fn(RpcReplyPort<T>) -> M) -> Option<T>
where
    M: ractor::Message,
    T: Send + 'static,
{
    slot.call(build, Instant::now() + OBSERVE_DEADLINE).await.ok()
}

//! What the service says of itself: readiness, the end of a drain, all counters.

use super::{ChildStatus, DoorObserved};
use crate::types::PolicyStamp;
use crate::{
    generator, intake, judge, learner, policy_follower, promoter, replay_buffer, reranker,
    retriever, shadow,
};
use serde::{Deserialize, Serialize};

/// Whether the service may be sent traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether it may.
    pub ready: bool,
    /// Why not; empty when ready.
    pub reasons: Vec<String>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Whether everything came to its end within the deadline.
    pub clean: bool,
    /// Queries that were still in flight.
    pub abandoned: u64,
    /// Whether the judge had read and written everything (true where it is not run).
    pub judge_flushed: bool,
}

/// Counters of everything; `None` for what is not run here or does not reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The door.
    pub door: DoorObserved,
    /// Which weights serve.
    pub policy: PolicyStamp,
    /// The children.
    pub children: Vec<ChildStatus>,
    /// The retriever.
    pub retriever: Option<retriever::Observed>,
    /// The reranker.
    pub reranker: Option<reranker::Observed>,
    /// The generator.
    pub generator: Option<generator::Observed>,
    /// The judge.
    pub judge: Option<judge::Observed>,
    /// The replay buffer.
    pub replay_buffer: Option<replay_buffer::Observed>,
    /// The learner.
    pub learner: Option<learner::Observed>,
    /// The policy follower.
    pub policy_follower: Option<policy_follower::Observed>,
    /// The intake.
    pub intake: Option<intake::Observed>,
    /// The shadows.
    #[serde(default)]
    pub shadow: Option<shadow::Observed>,
    /// The promoter.
    #[serde(default)]
    pub promoter: Option<promoter::Observed>,
    /// What exploration may cost.
    #[serde(default)]
    pub exploration: Exploring,
}

/// The budget of exploration.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Exploring {
    /// Regret spent since the start, at most, in units of reward.
    pub spent: f64,
    /// Regret that may still be spent this hour; absent without a bound.
    pub left: Option<f64>,
    /// Queries decided greedily because the budget was spent.
    pub held_back: u64,
}

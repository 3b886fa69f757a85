//! Every bound of the service in one serde structure; a section belongs to the actor it names.
//!
//! Knows no file and no environment variable: whoever loads it decides where values come from.

use super::feedback::FeedbackConfig;
use crate::compute::ComputeMode;
use crate::types::{Digest, Exploration, PolicySnapshot, SelectionLimits};
use crate::{
    drift, episode, generator, intake, judge, learner, policy_follower, replay_buffer, reranker,
    retriever, rollout,
};
use serde::{Deserialize, Serialize};

/// Which children a process runs. All three in one process is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    /// Answers queries: retriever, reranker, generator, policy follower, shadows, recent decisions,
    /// intake.
    pub serve: bool,
    /// Judges episodes.
    pub judge: bool,
    /// Learns and promotes: replay buffer, learner, promoter.
    pub learn: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self { serve: true, judge: true, learn: true }
    }
}

/// The one door: how much is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    /// Queries worked on at once, ≥ 1.
    pub in_flight_max: usize,
    /// Queries that may wait for a place beyond that; one more is refused at once. 0 is legal.
    pub queue_max: usize,
    /// Longest wait for a place, milliseconds, ≥ 1.
    pub queue_wait_ms: u64,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { in_flight_max: 64, queue_max: 64, queue_wait_ms: 1_000 }
    }
}

/// How dead children come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisionConfig {
    /// Restarts granted to one child within the window; one more death and it stays down.
    pub restarts_max: usize,
    /// The window, milliseconds, ≥ 1.
    pub window_ms: u64,
    /// Pause before the first restart, milliseconds; doubled for each further one in the window.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ `backoff_ms`.
    pub backoff_max_ms: u64,
}

impl Default for SupervisionConfig {
    fn default() -> Self {
        Self { restarts_max: 8, window_ms: 60_000, backoff_ms: 20, backoff_max_ms: 5_000 }
    }
}

/// All bounds and choices of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// Name of this process among those that share a log: it keeps their private consumers apart.
    pub node: String,
    /// Seed of ids, exploration and jitter; absent: drawn anew at each start (ids must not repeat).
    pub seed: Option<u64>,
    /// Where models run: an own thread, or inline for simulations.
    #[serde(skip)]
    pub compute: ComputeMode,
    /// Which children run.
    pub roles: Roles,
    /// Documents asked of the index for one query, ≥ 1.
    pub top_n: usize,
    /// Limits of a selection unless the query brings its own.
    pub limits: SelectionLimits,
    /// How decisions are drawn unless the query says otherwise.
    pub exploration: Exploration,
    /// The door.
    pub admission: AdmissionConfig,
    /// Restarts.
    pub supervision: SupervisionConfig,
    /// One query from top to bottom.
    pub episode: episode::Config,
    /// The retriever.
    pub retriever: retriever::Config,
    /// The reranker.
    pub reranker: reranker::Config,
    /// The generator.
    pub generator: generator::Config,
    /// The judge.
    pub judge: judge::Config,
    /// The replay buffer.
    pub replay_buffer: replay_buffer::Config,
    /// What exploration may cost.
    pub exploration_budget: rollout::BudgetConfig,
    /// The learner.
    pub learner: learner::Config,
    /// How weights earn their place.
    pub promotion: rollout::Config,
    /// Detectors of drift and of reward hacking.
    pub drift: drift::Config,
    /// The policy follower.
    pub policy_follower: policy_follower::Config,
    /// Feedback at the door.
    #[serde(alias = "recent_decisions")]
    pub feedback: FeedbackConfig,
    /// Queries that come by the log.
    pub intake: intake::Config,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            node: "0".to_owned(),
            seed: None,
            compute: ComputeMode::Thread,
            roles: Roles::default(),
            top_n: 20,
            limits: SelectionLimits { k_min: 1, k_max: 10, token_budget: 2_048 },
            exploration: Exploration::Explore { share: 0.3, temperature: 1.0, epsilon: 0.05 },
            admission: AdmissionConfig::default(),
            supervision: SupervisionConfig::default(),
            episode: episode::Config::default(),
            retriever: retriever::Config::default(),
            reranker: reranker::Config::default(),
            generator: generator::Config::default(),
            judge: judge::Config::default(),
            replay_buffer: replay_buffer::Config::default(),
            exploration_budget: rollout::BudgetConfig::default(),
            learner: learner::Config::default(),
            promotion: rollout::Config::default(),
            drift: drift::Config::default(),
            policy_follower: policy_follower::Config::default(),
            feedback: FeedbackConfig::default(),
            intake: intake::Config::default(),
        }
    }
}

impl ServiceConfig {
    /// SHA-256 of the rules of promotion: what a certificate says it was issued under.
    pub fn rules(&self) -> Digest {
        // Plain data always has a JSON form.
        let rules = serde_json::to_vec(&(&self.promotion, &self.drift)).unwrap_or_default();
        PolicySnapshot::digest_of(&rules)
    }

    /// Checks every value; the error names the first field that is wrong and what it may be.
    pub fn validate(&self) -> Result<(), String> {
        if self.node.is_empty() {
            return Err("node: must not be empty".to_owned());
        }
        if !(self.roles.serve || self.roles.judge || self.roles.learn) {
            return Err("roles: at least one of serve, judge, learn must be true".to_owned());
        }
        at_least_one("top_n", self.top_n as u64)?;
        validate_limits("limits", &self.limits)?;
        self.exploration.validate().map_err(within("exploration"))?;
        at_least_one("admission.in_flight_max", self.admission.in_flight_max as u64)?;
        at_least_one("admission.queue_wait_ms", self.admission.queue_wait_ms)?;
        at_least_one("supervision.window_ms", self.supervision.window_ms)?;
        if self.supervision.backoff_max_ms < self.supervision.backoff_ms {
            return Err("supervision.backoff_max_ms: must be at least backoff_ms".to_owned());
        }
        self.episode.validate().map_err(within("episode"))?;
        self.retriever.validate().map_err(within("retriever"))?;
        self.reranker.validate().map_err(within("reranker"))?;
        self.generator.validate().map_err(within("generator"))?;
        self.judge.validate().map_err(within("judge"))?;
        self.replay_buffer.validate().map_err(within("replay_buffer"))?;
        self.exploration_budget.validate().map_err(within("exploration_budget"))?;
        if let Some(widened) = &self.exploration_budget.widened {
            widened.validate().map_err(within("exploration_budget.widened"))?;
        }
        self.learner.validate().map_err(within("learner"))?;
        self.promotion.validate().map_err(within("promotion"))?;
        self.drift.validate().map_err(within("drift"))?;
        self.policy_follower.validate().map_err(within("policy_follower"))?;
        at_least_one("feedback.deadline_ms", self.feedback.deadline_ms)?;
        self.intake.validate().map_err(within("intake"))
    }
}

fn within(section: &'static str) -> impl Fn(String) -> String {
    move |field| format!("{section}.{field}")
}

/// Refuses 0 for a bound or duration, naming the field.
fn at_least_one(field: &str, value: u64) -> Result<(), String> {
    crate::bounds::at_least_one(field, value)
}

/// Checks `1 <= k_max`, `k_min <= k_max`, `token_budget >= 1`, naming the field.
pub(super) fn validate_limits(field: &str, limits: &SelectionLimits) -> Result<(), String> {
    at_least_one(&format!("{field}.k_max"), u64::from(limits.k_max))?;
    at_least_one(&format!("{field}.token_budget"), u64::from(limits.token_budget))?;
    if limits.k_min > limits.k_max {
        return Err(format!("{field}.k_min: {} is above k_max {}", limits.k_min, limits.k_max));
    }
    Ok(())
}

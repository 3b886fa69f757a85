//! What the children and the handle share: the addresses, the door, and how a query is let in.

use super::config::validate_limits;
use super::door::Door;
use super::{Exploring, Overrides, Ports, ServiceConfig, ServiceError};
use crate::bounds::entropy_seed;
use crate::episode::{self, Context, Experiments, Failure, Request};
use crate::rollout::{Aside, Budget, Routing, unit_of};
use crate::slot::Slot;
use crate::telemetry;
use crate::types::{Arm, DecisionId, Exploration, PolicyStamp, Query, QueryId, Served, next_id};
use crate::{
    generator, intake, judge, learner, policy_follower, promoter, recent_decisions, replay_buffer,
    reranker, retriever, shadow,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tracing::Instrument as _;

pub(super) struct Core {
    pub(super) config: ServiceConfig,
    pub(super) seed: u64,
    pub(super) ports: Ports,
    pub(super) door: Arc<Door>,
    pub(super) context: Context,
    pub(super) serving: watch::Sender<PolicyStamp>,
    pub(super) judge: Slot<judge::Message>,
    pub(super) replay_buffer: Slot<replay_buffer::Message>,
    pub(super) learner: Slot<learner::Message>,
    pub(super) policy_follower: Slot<policy_follower::Message>,
    pub(super) intake: Slot<intake::Message>,
    pub(super) promoter: Slot<promoter::Message>,
    pub(super) routing: watch::Sender<Arc<Routing>>,
    budget: Mutex<(Budget, u64)>,
    rng: Mutex<StdRng>,
}

impl Core {
    pub(super) fn new(ports: Ports, config: ServiceConfig) -> Self {
        let seed = config.seed.unwrap_or_else(entropy_seed);
        let attempts = config.episode.attempts_max;
        let serving = watch::channel(PolicyStamp::default()).0;
        let millis = Duration::from_millis;
        let door = Arc::new(Door::new(config.admission));
        let routing = watch::channel(Arc::new(Routing::default())).0;
        let experiments = Experiments {
            shadow: slot::<shadow::Message>("shadow", attempts, config.roles.serve),
            routing: routing.subscribe(),
            places: Arc::new(Semaphore::new(config.promotion.shadow.queue_max)),
            load: {
                let door = Arc::clone(&door);
                Arc::new(move || door.load())
            },
            config: config.promotion.shadow,
        };
        let context = Context {
            experiments,
            retriever: slot::<retriever::Message>("retriever", attempts, config.roles.serve),
            reranker: slot::<reranker::Message>("reranker", attempts, config.roles.serve),
            generator: slot::<generator::Message>("generator", attempts, config.roles.serve),
            decisions: slot::<recent_decisions::Message>(
                "recent_decisions",
                attempts,
                config.roles.serve,
            ),
            rewriter: ports.rewriter.clone(),
            log: Arc::clone(&ports.log),
            serving: serving.subscribe(),
            clock: ports.clock,
            config: config.episode,
            decide_deadline: millis(config.reranker.deadline_ms),
            retrieve_deadline: millis(config.retriever.deadline_ms.saturating_mul(2)),
            generate_deadline: millis(config.generator.deadline_ms.saturating_mul(2)),
        };
        let has_intake = config.roles.serve && config.intake.enabled;
        Self {
            seed,
            door,
            context,
            serving,
            judge: slot("judge", attempts, config.roles.judge),
            replay_buffer: slot("replay_buffer", attempts, config.roles.learn),
            learner: slot("learner", attempts, config.roles.learn),
            policy_follower: slot("policy_follower", attempts, config.roles.serve),
            intake: slot("intake", attempts, has_intake),
            promoter: slot("promoter", attempts, config.roles.learn),
            routing,
            budget: Mutex::new((
                Budget::new(config.exploration_budget.clone(), ports.clock.now_ms()),
                0,
            )),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            ports,
            config,
        }
    }

    /// Lets one query in and serves it to its end, whether or not the caller waits.
    pub(super) async fn serve(
        self: Arc<Self>,
        query: Query,
        overrides: Overrides,
        is_rerank: bool,
    ) -> Result<Served, ServiceError> {
        if !self.config.roles.serve {
            let reason = "this process does not run the role serve".to_owned();
            return Err(self.door.refuse(ServiceError::NotServing(reason)));
        }
        let (request, aside) = self
            .request(query, overrides, is_rerank)
            .map_err(|reason| self.door.refuse(ServiceError::Refused(reason)))?;
        let mut taken = Taken { core: Arc::clone(&self), aside, has_deviated: false };
        let passage = self.door.enter().await?;
        let core = Arc::clone(&self);
        let episode = async move {
            // What fails on the way may have cost as much as it could.
            taken.has_deviated = true;
            let result = episode::run(&core.context, request).await;
            if let Ok(served) = &result {
                // Where it is not known whether chance had its way, it may have had it.
                taken.has_deviated = served.deviates.unwrap_or(served.propensity.is_some());
            }
            drop(taken);
            passage.settle(&result);
            result
        };
        match ractor::concurrency::spawn(episode.in_current_span()).await {
            Ok(result) => result.map_err(ServiceError::from),
            Err(_) => Err(Failure::of("episode", "it panicked".to_owned()).into()),
        }
    }

    fn request(
        &self,
        mut query: Query,
        overrides: Overrides,
        is_rerank: bool,
    ) -> Result<(Request, Option<Aside>), String> {
        let bounds = self.config.episode;
        if query.text.trim().is_empty() {
            return Err("query: must not be empty".to_owned());
        }
        if query.text.len() > bounds.query_bytes_max {
            let (found, max) = (query.text.len(), bounds.query_bytes_max);
            return Err(format!("query: {found} bytes, at most {max} are allowed"));
        }
        let given = query.candidates.as_ref().map(Vec::len);
        if is_rerank && given.is_none_or(|n| n == 0) {
            return Err("candidates: a rerank needs at least one".to_owned());
        }
        if given.is_some_and(|n| n > bounds.candidates_max) {
            return Err(format!("candidates: at most {} are allowed", bounds.candidates_max));
        }
        let values: usize = query.filter.values().map(Vec::len).sum();
        if values > bounds.filter_values_max {
            let max = bounds.filter_values_max;
            return Err(format!("filter: {values} values, at most {max} are allowed"));
        }
        let top_n = overrides.top_n.unwrap_or(self.config.top_n);
        if top_n == 0 || top_n > bounds.candidates_max {
            return Err(format!("top_n: {top_n} must lie in 1..={}", bounds.candidates_max));
        }
        let limits = overrides.limits.unwrap_or(self.config.limits);
        validate_limits("limits", &limits)?;
        let exploration = overrides.exploration.unwrap_or(self.exploration_now());
        exploration.validate().map_err(|reason| format!("exploration.{reason}"))?;
        if query.id.as_str().is_empty() {
            query.id = QueryId(self.draw_id("q"));
        }
        if query.time_ms == 0 {
            query.time_ms = self.ports.clock.now_ms();
        }
        let decision_id = DecisionId(self.draw_id("d"));
        let wanted = exploration.has_chance();
        let aside = if wanted { self.set_aside(&query) } else { None };
        let is_budget_spent = wanted && aside.is_none();
        let exploration = if is_budget_spent { Exploration::Greedy } else { exploration };
        let mut assignment =
            self.routing.borrow().assign(unit_of(&query, self.config.promotion.unit));
        if let (true, Arm::Interleaved { .. }) = (is_rerank, assignment.arm) {
            // Without an answer nothing says whose documents were of use.
            assignment.arm = Arm::Champion;
            assignment.experiments.clear();
        }
        let request = Request {
            query,
            decision_id,
            top_n,
            limits,
            exploration,
            is_budget_spent,
            assignment,
            is_rerank,
        };
        Ok((request, aside))
    }

    /// How decisions are drawn now: wider while an alarm holds, if so configured.
    fn exploration_now(&self) -> Exploration {
        let until_ms = self.routing.borrow().widened_until_ms;
        let widened = self.config.exploration_budget.widened;
        match widened.filter(|_| self.ports.clock.now_ms() < until_ms) {
            Some(widened) => widened,
            None => self.config.exploration,
        }
    }

    /// Sets aside what a query may cost that explores; `None` where the budget is spent.
    fn set_aside(&self, query: &Query) -> Option<Aside> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let aside = budget.0.take(&query.metadata, self.ports.clock.now_ms());
        if self.config.exploration_budget.per_hour.is_some() {
            telemetry::level(telemetry::BUDGET_LEFT, budget.0.left());
        }
        if aside.is_none() {
            budget.1 += 1;
            telemetry::count(telemetry::BUDGET_SPENT, "reason", "budget");
        }
        aside
    }

    fn settle(&self, aside: Aside, has_deviated: bool) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.0.settle(aside, has_deviated);
    }

    /// What exploration may still cost.
    pub(super) fn exploration(&self) -> Exploring {
        let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let left = Some(budget.0.left()).filter(|left| left.is_finite());
        Exploring { spent: budget.0.spent(), left, held_back: budget.1 }
    }

    pub(super) fn draw_id(&self, prefix: &str) -> String {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        next_id(prefix, &mut *rng)
    }
}

/// What a query set aside of the budget of exploration; settled however the query ends.
struct Taken {
    core: Arc<Core>,
    /// `None` for a query that does not explore.
    aside: Option<Aside>,
    has_deviated: bool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(aside) = self.aside.take() {
            self.core.settle(aside, self.has_deviated);
        }
    }
}

fn slot<M: ractor::Message>(name: &'static str, attempts: usize, is_run: bool) -> Slot<M> {
    let slot = Slot::new(name, attempts);
    if !is_run {
        slot.set_down("it is not run in this process");
    }
    slot
}

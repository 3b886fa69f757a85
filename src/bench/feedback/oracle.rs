//! Full information: what the same policy learns from the right answers to all training questions.

use super::course::Stage;
use crate::bench::BenchError;
use crate::recipes::offline;
use crate::recipes::online::{Objective, OnlineLearner};
use actors::ports::{Batch, Learner as _};
use actors::types::{Exploration, PolicySnapshot, PolicyVersion};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::sync::Arc;

/// Serves all training questions and trains on the right answers to all of them, as often as the
/// plan says, each time from the weights before. No gate decides.
pub(super) async fn train(
    stage: &Stage<'_>,
    first: PolicySnapshot,
    seed: u64,
) -> Result<PolicySnapshot, BenchError> {
    let lab = stage.lab;
    let setting = offline::Setting {
        index: Arc::clone(&stage.material.index),
        generator: Arc::clone(&lab.generator),
        judge: Arc::clone(&lab.judge),
        top_n: stage.plan.top_n,
        limits: stage.config.service.limits,
        exploration: Exploration::Greedy,
    };
    let mut online = stage.config.learner.clone();
    (online.seed, online.objective) = (seed, Objective::Rrpo);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut snapshot = first;
    for round in 1..=stage.plan.rounds {
        let mut policy = stage.policy(&snapshot)?;
        let questions = &stage.material.train;
        let train = offline::collect(&setting, &mut policy, questions, &mut rng, &mut |_| {})
            .await
            .map_err(|error| stage.failed(&error))?;
        let (environment, device) = (Arc::clone(&lab.environment), lab.device.clone());
        let mut learner = OnlineLearner::new(online.clone(), &snapshot, environment, device)
            .map_err(|error| stage.failed(&error))?;
        let batch = Batch { train, ..Batch::default() };
        // Training waits for the generator: not on a thread that runs it.
        let trained = tokio::task::spawn_blocking(move || {
            learner.update(&batch, PolicyVersion(round as u64))
        });
        let trained = trained.await.map_err(|error| stage.failed(&error))?;
        snapshot = trained.map_err(|error| stage.failed(&error))?.0;
    }
    Ok(snapshot)
}

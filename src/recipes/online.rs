//! `online`: what production runs. Learns from judged episodes, off-policy corrected, within a trust
//! region around the serving weights.
//!
//! One update: take judged episodes → lay each out as a group of selections of one query (the one
//! that was served with its logged propensity, and rollouts drawn from the champion) → reward every
//! selection by the environment (generator and judge, cached) → compare with the champion's greedy
//! selection → a clipped policy-gradient step (RRPO) or best/worst pairs (DynamicRAG's DPO).
//!
//! | constant | value | from |
//! |---|---|---|
//! | clip | 0.2 | PPO, eq. 7; RRPO does not state its own |
//! | β of DPO | 0.1 | default of the trainer DynamicRAG used; the paper states none |
//! | pairs | best vs worst of the group | DynamicRAG eq. 4, with a minimum gap and without duplicates |
//! | reference | the champion | RRPO freezes its first policy; here the anchor moves with each promotion |
//! | advantage | terminal, minus the reference's greedy reward | RRPO §2.3 in self-critical form |
//!
//! Changed from the papers, and why: the ratio is to the logged behaviour and not to the reference,
//! so a clipped step can still be taken back; a learned stop makes the sum of prefix rewards favour
//! long lists, therefore the default credit is the reward of the whole selection.

mod config;
mod groups;
mod objective;

pub use config::{Advantage, Objective, OnlineConfig};
pub(crate) use groups::logits as list_logits;

use crate::policy::head::Head;
use crate::policy::optimizer::{Optimizer, OptimizerArgs, OptimizerError};
use crate::policy::reader::PairReader;
use crate::policy::serving::{self, PolicyWeights};
use crate::recipes::gate;
use actors::ports::{Batch, Environment, Examination, LearnError, LearnReport, Learner};
use actors::types::{PolicySnapshot, PolicyStamp, PolicyVersion, Sample};
use candle_core::{Device, Var};
use groups::Group;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Trains selection heads on judged episodes.
pub struct OnlineLearner {
    config: OnlineConfig,
    device: Device,
    champion: PolicyWeights,
    stamp: PolicyStamp,
    environment: Arc<dyn Environment>,
    /// The encoder to fine-tune; `None` while the trunk stays frozen.
    base: Option<Arc<PairReader>>,
}

impl OnlineLearner {
    /// Starts from the champion's weights.
    pub fn new(
        config: OnlineConfig,
        champion: &PolicySnapshot,
        environment: Arc<dyn Environment>,
        device: Device,
    ) -> Result<Self, LearnError> {
        let (weights, stamp) = load(champion, &device)?;
        Ok(Self { config, device, champion: weights, stamp, environment, base: None })
    }

    /// Trains the encoder too (`full`): states are read anew by a trunk of the policy's own.
    #[must_use]
    pub fn with_trunk(mut self, base: Arc<PairReader>) -> Self {
        self.base = Some(base);
        self
    }

    /// Runs the passes over the groups; the head's variables are changed in place.
    fn train(
        &self,
        head: &Head,
        variables: &BTreeMap<String, Var>,
        groups: &[Group],
        rng: &mut StdRng,
    ) -> Result<LearnReport, LearnError> {
        let mut report = LearnReport { samples: groups.len() as u64, ..Default::default() };
        let mut order: Vec<usize> = (0..groups.len()).collect();
        let per_pass = order.len().div_ceil(self.config.batch_queries);
        let total = (per_pass * self.config.epochs) as u64;
        let mut optimizer = Optimizer::new(self.optimizer_args(total), variables);
        for _ in 0..self.config.epochs {
            order.shuffle(rng);
            let mut pass = objective::Totals::default();
            for chunk in order.chunks(self.config.batch_queries) {
                let batch: Vec<&Group> = chunk.iter().map(|&i| &groups[i]).collect();
                let (champion, device) = (&self.champion.head, &self.device);
                let step = objective::loss(&self.config, head, champion, &batch, device, rng);
                let Some(step) = step.map_err(model)? else { continue };
                let loss = f64::from(step.loss.to_scalar::<f32>().map_err(model)?);
                if !loss.is_finite() {
                    let reason = format!("the loss is {loss}");
                    return Err(LearnError::Diverged { step: report.steps, reason });
                }
                let gradients = step.loss.backward().map_err(model)?;
                optimizer.step(variables, &gradients).map_err(|error| match error {
                    OptimizerError::NotFinite { .. } => {
                        LearnError::Diverged { step: report.steps, reason: error.to_string() }
                    }
                    other => LearnError::Model(other.to_string()),
                })?;
                report.steps += 1;
                pass.add(loss, &step);
            }
            pass.write(&mut report);
        }
        Ok(report)
    }

    fn optimizer_args(&self, total_steps: u64) -> OptimizerArgs {
        OptimizerArgs {
            rate: self.config.learning_rate as f32,
            weight_decay: self.config.weight_decay as f32,
            clip_norm: self.config.gradient_norm_max,
            warmup_steps: total_steps / 10,
            total_steps,
            ..OptimizerArgs::default()
        }
    }
}

impl Learner for OnlineLearner {
    fn update(
        &mut self,
        batch: &Batch,
        version: PolicyVersion,
    ) -> Result<(PolicySnapshot, LearnReport), LearnError> {
        let mut rng = StdRng::seed_from_u64(self.config.seed ^ version.0);
        let (groups, refused) = groups::collect(
            &self.config,
            &self.champion,
            &batch.train,
            &*self.environment,
            &self.device,
            &mut rng,
        )?;
        if groups.len() < self.config.queries_min {
            let (found, needed) = (groups.len(), self.config.queries_min);
            return Err(LearnError::TooLittle(format!(
                "{found} usable samples, {needed} needed ({refused} refused)"
            )));
        }
        let (head, variables) = self.champion.head.trainable().map_err(model)?;
        let mut report = self.train(&head, &variables, &groups, &mut rng)?;
        report.refused = refused;
        report.reward_mean = groups::reward_mean(&groups);
        let weights = PolicyWeights {
            head: head.snapshot().map_err(model)?,
            trunk: self.champion.trunk.clone(),
        };
        let bytes = serving::to_bytes(&weights).map_err(LearnError::Model)?;
        let recipe = format!("online/{}", self.config.objective.name());
        let snapshot = PolicySnapshot::new(version, Some(self.stamp.version), recipe, bytes);
        Ok((snapshot, report))
    }

    fn examine(
        &mut self,
        candidate: &PolicySnapshot,
        holdout: &[Sample],
    ) -> Result<Examination, LearnError> {
        let (weights, _) = load(candidate, &self.device)?;
        gate::examine(
            &self.config.gate,
            &self.champion.head,
            &weights.head,
            holdout,
            &*self.environment,
            &self.device,
        )
    }

    fn adopt(&mut self, champion: &PolicySnapshot) -> Result<(), LearnError> {
        let (weights, stamp) = load(champion, &self.device)?;
        self.champion = weights;
        self.stamp = stamp;
        Ok(())
    }
}

fn load(
    snapshot: &PolicySnapshot,
    device: &Device,
) -> Result<(PolicyWeights, PolicyStamp), LearnError> {
    let weights = serving::from_snapshot(snapshot, device)
        .map_err(|error| LearnError::Model(error.to_string()))?;
    Ok((weights, PolicyStamp { version: snapshot.version, digest: snapshot.digest.clone() }))
}

fn model(error: candle_core::Error) -> LearnError {
    LearnError::Model(error.to_string())
}

#[cfg(test)]
mod tests;

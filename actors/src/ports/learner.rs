//! What turns judged episodes into better weights.

use crate::types::{Episode, PolicySnapshot, PolicyState, PolicyVersion, Sample, StageEvidence};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Decisions handed to one update.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Trained on: judged, and all of them older than the hold-out.
    pub train: Vec<Sample>,
    /// Never trained on: the gate examines candidates here. The newest of the judged.
    pub holdout: Vec<Sample>,
    /// Decisions of the same time, and drawn at the same rate, that got no reward: who answers is
    /// estimated against them.
    pub unanswered: Vec<Episode>,
}

/// What one update did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LearnReport {
    /// Samples that were used.
    pub samples: u64,
    /// Samples refused, with the reason of the first (too stale, no propensity, …).
    pub refused: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Mean loss of the last pass.
    pub loss: f64,
    /// k3 estimate of KL(policy ‖ reference), nats a decision.
    pub kl: f64,
    /// Share of ratios that were clipped, in [0, 1].
    pub clip_fraction: f64,
    /// Mean reward of the trained samples.
    pub reward_mean: f64,
    /// What else the algorithm says of itself, by name: rows by kind, effective sample size, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
}

/// The gate's finding on one candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// Whether it may serve.
    pub accepted: bool,
    /// Why, in one sentence with the figures.
    pub reason: String,
    /// Held-out queries compared.
    pub queries: u64,
    /// Mean reward of the champion on them.
    pub champion: f64,
    /// Mean reward of the candidate on them.
    pub candidate: f64,
    /// 95% interval of the paired difference candidate − champion.
    pub difference: (f64, f64),
}

impl Examination {
    /// The examination as the evidence of the first stage. It asked the generator and the judge
    /// anew, so the log alone does not give it again.
    #[expect(clippy::cast_precision_loss, reason = "queries of one examination")]
    pub fn evidence(&self) -> StageEvidence {
        let figures = [
            ("champion_reward", self.champion),
            ("candidate_reward", self.candidate),
            ("difference_low", self.difference.0),
            ("difference_high", self.difference.1),
            ("queries", self.queries as f64),
        ];
        StageEvidence {
            passed: self.accepted,
            reason: self.reason.clone(),
            is_rederivable: false,
            ..StageEvidence::new(PolicyState::Candidate, self.queries).with(&figures, &[])
        }
    }
}

/// Why an update produced no candidate; the serving weights are untouched.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// Nothing to learn from yet.
    #[error("not enough to learn from: {0}")]
    TooLittle(String),
    /// A loss or a gradient stopped being finite.
    #[error("training diverged at step {step}: {reason}")]
    Diverged {
        /// Optimiser step, from 0.
        step: u64,
        /// What was not finite.
        reason: String,
    },
    /// The model refused its input.
    #[error("training failed: {0}")]
    Model(String),
}

/// Trains candidates. Synchronous: it runs on the learner's compute thread.
pub trait Learner: Send {
    /// Trains on the batch from the champion's weights and returns a candidate that carries
    /// `version` and the champion as its parent. Nothing is published here.
    fn update(
        &mut self,
        batch: &Batch,
        version: PolicyVersion,
    ) -> Result<(PolicySnapshot, LearnReport), LearnError>;

    /// Compares a candidate with the champion on samples that were never trained on.
    fn examine(
        &mut self,
        candidate: &PolicySnapshot,
        holdout: &[Sample],
    ) -> Result<Examination, LearnError>;

    /// Makes this snapshot the champion: the start of the next update.
    fn adopt(&mut self, champion: &PolicySnapshot) -> Result<(), LearnError>;
}

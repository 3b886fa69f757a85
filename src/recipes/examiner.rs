//! What examines a candidate before users see it: serving's scores against the trainer's, its value
//! on logged traffic, and the canary questions.
//!
//! Implements `ports::Examiner`. Owns no rule of what comes next; every finding carries its figures
//! and thresholds, so that a certificate says what it rests on.

use super::off_policy::conduct;
use super::online::{Contender, StateSource, list_logits};
use crate::evaluate::off_policy::{self, OffPolicyConfig};
use crate::evaluate::probes::judges::{self, JudgeProbe};
use crate::evaluate::probes::{self, Judged, Probe, Setting};
use crate::policy::reader::PairReader;
use crate::policy::serving::{self, EncoderPolicy, PolicyWeights};
use actors::ports::{DecideRequest, ExamineError, Examiner, Generator, Judge, Policy as _, Probed};
use actors::rollout::{OfflineConfig, OnNoSupport, ParityConfig, inputs_digest, kendall_tau};
use actors::types::{
    Decision, Exploration, PolicySnapshot, PolicyStamp, PolicyState, Sample, SelectionLimits,
    StageEvidence,
};
use candle_core::Device;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The canary questions, and what answers and judges them.
#[derive(Clone)]
pub struct Canaries {
    /// Questions with gold answers; adversarial documents are put among their candidates.
    pub questions: Vec<Probe>,
    /// Answers whose verdicts are known.
    pub judged: Vec<JudgeProbe>,
    /// Answers.
    pub generator: Arc<dyn Generator>,
    /// Judges.
    pub judge: Arc<dyn Judge>,
    /// Masks of the policy.
    pub limits: SelectionLimits,
    /// Where the generator and the judge run.
    pub runtime: Handle,
}

/// Rules of an examination.
#[derive(Debug, Clone)]
pub struct ExaminerConfig {
    /// Of parity.
    pub parity: ParityConfig,
    /// Of the estimate.
    pub offline: OfflineConfig,
    /// Of the estimators.
    pub estimators: OffPolicyConfig,
}

/// Examines encoder policies.
pub struct EncoderExaminer {
    base: Arc<PairReader>,
    /// Whether candidates carry a trunk of their own.
    has_trunk: bool,
    device: Device,
    config: ExaminerConfig,
    canaries: Canaries,
}

impl EncoderExaminer {
    /// Examines on top of the model folder that `base` has loaded.
    pub fn new(
        (base, has_trunk): (Arc<PairReader>, bool),
        device: Device,
        config: ExaminerConfig,
        canaries: Canaries,
    ) -> Self {
        Self { base, has_trunk, device, config, canaries }
    }

    fn load(
        &self,
        candidate: &PolicySnapshot,
    ) -> Result<(PolicyWeights, StateSource), ExamineError> {
        let weights = serving::from_snapshot(candidate, &self.device)
            .map_err(|error| ExamineError::Weights(error.to_string()))?;
        let stamp = PolicyStamp { version: candidate.version, digest: candidate.digest.clone() };
        let base = self.has_trunk.then_some(&self.base);
        let source = StateSource::new(base, &weights, &stamp)
            .map_err(|error| ExamineError::Weights(error.to_string()))?;
        Ok((weights, source))
    }

    fn policy(&self, snapshot: &PolicySnapshot) -> Result<EncoderPolicy, ExamineError> {
        EncoderPolicy::new(Arc::clone(&self.base), snapshot, self.device.clone())
            .map_err(|error| ExamineError::Weights(error.to_string()))
    }
}

impl Examiner for EncoderExaminer {
    /// Serving reads the texts and scores the list; the trainer scores the logged states. Both
    /// must come to the same scores, or the weights that were examined are not those that serve.
    fn parity(
        &mut self,
        candidate: &PolicySnapshot,
        samples: &[Sample],
    ) -> Result<StageEvidence, ExamineError> {
        let (weights, source) = self.load(candidate)?;
        let contender = Contender { head: &weights.head, source: &source };
        let mut policy = self.policy(candidate)?;
        let (mut compared, mut largest, mut least_tau) = (0_u64, 0.0_f64, 1.0_f64);
        for sample in samples {
            let Some(states) = contender.states(sample).map_err(passing)? else { continue };
            let logits = list_logits(contender.head, &states, &self.device).map_err(passing)?;
            let Some(request) = asked(sample) else { continue };
            // Greedy decisions throw no dice.
            let mut rng = StdRng::seed_from_u64(0);
            let mut decisions = policy.decide(std::slice::from_ref(&request), &mut rng);
            let Some(Ok(decision)) = decisions.pop() else { continue };
            let trained: Vec<f32> = logits.scores.iter().map(|score| *score as f32).collect();
            let pairs = decision.scores.iter().zip(&trained);
            let difference = pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
            largest = largest.max(difference);
            if trained.len() > 1 {
                least_tau = least_tau.min(tau(&decision.scores, &trained, difference));
            }
            compared += 1;
        }
        let config = &self.config.parity;
        let figures =
            [("queries", compared as f64), ("difference_max", largest), ("kendall_min", least_tau)];
        let thresholds =
            [("difference_max", config.difference_max), ("kendall_min", config.kendall_min)];
        let passed =
            compared > 0 && largest <= config.difference_max && least_tau >= config.kendall_min;
        let reason = if compared == 0 {
            "no logged query could be scored twice".to_owned()
        } else {
            format!(
                "scores of serving and trainer differ by at most {largest:.2e} over {compared} \
                 queries, Kendall's tau at least {least_tau:.4}"
            )
        };
        let found = (PolicyState::Parity, passed, reason);
        Ok(evidence(found, samples, &figures, &thresholds))
    }

    fn off_policy(
        &mut self,
        candidate: &PolicySnapshot,
        samples: &[Sample],
    ) -> Result<StageEvidence, ExamineError> {
        let (weights, source) = self.load(candidate)?;
        let contender = Contender { head: &weights.head, source: &source };
        let mut target =
            |sample: &Sample| conduct(sample, contender, None, &self.device).map_err(passing);
        let estimators = &self.config.estimators;
        let logged = off_policy::rows(samples, &mut target, estimators)?;
        let found = off_policy::compare(&logged.rows, None, estimators);
        let tolerance = self.config.offline.tolerance;
        let unusable: u64 = logged.unusable.values().sum();
        let (low, value, high) = found.difference.unwrap_or((f64::NAN, f64::NAN, f64::NAN));
        let figures = [
            ("rows", found.rows as f64),
            ("unusable", unusable as f64),
            ("ess", found.ess),
            ("weight_max", found.weight_max),
            ("clipped_share", found.clipped_share),
            ("difference", value),
            ("difference_low", low),
            ("difference_high", high),
        ];
        let is_let_through = self.config.offline.on_no_support == OnNoSupport::GoOn;
        let thresholds = [("tolerance", tolerance), ("ess_min", estimators.ess_min)];
        let (passed, reason) = match (found.supported, low >= -tolerance) {
            (true, true) => (true, found.reason),
            (true, false) => {
                (false, format!("may be worse by more than {tolerance}: {}", found.reason))
            }
            (false, _) => (is_let_through, format!("nothing is estimated: {}", found.reason)),
        };
        let stage = (PolicyState::Offline, passed, reason);
        let mut evidence = evidence(stage, samples, &figures, &thresholds);
        evidence.figures.insert("supported".to_owned(), f64::from(u8::from(found.supported)));
        for (name, spread) in &found.estimates {
            for (end, value) in [("", spread.value), ("_low", spread.low), ("_high", spread.high)] {
                if value.is_finite() {
                    evidence.figures.insert(format!("{name}{end}"), value);
                }
            }
        }
        Ok(evidence)
    }

    fn probe(&mut self, snapshot: &PolicySnapshot) -> Result<Option<Probed>, ExamineError> {
        if self.canaries.questions.is_empty() {
            return Ok(None);
        }
        let mut policy = self.policy(snapshot)?;
        let canaries = &self.canaries;
        let setting = Setting {
            generator: &*canaries.generator,
            judged: Judged::Judge(&*canaries.judge),
            limits: canaries.limits,
        };
        let asked = probes::run(&mut policy, &setting, &canaries.questions);
        let report = canaries.runtime.block_on(asked).map_err(passing)?;
        // Every policy is held against the others question by question, so none may be missing.
        if report.pairs.len() < canaries.questions.len() || report.unjudged > 0 {
            let reason = report.first_failure.unwrap_or_default();
            return Err(ExamineError::Passing(format!(
                "a canary question was not judged: {reason}"
            )));
        }
        let pairs = report.pairs.iter().filter_map(|pair| Some((pair.judged?, pair.gold)));
        let adversarial_share = report.adversarial_share;
        Ok(Some(Probed { pairs: pairs.collect(), adversarial_share }))
    }

    fn probe_judge(&mut self) -> Result<Vec<(f64, f64)>, ExamineError> {
        let canaries = &self.canaries;
        let mut verdicts = Vec::new();
        for (time, probe) in (0..).zip(&canaries.judged) {
            let Some(baseline) = probe.baseline else { continue };
            let asked = judges::verdict(&*canaries.judge, probe, time);
            let verdict = canaries.runtime.block_on(asked);
            let verdict = verdict.map_err(|none| {
                ExamineError::Passing(format!("judge probe `{}`: {}", none.id, none.reason))
            })?;
            verdicts.push((baseline, verdict));
        }
        Ok(verdicts)
    }
}

/// Kendall's tau, with pairs that differ by less than the noise of the comparison as ties: two
/// equal documents have no order.
fn tau(served: &[f32], trained: &[f32], noise: f64) -> f64 {
    let grain = (noise * 4.0).max(1e-6);
    let round = |scores: &[f32]| -> Vec<f32> {
        scores.iter().map(|score| ((f64::from(*score) / grain).round()) as f32).collect()
    };
    let (served, trained) = (round(served), round(trained));
    if served == trained { 1.0 } else { kendall_tau(&served, &trained) }
}

/// What serving would be asked to decide for a sample.
fn asked(sample: &Sample) -> Option<DecideRequest> {
    let decision: &Decision = sample.episode.decision.as_ref()?;
    Some(DecideRequest {
        id: decision.id.clone(),
        query: sample.episode.query.clone(),
        candidates: sample.episode.candidates.clone(),
        policy: None,
        limits: decision.limits,
        exploration: Exploration::Greedy,
    })
}

fn evidence(
    (stage, passed, reason): (PolicyState, bool, String),
    samples: &[Sample],
    figures: &[(&str, f64)],
    thresholds: &[(&str, f64)],
) -> StageEvidence {
    let line = |sample: &Sample| {
        let id = sample.episode.decision_id().map_or("", |id| id.as_str());
        format!("{id} {:?}", sample.reward.total)
    };
    StageEvidence {
        passed,
        reason,
        inputs: inputs_digest(samples.iter().map(line)),
        ..StageEvidence::new(stage, samples.len() as u64).with(figures, thresholds)
    }
}

fn passing(error: impl std::fmt::Display) -> ExamineError {
    ExamineError::Passing(error.to_string())
}

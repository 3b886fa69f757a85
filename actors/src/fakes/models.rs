//! A policy and a learner without a model: they keep the contracts and learn nothing.

use super::Knob;
use crate::ports::{
    Batch, DecideRequest, Examination, LearnError, LearnReport, Learner, Policy, PolicyError,
};
use crate::types::{
    CandidateStates, Decision, Gate, PolicySnapshot, PolicyStamp, PolicyVersion, Sample,
};
use rand::rngs::StdRng;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// First bytes of weights that fit a [`FakePolicy`].
const SHAPE: &[u8] = b"fake";

/// A snapshot that fits (or not) a [`FakePolicy`].
pub fn snapshot(version: u64, fits: bool) -> PolicySnapshot {
    let text = format!("{} v{version}", if fits { "fake" } else { "other" });
    let parent = version.checked_sub(1).map(PolicyVersion);
    PolicySnapshot::new(PolicyVersion(version), parent, "fake", text.into_bytes())
}

/// A snapshot that fits a [`FakePolicy`] and has these traits, by words:
///
/// - `reversed`: the last candidate first;
/// - `short`: the first candidate only;
/// - `costly`: each candidate has ten tokens, not one;
/// - `failing`, `panicking`: no decision is made.
pub fn snapshot_with(version: u64, traits: &str) -> PolicySnapshot {
    let text = format!("fake v{version} {traits}");
    let parent = version.checked_sub(1).map(PolicyVersion);
    PolicySnapshot::new(PolicyVersion(version), parent, "fake", text.into_bytes())
}

/// Chooses candidates in retrieval order, as many as the limits allow, unless its weights say
/// otherwise ([`snapshot_with`]).
pub struct FakePolicy {
    stamp: PolicyStamp,
    traits: Vec<String>,
    knob: Arc<Knob>,
}

impl FakePolicy {
    /// Version 0, with faults by `knob`.
    pub fn new(knob: Arc<Knob>) -> Self {
        let digest = snapshot(0, true).digest;
        Self { stamp: PolicyStamp { version: PolicyVersion(0), digest }, traits: Vec::new(), knob }
    }

    fn has(&self, wanted: &str) -> bool {
        self.traits.iter().any(|word| word == wanted)
    }

    fn one(&self, request: &DecideRequest) -> Result<Decision, PolicyError> {
        if request.candidates.is_empty() {
            return Err(PolicyError::Refused("no candidates".to_owned()));
        }
        if self.has("failing") {
            return Err(PolicyError::Model("its weights make it fail".to_owned()));
        }
        let n = u32::try_from(request.candidates.len()).unwrap_or(u32::MAX);
        let k = if self.has("short") { 1 } else { n.min(request.limits.k_max) };
        let mut order: Vec<u32> = (0..n).collect();
        if self.has("reversed") {
            order.reverse();
        }
        order.truncate(k as usize);
        let tokens = if self.has("costly") { 10 } else { 1 };
        let states = CandidateStates::new(1, vec![0.0; n as usize]);
        Ok(Decision {
            id: request.id.clone(),
            gate: Gate::Retrieve,
            rewrite: 0,
            order,
            step_log_probs: vec![0.0; k as usize],
            scores: request.candidates.iter().map(|candidate| candidate.score).collect(),
            exploration: request.exploration,
            limits: request.limits,
            deviates: None,
            candidate_tokens: vec![tokens; n as usize],
            states: states.map_err(|error| PolicyError::Model(error.to_string()))?,
            policy: self.stamp.clone(),
        })
    }
}

impl Policy for FakePolicy {
    #[expect(clippy::panic, reason = "the fault that this trait exists for")]
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        _rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        requests.iter().for_each(|request| self.knob.taste(&request.query.text));
        if self.has("panicking") {
            panic!("its weights make it panic");
        }
        let passed = self.knob.pass_now();
        let decide = |request| match &passed {
            Ok(()) => self.one(request),
            Err(reason) => Err(PolicyError::Model(reason.clone())),
        };
        requests.iter().map(decide).collect()
    }

    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        if !snapshot.weights.starts_with(SHAPE) {
            let reason = "tensor `fake` is missing".to_owned();
            return Err(PolicyError::Snapshot { version: snapshot.version.to_string(), reason });
        }
        self.stamp = PolicyStamp { version: snapshot.version, digest: snapshot.digest.clone() };
        let text = String::from_utf8_lossy(&snapshot.weights);
        self.traits = text.split_whitespace().skip(2).map(str::to_owned).collect();
        Ok(())
    }

    fn stamp(&self) -> PolicyStamp {
        self.stamp.clone()
    }
}

/// What one update of a [`FakeLearner`] comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// A candidate that passes.
    Better,
    /// A candidate that the gate refuses.
    Worse,
    /// A candidate that passes, with these traits of [`snapshot_with`].
    Has(&'static str),
    /// A candidate of another shape, which the gate does not notice.
    Misshapen,
    /// A loss that is NaN.
    NotANumber,
    /// Training that says itself that it diverged.
    Diverges,
    /// A panic.
    Panics,
}

/// Follows a script of lessons; when it is over, every candidate is better.
pub struct FakeLearner {
    script: Arc<Mutex<VecDeque<Lesson>>>,
    champion: Option<PolicyVersion>,
    accepts: bool,
}

impl FakeLearner {
    /// A learner that takes its lessons from the front of `script`.
    pub fn new(script: Arc<Mutex<VecDeque<Lesson>>>) -> Self {
        Self { script, champion: None, accepts: true }
    }
}

impl Learner for FakeLearner {
    #[expect(clippy::panic, reason = "the fault that this lesson exists for")]
    fn update(
        &mut self,
        batch: &Batch,
        version: PolicyVersion,
    ) -> Result<(PolicySnapshot, LearnReport), LearnError> {
        let next = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let lesson = next.unwrap_or(Lesson::Better);
        self.accepts = lesson != Lesson::Worse;
        let samples = batch.train.len() as u64;
        let mut report = LearnReport { samples, steps: 1, ..LearnReport::default() };
        match lesson {
            Lesson::Panics => panic!("scripted panic"),
            Lesson::NotANumber => report.loss = f64::NAN,
            Lesson::Diverges => {
                let reason = "gradient is not finite".to_owned();
                return Err(LearnError::Diverged { step: 0, reason });
            }
            Lesson::Better | Lesson::Worse | Lesson::Has(_) | Lesson::Misshapen => {}
        }
        let mut candidate = match lesson {
            Lesson::Has(traits) => snapshot_with(version.0, traits),
            _ => snapshot(version.0, lesson != Lesson::Misshapen),
        };
        candidate.parent = Some(self.champion.unwrap_or_default());
        Ok((candidate, report))
    }

    fn examine(
        &mut self,
        _candidate: &PolicySnapshot,
        holdout: &[Sample],
    ) -> Result<Examination, LearnError> {
        let (accepted, candidate) = if self.accepts { (true, 0.6) } else { (false, 0.4) };
        let reason = format!("candidate {candidate} against champion 0.5");
        let (queries, champion) = (holdout.len() as u64, 0.5);
        let difference = (candidate - 0.55, candidate - 0.45);
        Ok(Examination { accepted, reason, queries, champion, candidate, difference })
    }

    fn adopt(&mut self, champion: &PolicySnapshot) -> Result<(), LearnError> {
        self.champion = Some(champion.version);
        Ok(())
    }
}

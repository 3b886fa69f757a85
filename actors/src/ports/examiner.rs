//! What examines a candidate before users see it: parity, logged traffic, canary questions.

use crate::types::{PolicySnapshot, Sample, StageEvidence};

/// Why an examination gave nothing; the candidate is neither better nor worse for it.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The weights cannot be examined at all.
    #[error("the weights cannot be examined: {0}")]
    Weights(String),
    /// A model, the generator or the judge failed; another try may succeed.
    #[error("the examination failed: {0}")]
    Passing(String),
}

/// Judged and gold reward of each canary question, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Probed {
    /// `(judged, gold)`, each in [0, 1] as a rule.
    pub pairs: Vec<(f64, f64)>,
    /// Share of the chosen documents that are adversarial.
    pub adversarial_share: f64,
}

/// Examines candidates. Synchronous: it runs on a compute thread of its own.
pub trait Examiner: Send {
    /// Compares what serving would score with what the trainer scores, on logged queries.
    ///
    /// # Errors
    /// Weights that do not load.
    fn parity(
        &mut self,
        candidate: &PolicySnapshot,
        samples: &[Sample],
    ) -> Result<StageEvidence, ExamineError>;

    /// Estimates the candidate's value on logged decisions against the logged policy's.
    ///
    /// # Errors
    /// Weights that do not load.
    fn off_policy(
        &mut self,
        candidate: &PolicySnapshot,
        samples: &[Sample],
    ) -> Result<StageEvidence, ExamineError>;

    /// Asks the canary questions; `None` where there are none.
    ///
    /// # Errors
    /// Weights that do not load, or a generator or judge that failed.
    fn probe(&mut self, policy: &PolicySnapshot) -> Result<Option<Probed>, ExamineError>;

    /// Judges the judge's fixed probe set anew: `(baseline, verdict)` of each; empty where there is
    /// none.
    ///
    /// # Errors
    /// The judge failed.
    fn probe_judge(&mut self) -> Result<Vec<(f64, f64)>, ExamineError>;
}

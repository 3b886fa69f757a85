//! An examiner that finds what it is told, and a seal that signs with a digest.

use crate::ports::{ExamineError, Examiner, Probed, Seal, SealError, Signature};
use crate::types::{Digest, PolicySnapshot, PolicyState, PolicyVersion, Sample, StageEvidence};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What examinations of a world find; nothing against anybody unless told.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Versions that fail parity.
    pub without_parity: Vec<PolicyVersion>,
    /// Versions that logged traffic speaks against.
    pub worse_offline: Vec<PolicyVersion>,
    /// Judged and gold rewards on the canary questions, by version; none: there are no questions.
    pub probes: BTreeMap<PolicyVersion, Vec<(f64, f64)>>,
    /// Baselines and verdicts of the judge's probe set.
    pub judge: Vec<(f64, f64)>,
    /// Examinations that fail before one succeeds.
    pub failures: u32,
}

/// Finds what it is told.
pub struct FakeExaminer(Arc<Mutex<Findings>>);

impl FakeExaminer {
    /// An examiner by these findings.
    pub fn new(findings: Arc<Mutex<Findings>>) -> Self {
        Self(findings)
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn evidence(
        &self,
        stage: PolicyState,
        samples: &[Sample],
        is_against: bool,
    ) -> Result<StageEvidence, ExamineError> {
        let mut findings = self.findings();
        if findings.failures > 0 {
            findings.failures -= 1;
            return Err(ExamineError::Passing("scripted failure".to_owned()));
        }
        let ids: Vec<&str> =
            samples.iter().filter_map(|s| Some(s.episode.decision_id()?.as_str())).collect();
        Ok(StageEvidence {
            passed: !is_against,
            reason: if is_against { "told to refuse" } else { "told to pass" }.to_owned(),
            inputs: PolicySnapshot::digest_of(ids.join("\n").as_bytes()),
            ..StageEvidence::new(stage, samples.len() as u64)
        })
    }
}

impl Examiner for FakeExaminer {
    fn parity(
        &mut self,
        candidate: &PolicySnapshot,
        samples: &[Sample],
    ) -> Result<StageEvidence, ExamineError> {
        let is_against = self.findings().without_parity.contains(&candidate.version);
        self.evidence(PolicyState::Parity, samples, is_against)
    }

    fn off_policy(
        &mut self,
        candidate: &PolicySnapshot,
        samples: &[Sample],
    ) -> Result<StageEvidence, ExamineError> {
        let is_against = self.findings().worse_offline.contains(&candidate.version);
        self.evidence(PolicyState::Offline, samples, is_against)
    }

    fn probe(&mut self, policy: &PolicySnapshot) -> Result<Option<Probed>, ExamineError> {
        let pairs = self.findings().probes.get(&policy.version).cloned();
        Ok(pairs.map(|pairs| Probed { pairs, adversarial_share: 0.0 }))
    }

    fn probe_judge(&mut self) -> Result<Vec<(f64, f64)>, ExamineError> {
        Ok(self.findings().judge.clone())
    }
}

/// Signs with the digest of what is signed: whoever reads the code can forge it.
pub struct FakeSeal;

fn digest(message: &[u8]) -> String {
    let Digest(text) = PolicySnapshot::digest_of(message);
    text
}

impl Seal for FakeSeal {
    fn sign(&self, message: &[u8]) -> Result<Signature, SealError> {
        Ok(Signature { key: "fake".to_owned(), signature: digest(message) })
    }

    fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SealError> {
        if signature.key != "fake" {
            return Err(SealError::Untrusted(signature.key.clone()));
        }
        if signature.signature == digest(message) { Ok(()) } else { Err(SealError::Invalid) }
    }
}

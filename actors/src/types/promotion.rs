//! How weights earn their place, as data: assignments, what a stage found, and the certificate.
//!
//! Knows no statistics and no signature scheme; the log keeps these as they are.

use super::{Digest, PolicyState, PolicyVersion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which policy a unit of randomisation was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Arm {
    /// The champion.
    Champion,
    /// A candidate in its canary.
    Candidate {
        /// Its version.
        version: PolicyVersion,
    },
    /// Champion and candidate drafted one context together.
    Interleaved {
        /// The candidate.
        version: PolicyVersion,
    },
}

/// Where a query stood in the experiments of its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Hash of the unit of randomisation (user, session or query): 16 hexadecimal digits.
    pub unit: String,
    /// What it was given.
    pub arm: Arm,
    /// Candidates whose canary was open, in order of version; the unit's place in each follows
    /// from its hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub experiments: Vec<PolicyVersion>,
    /// Why the champion served although the unit was a candidate's; such a unit counts for neither
    /// arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<String>,
}

/// Which of two policies put a document into an interleaved context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DraftedBy {
    /// The champion.
    Champion,
    /// The candidate.
    Candidate,
    /// Both would have put it there: it credits nobody.
    Both,
}

/// One context drafted by two policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interleaved {
    /// The candidate.
    pub version: PolicyVersion,
    /// Whose each chosen document is, in the order of the decision.
    pub drafted_by: Vec<DraftedBy>,
    /// Credit of the champion and of the candidate by the documents that the answer cites; absent
    /// where nothing was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<(f64, f64)>,
}

/// A place in the log: everything of a partition before `next`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// The first offset that does not count.
    pub next: u64,
}

/// What one stage found, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageEvidence {
    /// The stage.
    pub stage: PolicyState,
    /// Share of traffic, for a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Whether the candidate may go on.
    pub passed: bool,
    /// Why, in one sentence with the figures.
    pub reason: String,
    /// Queries it rests on.
    pub queries: u64,
    /// Every estimate, interval and sample size by name.
    pub figures: BTreeMap<String, f64>,
    /// Every threshold by name.
    pub thresholds: BTreeMap<String, f64>,
    /// From where the log counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<LogPosition>,
    /// Up to where it was read: with `from`, what `regrade policy verify` reads again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<LogPosition>,
    /// SHA-256 of the inputs by decision id, in order.
    pub inputs: Digest,
    /// Whether the log alone gives the figures again. The held-out examination asks the generator
    /// and the judge anew, so it is attested by the signature alone.
    pub is_rederivable: bool,
}

impl StageEvidence {
    /// Evidence of a stage without verdict: it rests on so many queries, and the log gives it again.
    pub fn new(stage: PolicyState, queries: u64) -> Self {
        Self {
            stage,
            share: None,
            passed: false,
            reason: String::new(),
            queries,
            figures: BTreeMap::new(),
            thresholds: BTreeMap::new(),
            from: Vec::new(),
            through: Vec::new(),
            inputs: Digest::default(),
            is_rederivable: true,
        }
    }

    /// With these figures and thresholds by name; what is not finite has no place in JSON.
    #[must_use]
    pub fn with(mut self, figures: &[(&str, f64)], thresholds: &[(&str, f64)]) -> Self {
        for (kept, values) in [(&mut self.figures, figures), (&mut self.thresholds, thresholds)] {
            let finite = values.iter().filter(|(_, value)| value.is_finite());
            kept.extend(finite.map(|(name, value)| ((*name).to_owned(), *value)));
        }
        self
    }
}

/// What a certificate states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Schema of the claims.
    pub schema: u32,
    /// The weights.
    pub version: PolicyVersion,
    /// Their parent.
    pub parent: Option<PolicyVersion>,
    /// Digest of the weights.
    pub digest: Digest,
    /// What trained them.
    pub recipe: String,
    /// What they may do: `canary` or `champion`.
    pub grants: PolicyState,
    /// Largest share of traffic, for a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The champion they were compared with.
    pub champion: Option<PolicyVersion>,
    /// What each stage found, in order.
    pub stages: Vec<StageEvidence>,
    /// SHA-256 of the promotion rules in force.
    pub config: Digest,
    /// Version of the code that decided.
    pub code: String,
    /// The process that decided.
    pub issuer: String,
    /// When, milliseconds since the Unix epoch.
    pub issued_ms: u64,
}

/// Claims with their signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// What is stated.
    pub claims: Claims,
    /// The signer's public key, hexadecimal.
    pub key: String,
    /// Signature over the claims as compact JSON, hexadecimal.
    pub signature: String,
}

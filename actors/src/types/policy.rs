//! Policy weights as they travel, and what the log says of them.

use super::{Certificate, Digest, LogPosition, PolicyVersion, StageEvidence};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// A complete set of policy weights, immutable.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySnapshot {
    /// Number of these weights.
    pub version: PolicyVersion,
    /// Weights they were trained from; `None` for the first.
    pub parent: Option<PolicyVersion>,
    /// What trained them.
    pub recipe: String,
    /// safetensors bytes.
    pub weights: Arc<[u8]>,
    /// SHA-256 of `weights`.
    pub digest: Digest,
}

impl PolicySnapshot {
    /// Wraps weights and computes their digest.
    pub fn new(
        version: PolicyVersion,
        parent: Option<PolicyVersion>,
        recipe: impl Into<String>,
        weights: Vec<u8>,
    ) -> Self {
        let digest = Self::digest_of(&weights);
        Self { version, parent, recipe: recipe.into(), weights: weights.into(), digest }
    }

    /// SHA-256 in lower-case hexadecimal.
    pub fn digest_of(weights: &[u8]) -> Digest {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(weights) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Digest(text)
    }

    /// Whether the bytes are those the digest was made of.
    pub fn is_intact(&self) -> bool {
        Self::digest_of(&self.weights) == self.digest
    }
}

/// How far a version has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyState {
    /// Trained and stored, with what the held-out examination said.
    Candidate,
    /// Serving's scores are compared with the trainer's.
    Parity,
    /// Its value is estimated on logged traffic.
    Offline,
    /// It decides live queries without effect.
    Shadow,
    /// It serves a share of the units.
    Canary,
    /// Serves users.
    Champion,
    /// Refused, outdated, rolled back or replaced.
    Retired,
}

impl PolicyState {
    /// The state's name in records and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Parity => "parity",
            Self::Offline => "offline",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Champion => "champion",
            Self::Retired => "retired",
        }
    }

    /// Whether users see what it decides.
    pub fn serves_users(self) -> bool {
        matches!(self, Self::Canary | Self::Champion)
    }
}

/// The record in `regrade.policies`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Schema of this record.
    pub schema: u32,
    /// The version it speaks of.
    pub version: PolicyVersion,
    /// Its parent.
    pub parent: Option<PolicyVersion>,
    /// What trained it.
    pub recipe: String,
    /// Digest of the weights.
    pub digest: Digest,
    /// Where the weights are, in the snapshot store.
    pub uri: String,
    /// Its state from now on.
    pub state: PolicyState,
    /// Share of the units that it serves, for a canary, in (0, 0.5].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Number of this change among the changes of this version, from 1, as its writer saw it. A
    /// change that does not follow the last has no effect, so that of two writers only one goes
    /// on; absent for an operator's word, which always holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// For a champion: the champion whose place it takes, as its writer saw it. A record that was
    /// outrun by another has no effect, so that of two writers only one goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<PolicyVersion>,
    /// Why it was accepted or refused: the gate's report.
    #[serde(default)]
    pub reason: String,
    /// What the stages so far found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<StageEvidence>,
    /// From where the log counts for the stage that begins here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<LogPosition>,
    /// What lets it serve users; it stays with the version when that retires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Box<Certificate>>,
    /// On a champion's record: an alarm keeps everything from being promoted until then,
    /// milliseconds since the Unix epoch, and exploration is widened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm_until_ms: Option<u64>,
    /// When, milliseconds since the Unix epoch.
    pub time_ms: u64,
}

impl PolicyRecord {
    /// A record of a snapshot that says nothing but its state and why.
    pub fn of(snapshot: &PolicySnapshot, state: PolicyState, reason: &str, time_ms: u64) -> Self {
        Self {
            schema: super::SCHEMA_VERSION,
            version: snapshot.version,
            parent: snapshot.parent,
            recipe: snapshot.recipe.clone(),
            digest: snapshot.digest.clone(),
            uri: String::new(),
            state,
            share: None,
            step: None,
            replaces: None,
            reason: reason.to_owned(),
            evidence: Vec::new(),
            from: Vec::new(),
            certificate: None,
            alarm_until_ms: None,
            time_ms,
        }
    }
}

impl PolicyRecord {
    /// Whether this record of a champion takes effect after `champion`: the place it takes is
    /// still that one's, or was never stated.
    pub fn follows(&self, champion: Option<PolicyVersion>) -> bool {
        self.replaces.is_none() || champion.is_none() || self.replaces == champion
    }

    /// The records of champions that took effect, in order; the last is the champion.
    pub fn champions_of(records: &[Self]) -> Vec<&Self> {
        let mut champions: Vec<&Self> = Vec::new();
        for record in records.iter().filter(|record| record.state == PolicyState::Champion) {
            if record.follows(champions.last().map(|champion| champion.version)) {
                champions.push(record);
            }
        }
        champions
    }
}

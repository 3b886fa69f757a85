//! What makes a certificate hold, and what it lets weights do.
//!
//! Knows what is claimed and that a signature fits (by a closure); not how signing works.

use crate::ports::{Seal, Signature};
use crate::types::{
    Certificate, Claims, Digest, PolicyRecord, PolicyState, PolicyVersion, SCHEMA_VERSION,
};
use std::sync::Arc;

/// Issues certificates in the name of this process.
#[derive(Clone)]
pub struct Issuer {
    /// Signs.
    pub seal: Arc<dyn Seal>,
    /// SHA-256 of the rules in force.
    pub config: Digest,
    /// This process.
    pub node: String,
}

impl Issuer {
    /// A certificate over the evidence that a record carries.
    ///
    /// # Errors
    /// No key, or figures that have no JSON form.
    pub fn certificate(
        &self,
        record: &PolicyRecord,
        (grants, share): (PolicyState, Option<f64>),
        champion: Option<PolicyVersion>,
        now_ms: u64,
    ) -> Result<Certificate, String> {
        let claims = Claims {
            schema: SCHEMA_VERSION,
            version: record.version,
            parent: record.parent,
            digest: record.digest.clone(),
            recipe: record.recipe.clone(),
            grants,
            share,
            champion,
            stages: record.evidence.clone(),
            config: self.config.clone(),
            code: env!("CARGO_PKG_VERSION").to_owned(),
            issuer: self.node.clone(),
            issued_ms: now_ms,
        };
        let Signature { key, signature } =
            self.seal.sign(&claims.signed_bytes()?).map_err(|error| error.to_string())?;
        Ok(Certificate { claims, key, signature })
    }
}

impl Claims {
    /// The bytes that are signed: compact JSON in the order of the fields.
    ///
    /// # Errors
    /// A figure that is not finite has no JSON form.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| format!("cannot write the claims: {error}"))
    }
}

/// What serving asks a certificate for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grant {
    /// To serve this share of the units.
    Canary(f64),
    /// To serve everybody.
    Champion,
}

/// Why weights may not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is none.
    #[error(
        "it has no certificate; promote it with a certificate, or start with \
             `service.promotion.allow_uncertified = true`"
    )]
    Missing,
    /// It is about other weights.
    #[error("its certificate is for digest {found}, the weights have {expected}")]
    OtherWeights {
        /// Digest in the claims.
        found: Digest,
        /// Digest of the weights.
        expected: Digest,
    },
    /// It does not reach so far.
    #[error("its certificate grants {found}, it is to be {asked}")]
    NotGranted {
        /// What it grants.
        found: String,
        /// What was asked.
        asked: String,
    },
    /// A stage says that it was not passed.
    #[error("stage {0} of its certificate was not passed")]
    NotPassed(String),
    /// The signature is not that of a trusted key over these claims.
    #[error("its certificate has no valid signature: {0}")]
    Signature(String),
}

/// Whether the record's certificate lets its weights do what is asked.
///
/// # Errors
/// The first [`Fault`].
pub fn check(
    record: &PolicyRecord,
    asked: Grant,
    verify: impl Fn(&[u8], &Certificate) -> Result<(), String>,
) -> Result<(), Fault> {
    let certificate = record.certificate.as_deref().ok_or(Fault::Missing)?;
    let claims = &certificate.claims;
    if claims.digest != record.digest || claims.version != record.version {
        let (found, expected) = (claims.digest.clone(), record.digest.clone());
        return Err(Fault::OtherWeights { found, expected });
    }
    let granted = match asked {
        Grant::Champion => claims.grants == PolicyState::Champion,
        Grant::Canary(share) => {
            claims.grants == PolicyState::Champion
                || (claims.grants == PolicyState::Canary
                    && claims.share.is_some_and(|granted| share <= granted))
        }
    };
    if !granted {
        let share = claims.share.map(|share| format!(" of {share}")).unwrap_or_default();
        let found = format!("{}{share}", claims.grants.word());
        let asked = match asked {
            Grant::Champion => "champion".to_owned(),
            Grant::Canary(share) => format!("canary of {share}"),
        };
        return Err(Fault::NotGranted { found, asked });
    }
    if let Some(stage) = claims.stages.iter().find(|stage| !stage.passed) {
        return Err(Fault::NotPassed(stage.stage.word().to_owned()));
    }
    let bytes = claims.signed_bytes().map_err(Fault::Signature)?;
    verify(&bytes, certificate).map_err(Fault::Signature)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::types::{PolicySnapshot, PolicyVersion, SCHEMA_VERSION};

    fn record(grants: PolicyState, share: Option<f64>) -> PolicyRecord {
        let snapshot = PolicySnapshot::new(PolicyVersion(4), None, "test", vec![1]);
        let mut record = PolicyRecord::of(&snapshot, PolicyState::Canary, "", 0);
        let claims = Claims {
            schema: SCHEMA_VERSION,
            version: record.version,
            parent: None,
            digest: record.digest.clone(),
            recipe: "test".to_owned(),
            grants,
            share,
            champion: None,
            stages: Vec::new(),
            config: Digest::default(),
            code: String::new(),
            issuer: String::new(),
            issued_ms: 0,
        };
        let signature = format!("{}", claims.signed_bytes().unwrap().len());
        record.certificate = Some(Box::new(Certificate { claims, key: "k".to_owned(), signature }));
        record
    }

    /// The signature here is the length of what is signed.
    fn verify(bytes: &[u8], certificate: &Certificate) -> Result<(), String> {
        if certificate.signature == bytes.len().to_string() { Ok(()) } else { Err("no".to_owned()) }
    }

    #[test]
    fn a_certificate_grants_what_it_says_and_less() {
        let canary = record(PolicyState::Canary, Some(0.05));
        assert_eq!(check(&canary, Grant::Canary(0.01), verify), Ok(()));
        assert_eq!(check(&canary, Grant::Canary(0.05), verify), Ok(()));
        let fault = check(&canary, Grant::Canary(0.25), verify).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "its certificate grants canary of 0.05, it is to be canary of 0.25"
        );
        assert!(check(&canary, Grant::Champion, verify).is_err());
        let champion = record(PolicyState::Champion, None);
        assert_eq!(check(&champion, Grant::Champion, verify), Ok(()));
        assert_eq!(check(&champion, Grant::Canary(0.5), verify), Ok(()));
    }

    #[test]
    fn none_another_digest_a_changed_claim_and_a_failed_stage_are_refused() {
        let bare = PolicyRecord { certificate: None, ..record(PolicyState::Champion, None) };
        assert_eq!(check(&bare, Grant::Champion, verify), Err(Fault::Missing));
        let mut other = record(PolicyState::Champion, None);
        other.digest = Digest("ff".to_owned());
        let fault = check(&other, Grant::Champion, verify).unwrap_err();
        assert!(matches!(fault, Fault::OtherWeights { .. }), "{fault}");
        let mut changed = record(PolicyState::Champion, None);
        changed.certificate.as_mut().unwrap().claims.issuer = "mallory".to_owned();
        let fault = check(&changed, Grant::Champion, verify).unwrap_err();
        assert!(matches!(fault, Fault::Signature(_)), "{fault}");
    }
}

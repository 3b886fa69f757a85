//! Newtypes for every identifier and version, and the seeded source of new ids.

use rand::Rng;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// Borrows the identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self(value.to_owned())
            }
        }
    };
}

string_id! {
    /// Names one query; with its source it is the key under which repeats are dropped.
    QueryId
}
string_id! {
    /// Names one decision of the policy; feedback refers to it.
    DecisionId
}
string_id! {
    /// Names one retrievable document (a passage).
    DocumentId
}
string_id! {
    /// Lower-case hexadecimal SHA-256 of a snapshot's weights.
    Digest
}

/// Number of a set of policy weights; 0 is the untrained policy a service starts with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PolicyVersion(pub u64);

impl From<u64> for PolicyVersion {
    fn from(version: u64) -> Self {
        Self(version)
    }
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Draws a fresh identifier: `prefix-` and 24 hexadecimal digits from the caller's generator.
///
/// Randomness is an argument so that a seeded simulation repeats its ids.
pub fn next_id(prefix: &str, rng: &mut impl Rng) -> String {
    format!("{prefix}-{:016x}{:08x}", rng.random::<u64>(), rng.random::<u32>())
}

//! Where weights are kept.

use crate::types::{PolicySnapshot, PolicyVersion};
use async_trait::async_trait;

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No such version.
    #[error("no snapshot {0} in the store")]
    Missing(PolicyVersion),
    /// The bytes are not those that were published: torn, or changed.
    #[error("snapshot {version} is damaged: {reason}")]
    Damaged {
        /// Version.
        version: PolicyVersion,
        /// What does not fit.
        reason: String,
    },
    /// A version is written once; these bytes differ from those stored.
    #[error("snapshot {0} exists with other weights")]
    Conflict(PolicyVersion),
    /// The store cannot be reached or is full.
    #[error("snapshot store is unavailable: {0}")]
    Unavailable(String),
}

/// A store of immutable snapshots by version.
#[async_trait]
pub trait SnapshotStore: Send + Sync {
    /// Writes a snapshot, visible only when complete; the same one again is no error. Gives its
    /// URI.
    async fn put(&self, snapshot: &PolicySnapshot) -> Result<String, SnapshotError>;

    /// Reads a snapshot and checks its digest.
    async fn get(&self, version: PolicyVersion) -> Result<PolicySnapshot, SnapshotError>;

    /// Complete versions, ascending.
    async fn list(&self) -> Result<Vec<PolicyVersion>, SnapshotError>;

    /// Removes a version; a missing one is no error.
    async fn delete(&self, version: PolicyVersion) -> Result<(), SnapshotError>;
}

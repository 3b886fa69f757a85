//! Snapshots in an object store: `ports::SnapshotStore` on the `object_store` crate.
//!
//! A version is two objects, `policies/<version>/<digest>.safetensors` and
//! `policies/<version>/manifest.json`. The manifest is created last, after the weights were read back,
//! and only if there is none: it makes the version visible, and of several writers one wins. Knows no
//! model; `place` knows which stores there are.

mod place;

pub use place::{PlaceError, SnapshotLimits, StoreOptions, check, environment};

use actors::ports::{SnapshotError, SnapshotStore};
use actors::types::{Digest, PolicySnapshot, PolicyVersion};
use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use url::Url;

const FOLDER: &str = "policies";
const MANIFEST: &str = "manifest.json";

/// What makes a version complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: PolicyVersion,
    parent: Option<PolicyVersion>,
    recipe: String,
    digest: Digest,
    bytes: u64,
}

/// Snapshots below one URL.
#[derive(Debug, Clone)]
pub struct ObjectSnapshots {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// The URL as given, without a slash at the end.
    url: String,
}

impl ObjectSnapshots {
    /// Opens the store at `url` as the environment describes it, within the default limits.
    ///
    /// # Errors
    /// A URL that names no store, or a store that cannot be set up.
    pub fn open(url: &str) -> Result<Self, SnapshotError> {
        let limits = SnapshotLimits::default();
        Self::open_with(url, &StoreOptions::default(), &limits, &environment())
    }

    /// Opens the store at `url`: `options` over `environment` over the store's own defaults. No
    /// request is made yet.
    ///
    /// # Errors
    /// As [`PlaceError`] says.
    pub fn open_with(
        url: &str,
        options: &StoreOptions,
        limits: &SnapshotLimits,
        environment: &[(String, String)],
    ) -> Result<Self, SnapshotError> {
        let (store, root) = place::open(url, options, limits, environment)
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(Self::on(store, root, url))
    }

    /// Opens a local folder, made if missing.
    pub fn in_folder(folder: &std::path::Path) -> Result<Self, SnapshotError> {
        let place = folder.display();
        let absolute = std::path::absolute(folder)
            .map_err(|error| unavailable(format!("cannot resolve folder `{place}`: {error}")))?;
        let url = Url::from_file_path(absolute)
            .map_err(|()| unavailable(format!("folder `{place}` makes no URL")))?;
        Self::open(url.as_str())
    }

    /// Snapshots in memory, for tests and simulations.
    pub fn in_memory() -> Self {
        Self::on(Arc::new(object_store::memory::InMemory::new()), Path::default(), "memory:")
    }

    fn on(store: Arc<dyn ObjectStore>, root: Path, url: &str) -> Self {
        Self { store, root, url: url.trim_end_matches('/').to_owned() }
    }

    fn folder(&self) -> Path {
        self.root.clone().join(FOLDER)
    }

    fn manifest_path(&self, version: PolicyVersion) -> Path {
        self.folder().join(version.0.to_string()).join(MANIFEST)
    }

    fn weights_path(&self, version: PolicyVersion, digest: &Digest) -> Path {
        self.folder().join(version.0.to_string()).join(format!("{digest}.safetensors"))
    }

    fn uri(&self, version: PolicyVersion, digest: &Digest) -> String {
        format!("{}/{FOLDER}/{}/{digest}.safetensors", self.url, version.0)
    }

    async fn manifest(&self, version: PolicyVersion) -> Result<Option<Manifest>, SnapshotError> {
        let Some(bytes) = self.read(&self.manifest_path(version)).await? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(version, format!("its manifest cannot be read: {error}")))?;
        if manifest.version != version {
            return Err(damaged(version, format!("its manifest names {}", manifest.version)));
        }
        Ok(Some(manifest))
    }

    /// The bytes of an object, `None` where there is none.
    async fn read(&self, path: &Path) -> Result<Option<bytes::Bytes>, SnapshotError> {
        let found = match self.store.get(path).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable(format!("cannot read `{path}`: {error}"))),
        }
    }
}

#[async_trait]
impl SnapshotStore for ObjectSnapshots {
    async fn put(&self, snapshot: &PolicySnapshot) -> Result<String, SnapshotError> {
        let version = snapshot.version;
        if !snapshot.is_intact() {
            return Err(damaged(version, "its weights do not have its digest".to_owned()));
        }
        let uri = self.uri(version, &snapshot.digest);
        let manifest = Manifest {
            version,
            parent: snapshot.parent,
            recipe: snapshot.recipe.clone(),
            digest: snapshot.digest.clone(),
            bytes: snapshot.weights.len() as u64,
        };
        match self.manifest(version).await? {
            Some(stored) if stored == manifest => return Ok(uri),
            Some(_) => return Err(SnapshotError::Conflict(version)),
            None => {}
        }
        // Named by digest, so that two writers of one version cannot mix their bytes.
        let weights = self.weights_path(version, &snapshot.digest);
        self.store
            .put(&weights, bytes::Bytes::from_owner(Arc::clone(&snapshot.weights)).into())
            .await
            .map_err(|error| unavailable(format!("cannot write `{weights}`: {error}")))?;
        // Without a manifest these bytes are nobody's: what does not come back as it was sent is
        // never a version.
        let stored = self.read(&weights).await?.unwrap_or_default();
        if PolicySnapshot::digest_of(&stored) != snapshot.digest {
            let reason = format!("`{weights}` came back with {} other bytes", stored.len());
            return Err(damaged(version, reason));
        }
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| unavailable(format!("cannot encode a manifest: {error}")))?;
        let path = self.manifest_path(version);
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&path, text.into(), options).await {
            Ok(_) => Ok(uri),
            Err(object_store::Error::AlreadyExists { .. }) => match self.manifest(version).await? {
                Some(stored) if stored == manifest => Ok(uri),
                _ => Err(SnapshotError::Conflict(version)),
            },
            Err(error) => Err(unavailable(format!("cannot write `{path}`: {error}"))),
        }
    }

    async fn get(&self, version: PolicyVersion) -> Result<PolicySnapshot, SnapshotError> {
        let manifest = self.manifest(version).await?.ok_or(SnapshotError::Missing(version))?;
        let path = self.weights_path(version, &manifest.digest);
        let weights = self
            .read(&path)
            .await?
            .ok_or_else(|| damaged(version, format!("`{path}` is missing")))?;
        if weights.len() as u64 != manifest.bytes {
            let reason =
                format!("`{path}` has {} bytes, {} were written", weights.len(), manifest.bytes);
            return Err(damaged(version, reason));
        }
        let snapshot = PolicySnapshot {
            version,
            parent: manifest.parent,
            recipe: manifest.recipe,
            weights: weights.to_vec().into(),
            digest: manifest.digest,
        };
        if !snapshot.is_intact() {
            return Err(damaged(version, format!("`{path}` does not have its digest")));
        }
        Ok(snapshot)
    }

    async fn list(&self) -> Result<Vec<PolicyVersion>, SnapshotError> {
        let folder = self.folder();
        let objects: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|error| unavailable(format!("cannot list `{folder}`: {error}")))?;
        let mut versions: Vec<PolicyVersion> = objects
            .iter()
            .filter_map(|object| {
                let mut parts = object.location.prefix_match(&folder)?;
                let version = parts.next()?.as_ref().parse().ok()?;
                (parts.next()?.as_ref() == MANIFEST).then_some(PolicyVersion(version))
            })
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    async fn delete(&self, version: PolicyVersion) -> Result<(), SnapshotError> {
        // The manifest first: a half-deleted version is invisible, not damaged.
        self.remove(&self.manifest_path(version)).await?;
        let folder = self.folder().join(version.0.to_string());
        let objects: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|error| unavailable(format!("cannot list `{folder}`: {error}")))?;
        for object in objects {
            self.remove(&object.location).await?;
        }
        Ok(())
    }
}

impl ObjectSnapshots {
    async fn remove(&self, path: &Path) -> Result<(), SnapshotError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable(format!("cannot remove `{path}`: {error}"))),
        }
    }
}

fn unavailable(reason: String) -> SnapshotError {
    SnapshotError::Unavailable(reason)
}

fn damaged(version: PolicyVersion, reason: String) -> SnapshotError {
    SnapshotError::Damaged { version, reason }
}

#[cfg(test)]
mod tests;

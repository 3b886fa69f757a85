//! A policy on disk outside the service: `policy.safetensors` and `policy.json` in one folder.
//!
//! What `regrade train` writes and `regrade evaluate` and `regrade policy export` read. Written to a
//! temporary name first, so a folder is whole or absent.

use actors::types::{Digest, PolicySnapshot, PolicyVersion};
use serde::{Deserialize, Serialize};
use std::path::Path;

const WEIGHTS: &str = "policy.safetensors";
const MANIFEST: &str = "policy.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: PolicyVersion,
    parent: Option<PolicyVersion>,
    recipe: String,
    digest: Digest,
}

/// Why a policy folder could not be read or written; the text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFolderError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is not what this build writes.
    #[error("{path} is not a policy manifest: {reason}")]
    Manifest {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The weights are not those of the manifest.
    #[error("{path} does not have the digest its manifest states; export the policy again")]
    Digest {
        /// The file.
        path: String,
    },
}

/// Whether the folder holds a policy (and not, say, a model).
pub fn is_policy_folder(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// Writes a snapshot.
pub fn write(folder: &Path, snapshot: &PolicySnapshot) -> Result<(), PolicyFolderError> {
    let io = |path: &Path, source| PolicyFolderError::Io {
        action: "write",
        path: path.display().to_string(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
    let manifest = Manifest {
        version: snapshot.version,
        parent: snapshot.parent,
        recipe: snapshot.recipe.clone(),
        digest: snapshot.digest.clone(),
    };
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(|e| io(folder, e.into()))?;
    for (name, bytes) in [(WEIGHTS, &snapshot.weights[..]), (MANIFEST, &manifest[..])] {
        let (path, partial) = (folder.join(name), folder.join(format!("{name}.partial")));
        std::fs::write(&partial, bytes).map_err(|e| io(&partial, e))?;
        std::fs::rename(&partial, &path).map_err(|e| io(&path, e))?;
    }
    Ok(())
}

/// Reads a snapshot and checks its digest.
pub fn read(folder: &Path) -> Result<PolicySnapshot, PolicyFolderError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|source| PolicyFolderError::Io {
            action: "read",
            path: path.display().to_string(),
            source,
        })
    };
    let manifest: Manifest = serde_json::from_slice(&read(MANIFEST)?).map_err(|error| {
        let path = folder.join(MANIFEST).display().to_string();
        PolicyFolderError::Manifest { path, reason: error.to_string() }
    })?;
    let weights = read(WEIGHTS)?;
    if PolicySnapshot::digest_of(&weights) != manifest.digest {
        return Err(PolicyFolderError::Digest { path: folder.join(WEIGHTS).display().to_string() });
    }
    Ok(PolicySnapshot::new(manifest.version, manifest.parent, manifest.recipe, weights))
}

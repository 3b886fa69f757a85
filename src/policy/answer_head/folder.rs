//! An answer head on disk: `answer_head.safetensors` and `answer_head.json` in one folder.
//!
//! A head that shares weights lies in the folder of its policy, so one folder is both to who looks.
//! Written to a temporary name first, so a file is whole or absent. Knows no policy's contents.

use super::weights::shared_with;
use super::{AnswerHead, WeightsError, from_bytes, to_bytes};
use crate::policy::policy_folder::{self, PolicyFolderError};
use crate::policy::serving;
use actors::types::{Digest, PolicySnapshot};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "answer_head.safetensors";
const MANIFEST: &str = "answer_head.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// How it was trained.
    recipe: String,
    /// Digest of the weights.
    digest: Digest,
    /// Digest of the reader's weights that it was trained on.
    reader: Digest,
}

/// Why an answer head could not be read or written; the text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum AnswerFolderError {
    /// A file cannot be read or written.
    #[error(
        "cannot {action} {path}: {source}; an answer head is a folder that \
             `regrade train-generator` wrote"
    )]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is not what this build writes.
    #[error("{path} is not the manifest of an answer head: {reason}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The weights are not those of the manifest.
    #[error("{path} does not have the digest its manifest states; train the generator again")]
    Digest {
        /// The file.
        path: PathBuf,
    },
    /// The head was trained on another reader.
    #[error(
        "the answer head in {folder} was trained on the reader {expected}, and {found} was given; \
         name that reader's folder in `generator.model`, or train the generator on this one"
    )]
    Reader {
        /// The folder.
        folder: PathBuf,
        /// Digest of the reader it was trained on.
        expected: Digest,
        /// Digest of the reader given.
        found: Digest,
    },
    /// The weights do not fit.
    #[error("cannot use {path}: {source}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WeightsError,
    },
    /// The policy that the head shares weights with cannot be read.
    #[error("cannot read the policy that the answer head shares weights with: {0}")]
    Policy(#[from] PolicyFolderError),
}

/// Writes an answer head trained on `reader` by `recipe`, and the policy that it shares its head
/// with, where it does: then `head`'s list-aware part must be that policy's. Returns the digest of
/// the answer head's weights.
///
/// # Errors
/// Weights that are not finite, or a file that cannot be written.
pub fn write(
    folder: &Path,
    head: &AnswerHead,
    (recipe, reader): (&str, &Digest),
    policy: Option<&PolicySnapshot>,
) -> Result<Digest, AnswerFolderError> {
    let path = folder.join(WEIGHTS);
    let weights = to_bytes(head, policy.map(|policy| &policy.digest))
        .map_err(|source| AnswerFolderError::Weights { path: path.clone(), source })?;
    if let Some(policy) = policy {
        policy_folder::write(folder, policy)?;
    }
    let io = |path: &Path, source| AnswerFolderError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
    let digest = PolicySnapshot::digest_of(&weights);
    let manifest =
        Manifest { recipe: recipe.to_owned(), digest: digest.clone(), reader: reader.clone() };
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(|e| io(folder, e.into()))?;
    for (name, bytes) in [(WEIGHTS, weights), (MANIFEST, manifest)] {
        let (path, partial) = (folder.join(name), folder.join(format!("{name}.partial")));
        std::fs::write(&partial, bytes).map_err(|e| io(&partial, e))?;
        std::fs::rename(&partial, &path).map_err(|e| io(&path, e))?;
    }
    Ok(digest)
}

/// Reads an answer head for a reader; checks its digest and that it was trained on this reader.
///
/// # Errors
/// As [`AnswerFolderError`] says.
pub fn read(
    folder: &Path,
    reader: &Digest,
    device: &Device,
) -> Result<AnswerHead, AnswerFolderError> {
    let file = |name: &str| {
        let path = folder.join(name);
        let bytes = std::fs::read(&path);
        bytes.map_err(|source| AnswerFolderError::Io { action: "read", path, source })
    };
    let manifest: Manifest = serde_json::from_slice(&file(MANIFEST)?).map_err(|error| {
        AnswerFolderError::Manifest { path: folder.join(MANIFEST), reason: error.to_string() }
    })?;
    let (path, bytes) = (folder.join(WEIGHTS), file(WEIGHTS)?);
    if PolicySnapshot::digest_of(&bytes) != manifest.digest {
        return Err(AnswerFolderError::Digest { path });
    }
    if manifest.reader != *reader {
        let (folder, found) = (folder.to_owned(), reader.clone());
        return Err(AnswerFolderError::Reader { folder, expected: manifest.reader, found });
    }
    let wrong = |source| AnswerFolderError::Weights { path: path.clone(), source };
    if shared_with(&bytes).map_err(wrong)?.is_none() {
        return from_bytes(&bytes, None, device).map_err(wrong);
    }
    let policy = policy_folder::read(folder)?;
    let weights = serving::from_bytes(&policy.weights, device)
        .map_err(|error| wrong(WeightsError(error.to_string())))?;
    if weights.trunk.is_some() {
        let reason =
            "its policy has a trunk of its own, and a generator reads with the model folder";
        return Err(wrong(WeightsError(reason.to_owned())));
    }
    from_bytes(&bytes, Some((&weights.head, &policy.digest)), device).map_err(wrong)
}

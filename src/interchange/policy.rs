//! A policy trained elsewhere: its tensors under our names, checked, as a snapshot that can serve.
//!
//! The file is safetensors with `head.*` and, where the encoder was trained too, `trunk.*`, in f32,
//! f16 or bf16. Sizes come from the file's own header, or from a policy that it was made from where
//! the trainer dropped it. Knows no service.

use super::FileError;
use super::names::{Header, Mismatch};
use super::parity::ParityError;
use crate::policy::head::{Head, HeadConfig, Prior};
use crate::policy::model_folder::{self, ModelFolderError};
use crate::policy::serving::{self, LAYOUT, PolicyWeights};
use actors::types::{PolicySnapshot, PolicyVersion};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Starts the lineage of whatever was not trained here.
pub const LINEAGE: &str = "imported/";
/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 64;

/// Why weights were not imported; nothing is kept then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model folder cannot be read or written.
    #[error(transparent)]
    Folder(#[from] ModelFolderError),
    /// The name is no part of a lineage.
    #[error(
        "name `{0}`: expected 1 to 64 letters, digits, `.`, `_` or `-`, as in `minilm-2026-11`"
    )]
    Name(String),
    /// Sizes are not known.
    #[error(
        "{path} does not say which sizes its head has (no `regrade` in its metadata): give the \
         policy it was made from with --like"
    )]
    NoHeader {
        /// The file.
        path: PathBuf,
    },
    /// The file is for another build.
    #[error("{path}: {reason}")]
    Unsuited {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Tensors do not fit.
    #[error("the tensors of {path} do not fit: {mismatch}")]
    Tensors {
        /// The file.
        path: PathBuf,
        /// All of it.
        mismatch: Mismatch,
    },
    /// It does not compute what it computes elsewhere.
    #[error(transparent)]
    Parity(#[from] ParityError),
}

/// The lineage of a name: `imported/<name>`.
///
/// # Errors
/// A name that is empty, long, or holds anything but letters, digits, `.`, `_` and `-`.
pub fn lineage(name: &str) -> Result<String, ImportError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain);
    match is_name {
        true => Ok(format!("{LINEAGE}{name}")),
        false => Err(ImportError::Name(name.to_owned())),
    }
}

/// What a file of weights says of itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    layout: String,
    head: HeadConfig,
}

/// Reads and checks weights, and makes a snapshot of them: the version after `parent`, or 1.
///
/// `like` gives the sizes where the file does not. Every tensor is f32 afterwards.
///
/// # Errors
/// A name that is none, a file that cannot be read, another layout, tensors that are missing,
/// superfluous, of another shape or type, or not finite.
pub fn read(
    path: &Path,
    name: &str,
    like: Option<&PolicyWeights>,
    parent: Option<PolicyVersion>,
) -> Result<(PolicySnapshot, PolicyWeights), ImportError> {
    let recipe = lineage(name)?;
    let header = Header::read(path)?;
    let unsuited = |reason: String| ImportError::Unsuited { path: path.to_owned(), reason };
    let sizes = sizes(&header, path, like)?;
    let scalars = crate::policy::features::SCALARS.len();
    if sizes.scalars != scalars {
        let found = sizes.scalars;
        return Err(unsuited(format!(
            "its head takes {found} scalar features, expected {scalars}"
        )));
    }
    check_names(path, &header, &sizes)?;
    let (tensors, _) = model_folder::read_tensors(path)?;
    let (mut head, mut trunk) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in tensors {
        match name.split_once('.') {
            Some(("head", rest)) => head.insert(rest.to_owned(), tensor),
            Some((_, rest)) => trunk.insert(rest.to_owned(), tensor),
            None => None,
        };
    }
    let head = Head::from_tensors(sizes, head).map_err(unsuited)?;
    let trunk = (!trunk.is_empty()).then(|| Arc::new(trunk));
    // A gate is trained here with its selection; none comes from elsewhere.
    let weights = PolicyWeights { head, trunk, turn: None };
    // Refuses what is not finite, naming the tensor.
    let bytes = serving::to_bytes(&weights).map_err(unsuited)?;
    let version = PolicyVersion(parent.map_or(0, |parent| parent.0) + 1);
    Ok((PolicySnapshot::new(version, parent, recipe, bytes), weights))
}

fn sizes(
    header: &Header,
    path: &Path,
    like: Option<&PolicyWeights>,
) -> Result<HeadConfig, ImportError> {
    let Some(text) = header.metadata.get("regrade") else {
        let sizes = like.map(|like| like.head.config().clone());
        return sizes.ok_or_else(|| ImportError::NoHeader { path: path.to_owned() });
    };
    let unsuited = |reason: String| ImportError::Unsuited { path: path.to_owned(), reason };
    let sizes: Sizes = serde_json::from_str(text)
        .map_err(|error| unsuited(format!("its `regrade` metadata is not ours: {error}")))?;
    if sizes.layout != LAYOUT {
        let layout = sizes.layout;
        return Err(unsuited(format!("it has state layout `{layout}`, expected `{LAYOUT}`")));
    }
    let config = sizes.head;
    if config.attention_heads == 0 || !config.hidden.is_multiple_of(config.attention_heads) {
        let HeadConfig { attention_heads, hidden, .. } = config;
        return Err(unsuited(format!("{attention_heads} attention heads do not divide {hidden}")));
    }
    Ok(config)
}

/// Everything that is wrong with the head's names at once. What a trunk may hold is known to the
/// encoder that it goes into, which checks it when the policy is first loaded.
fn check_names(path: &Path, header: &Header, sizes: &HeadConfig) -> Result<(), ImportError> {
    let prior = Prior { scores: vec![0.0; sizes.scalars], stop: 0.0 };
    let model = Head::init(sizes.clone(), &prior, 0, &Device::Cpu).map_err(|error| {
        ImportError::Unsuited { path: path.to_owned(), reason: error.to_string() }
    })?;
    let shape =
        |(name, tensor): (&String, &Tensor)| (format!("head.{name}"), tensor.dims().to_vec());
    let mut expected: BTreeMap<String, Vec<usize>> = model.tensors().iter().map(shape).collect();
    for (name, (_, shape)) in &header.tensors {
        if name.starts_with("trunk.") {
            expected.insert(name.clone(), shape.clone());
        }
    }
    let mismatch = Mismatch::of(&expected, &header.tensors);
    match mismatch.is_empty() {
        true => Ok(()),
        false => Err(ImportError::Tensors { path: path.to_owned(), mismatch }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::super::names::saved::save;
    use super::*;
    use candle_core::DType;
    use std::collections::HashMap;

    fn weights(seed: u64) -> PolicyWeights {
        PolicyWeights::untrained(4, seed, &Device::Cpu).unwrap()
    }

    /// A file as another trainer saves it.
    fn saved(path: &Path, weights: &PolicyWeights, dtype: DType, has_header: bool) {
        let name = |(name, tensor): (&String, &Tensor)| {
            (format!("head.{name}"), tensor.to_dtype(dtype).unwrap())
        };
        let tensors: HashMap<String, Tensor> = weights.head.tensors().iter().map(name).collect();
        let sizes = serde_json::json!({ "layout": LAYOUT, "head": weights.head.config() });
        let header = HashMap::from([("regrade".to_owned(), sizes.to_string())]);
        save(path, &tensors, has_header.then_some(header));
    }

    fn largest_difference(a: &PolicyWeights, b: &PolicyWeights) -> f32 {
        let pairs = a.head.tensors().values().zip(b.head.tensors().values());
        pairs
            .map(|(a, b)| {
                let apart = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
                apart.max(0).unwrap().to_scalar::<f32>().unwrap()
            })
            .fold(0.0, f32::max)
    }

    #[test]
    fn weights_of_any_float_type_come_in_as_the_same_policy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs.safetensors");
        let original = weights(7);
        for (dtype, bound) in [(DType::F32, 0.0), (DType::F16, 2e-3), (DType::BF16, 1e-2)] {
            saved(&path, &original, dtype, true);
            let (snapshot, read) = read(&path, "lab.1", None, Some(PolicyVersion(4))).unwrap();
            assert_eq!(
                (snapshot.version, snapshot.parent),
                (PolicyVersion(5), Some(PolicyVersion(4)))
            );
            assert_eq!(snapshot.recipe, "imported/lab.1");
            assert!(largest_difference(&original, &read) <= bound, "{dtype:?}");
            serving::from_snapshot(&snapshot, &Device::Cpu).unwrap();
        }
    }

    #[test]
    fn sizes_come_from_a_policy_like_it_where_the_file_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs.safetensors");
        let original = weights(7);
        saved(&path, &original, DType::F32, false);
        let error = read(&path, "lab", None, None).unwrap_err().to_string();
        assert!(error.contains("with --like"), "{error}");
        let (snapshot, _) = read(&path, "lab", Some(&weights(1)), None).unwrap();
        assert_eq!(snapshot.version, PolicyVersion(1));
        // Equal weights have equal bytes, whoever wrote them.
        let ours = serving::to_bytes(&original).unwrap();
        assert_eq!(snapshot.digest, PolicySnapshot::digest_of(&ours));
    }

    #[test]
    fn everything_that_does_not_fit_is_listed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs.safetensors");
        let mut tensors: HashMap<String, Tensor> = weights(7)
            .head
            .tensors()
            .iter()
            .map(|(name, tensor)| (format!("head.{name}"), tensor.clone()))
            .collect();
        tensors.remove("head.score.weight");
        let odd = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
        tensors.insert("head.stop.bias".to_owned(), odd.clone());
        tensors.insert("optimizer.step".to_owned(), odd.to_dtype(DType::I64).unwrap());
        save(&path, &tensors, None);
        let error = read(&path, "lab", Some(&weights(1)), None).unwrap_err().to_string();
        for part in [
            "1 missing: head.score.weight [64]",
            "1 superfluous: optimizer.step",
            "head.stop.bias [3], expected [1]",
        ] {
            assert!(error.contains(part), "{part} not in: {error}");
        }
    }

    #[test]
    fn weights_that_are_not_finite_and_names_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs.safetensors");
        let original = weights(7);
        let mut tensors = original.head.tensors().clone();
        let nan = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
        tensors.insert("stop.bias".to_owned(), nan);
        let head = Head::from_tensors(original.head.config().clone(), tensors).unwrap();
        saved(&path, &PolicyWeights { head, trunk: None, turn: None }, DType::F32, true);
        let error = read(&path, "lab", None, None).unwrap_err().to_string();
        assert!(error.contains("head.stop.bias") && error.contains("NaN"), "{error}");
        for name in ["", "a/b", "a b", &"x".repeat(65)] {
            assert!(matches!(read(&path, name, None, None), Err(ImportError::Name(_))), "{name}");
        }
        std::fs::write(&path, b"not weights").unwrap();
        let error = read(&path, "lab", None, None).unwrap_err().to_string();
        assert!(error.contains("expected a safetensors file"), "{error}");
    }
}

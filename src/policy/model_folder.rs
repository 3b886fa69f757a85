//! A model on disk: `config.json`, `tokenizer.json`, `model.safetensors`.
//!
//! Owns reading and writing of that folder, in f32, f16, bf16 and a compact form: tensor `X` as I8
//! rows with `X.scale`, one f32 a row, so that `weight[r, c] = X[r, c] * X.scale[r]`. Knows no
//! forward pass. In memory every weight is f32 and named without a leading `bert.`; on disk the
//! encoder's weights carry it.

#[cfg(feature = "hub")]
pub mod hub;
mod tensors;
mod write;

pub use write::{Precision, write_folder, write_tensors};

use super::encoder::EncoderConfig;
use actors::types::{Digest, PolicySnapshot};
use candle_core::{Device, Tensor};
use safetensors::tensor::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Dimensions of the encoder.
pub const CONFIG_FILE: &str = "config.json";
/// Text to tokens, in the format of the `tokenizers` library.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// Why a model folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelFolderError {
    /// A file is absent.
    #[error(
        "model folder {folder} has no {file}; it needs config.json, tokenizer.json and \
         model.safetensors, as the Hugging Face hub has them"
    )]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// A file cannot be read or written.
    #[error("cannot access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("cannot understand {path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor does not fit.
    #[error("tensor `{name}` in {path}: {reason}")]
    Tensor {
        /// Name in the file.
        name: String,
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A download from the hub failed.
    #[error("cannot fetch {file} of {repository} from the hub: {reason}")]
    Hub {
        /// Model repository, `owner/name`.
        repository: String,
        /// File asked for.
        file: &'static str,
        /// Why.
        reason: String,
    },
}

/// A loaded model folder.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Where it was.
    pub path: PathBuf,
    /// Dimensions.
    pub config: EncoderConfig,
    /// Tokenizer without truncation or padding: callers lay out their own sequences.
    pub tokenizer: Tokenizer,
    /// Every tensor of the file as f32, names without `bert.`.
    pub tensors: BTreeMap<String, Tensor>,
    /// SHA-256 of `model.safetensors`.
    pub digest: Digest,
}

impl ModelFolder {
    /// Reads a folder and checks that the encoder's tensors are there with their shapes.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ModelFolderError> {
        let config_path = folder.join(CONFIG_FILE);
        let malformed = |path: &Path, reason: String| ModelFolderError::Malformed {
            path: path.to_path_buf(),
            reason,
        };
        let config: EncoderConfig = serde_json::from_slice(&read(folder, CONFIG_FILE)?)
            .map_err(|error| malformed(&config_path, error.to_string()))?;
        config.check().map_err(|error| malformed(&config_path, error.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(read(folder, TOKENIZER_FILE)?)
            .map_err(|error| malformed(&folder.join(TOKENIZER_FILE), error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| malformed(&folder.join(TOKENIZER_FILE), error.to_string()))?;
        let bytes = read(folder, WEIGHTS_FILE)?;
        let weights_path = folder.join(WEIGHTS_FILE);
        let tensors = tensors::parse(&bytes, &weights_path, device)?;
        check_encoder(&config, &tensors, &weights_path)?;
        let digest = PolicySnapshot::digest_of(&bytes);
        Ok(Self { path: folder.to_path_buf(), config, tokenizer, tensors, digest })
    }

    /// The tensor of this name, or an error that names it, the shape and the file.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<&Tensor, ModelFolderError> {
        find(&self.tensors, name, shape, &self.path.join(WEIGHTS_FILE))
    }
}

/// Tensors by name, and what the file says of itself.
pub type TensorFile = (BTreeMap<String, Tensor>, HashMap<String, String>);

/// Reads a file of [`write_tensors`]: tensors and metadata.
pub fn read_tensors(path: &Path) -> Result<TensorFile, ModelFolderError> {
    let bytes = std::fs::read(path)
        .map_err(|source| ModelFolderError::Io { path: path.to_path_buf(), source })?;
    let tensors = tensors::parse(&bytes, path, &Device::Cpu)?;
    // `parse` has read the header already, so this one is sound.
    let header = SafeTensors::read_metadata(&bytes).map(|(_, header)| header);
    let metadata = header.ok().and_then(|header| header.metadata().clone());
    Ok((tensors, metadata.unwrap_or_default()))
}

fn find<'a>(
    tensors: &'a BTreeMap<String, Tensor>,
    name: &str,
    shape: &[usize],
    path: &Path,
) -> Result<&'a Tensor, ModelFolderError> {
    let wrong = |reason: String| ModelFolderError::Tensor {
        name: name.to_owned(),
        path: path.to_path_buf(),
        reason,
    };
    let Some(tensor) = tensors.get(name) else {
        return Err(wrong(format!("missing; expected shape {shape:?}")));
    };
    if tensor.dims() != shape {
        return Err(wrong(format!("expected shape {shape:?}, found {:?}", tensor.dims())));
    }
    Ok(tensor)
}

fn check_encoder(
    config: &EncoderConfig,
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<(), ModelFolderError> {
    for (name, shape) in config.shapes() {
        find(tensors, &name, &shape, path)?;
    }
    Ok(())
}

fn read(folder: &Path, file: &'static str) -> Result<Vec<u8>, ModelFolderError> {
    let path = folder.join(file);
    std::fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            ModelFolderError::MissingFile { folder: folder.to_path_buf(), file }
        }
        _ => ModelFolderError::Io { path, source },
    })
}

#[cfg(test)]
mod tests;

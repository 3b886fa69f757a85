//! Writing a model folder, exact or compact.
//!
//! Knows no forward pass. Files are written beside their place and renamed, so that a reader never
//! sees half of one.

use super::tensors::{PREFIX, SCALE_SUFFIX};
use super::{CONFIG_FILE, ModelFolderError, TOKENIZER_FILE, WEIGHTS_FILE};
use crate::policy::encoder::EncoderConfig;
use candle_core::{DType, Tensor};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tokenizers::Tokenizer;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Exact.
    F32,
    /// Half the size.
    F16,
    /// Matrices as int8 rows with one f32 scale a row, vectors as f32: a quarter of the size.
    Int8Rows,
}

/// Writes the three files of a model folder; names as [`super::ModelFolder`] holds them.
pub fn write_folder(
    folder: &Path,
    config: &EncoderConfig,
    tokenizer: &Tokenizer,
    tensors: &BTreeMap<String, Tensor>,
    precision: Precision,
) -> Result<(), ModelFolderError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| ModelFolderError::Io { path: folder.to_path_buf(), source })?;
    let malformed = |file: &str, reason: String| ModelFolderError::Malformed {
        path: folder.join(file),
        reason,
    };
    let mut config =
        serde_json::to_value(config).map_err(|error| malformed(CONFIG_FILE, error.to_string()))?;
    config["model_type"] = "bert".into();
    let config = serde_json::to_vec_pretty(&config)
        .map_err(|error| malformed(CONFIG_FILE, error.to_string()))?;
    place(&folder.join(CONFIG_FILE), &config)?;
    let tokenizer =
        tokenizer.to_string(false).map_err(|error| malformed(TOKENIZER_FILE, error.to_string()))?;
    place(&folder.join(TOKENIZER_FILE), tokenizer.as_bytes())?;
    let path = folder.join(WEIGHTS_FILE);
    place(&path, &to_bytes(tensors, precision, &path)?)
}

/// Writes a file so that its path holds the old bytes or the new ones, never a part.
fn place(path: &Path, bytes: &[u8]) -> Result<(), ModelFolderError> {
    let beside = path.with_extension("partial");
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|source| ModelFolderError::Io { path: path.to_path_buf(), source })
}

struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn to_bytes(
    tensors: &BTreeMap<String, Tensor>,
    precision: Precision,
    path: &Path,
) -> Result<Vec<u8>, ModelFolderError> {
    let mut stored = Vec::new();
    for (name, tensor) in tensors {
        let wrong = |reason: String| ModelFolderError::Tensor {
            name: name.clone(),
            path: path.to_path_buf(),
            reason,
        };
        let full = match name.starts_with("embeddings.") || name.starts_with("encoder.") {
            true => format!("{PREFIX}{name}"),
            false => name.clone(),
        };
        let numbers = tensor
            .to_dtype(DType::F32)
            .and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>())
            .map_err(|error| wrong(error.to_string()))?;
        if let Some(bad) = numbers.iter().find(|number| !number.is_finite()) {
            return Err(wrong(format!("holds {bad}; nothing was written")));
        }
        stored.extend(store(full, tensor.dims(), &numbers, precision));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    serialise(&stored, metadata, path)
}

fn serialise(
    stored: &[Stored],
    metadata: HashMap<String, String>,
    path: &Path,
) -> Result<Vec<u8>, ModelFolderError> {
    let malformed = |error: safetensors::SafeTensorError| ModelFolderError::Malformed {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let mut views = Vec::with_capacity(stored.len());
    for part in stored {
        let view = TensorView::new(part.dtype, part.shape.clone(), &part.bytes);
        views.push((part.name.clone(), view.map_err(malformed)?));
    }
    safetensors::serialize(views, Some(metadata)).map_err(malformed)
}

/// Writes tensors as f32 with metadata into one file, under exactly their names.
pub fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<(), ModelFolderError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| ModelFolderError::Io { path: folder.to_path_buf(), source })?;
    }
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let numbers = tensor.flatten_all().and_then(|tensor| tensor.to_vec1::<f32>());
        let numbers = numbers.map_err(|error| ModelFolderError::Tensor {
            name: name.clone(),
            path: path.to_path_buf(),
            reason: error.to_string(),
        })?;
        stored.extend(store(name.clone(), tensor.dims(), &numbers, Precision::F32));
    }
    place(path, &serialise(&stored, metadata, path)?)
}

fn store(name: String, shape: &[usize], numbers: &[f32], precision: Precision) -> Vec<Stored> {
    let exact = |name: String, shape: &[usize], numbers: &[f32]| Stored {
        name,
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
    };
    match (precision, shape) {
        (Precision::F16, _) => vec![Stored {
            name,
            dtype: Dtype::F16,
            shape: shape.to_vec(),
            bytes: numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        }],
        (Precision::Int8Rows, [count, width]) if *width > 1 => {
            let (mut bytes, mut scales) = (Vec::with_capacity(numbers.len()), Vec::new());
            for row in numbers.chunks_exact(*width) {
                let largest = row.iter().fold(0f32, |max, x| max.max(x.abs()));
                let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
                scales.push(scale);
                // In range by construction; `as` saturates besides.
                bytes.extend(row.iter().map(|x| (x / scale).round() as i8 as u8));
            }
            let scale = exact(format!("{name}{SCALE_SUFFIX}"), &[*count], &scales);
            vec![Stored { name, dtype: Dtype::I8, shape: shape.to_vec(), bytes }, scale]
        }
        _ => vec![exact(name, shape, numbers)],
    }
}

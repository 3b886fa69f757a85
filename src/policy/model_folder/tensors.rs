//! safetensors bytes to f32 tensors, compact rows included.
//!
//! Knows no configuration: shapes are checked by the caller.

use super::ModelFolderError;
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// Ends the name of the row scales of a compact tensor.
pub(super) const SCALE_SUFFIX: &str = ".scale";
/// Starts the names of encoder weights on disk.
pub(super) const PREFIX: &str = "bert.";

/// Every tensor as f32 under its name without `bert.`; integer buffers other than rows are skipped.
pub(super) fn parse(
    bytes: &[u8],
    path: &Path,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>, ModelFolderError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| ModelFolderError::Malformed {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;
    let wrong = |name: &str, reason: String| ModelFolderError::Tensor {
        name: name.to_owned(),
        path: path.to_path_buf(),
        reason,
    };
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let is_scale = name.strip_suffix(SCALE_SUFFIX).is_some_and(|of| file.tensor(of).is_ok());
        if is_scale {
            continue;
        }
        let numbers = if view.dtype() == Dtype::I8 {
            let scales = file.tensor(&format!("{name}{SCALE_SUFFIX}")).map_err(|_| {
                wrong(name, format!("I8 without its row scales `{name}{SCALE_SUFFIX}`"))
            })?;
            rows(&view, &scales).map_err(|reason| wrong(name, reason))?
        } else if matches!(view.dtype(), Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL) {
            // Position id buffers that some exports carry; nothing here reads them.
            continue;
        } else {
            floats(&view).map_err(|reason| wrong(name, reason))?
        };
        let short = name.strip_prefix(PREFIX).unwrap_or(name);
        let tensor = Tensor::from_vec(numbers, view.shape(), device)
            .map_err(|error| wrong(name, error.to_string()))?;
        tensors.insert(short.to_owned(), tensor);
    }
    Ok(tensors)
}

fn floats(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let halves = view.data().chunks_exact(2).map(|b| [b[0], b[1]]);
    match view.dtype() {
        Dtype::F32 => {
            let words = view.data().chunks_exact(4);
            Ok(words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        Dtype::F16 => Ok(halves.map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Ok(halves.map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        other => Err(format!("expected F32, F16, BF16 or I8 with row scales, found {other:?}")),
    }
}

fn rows(view: &TensorView<'_>, scales: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let [count, width] = view.shape() else {
        return Err(format!("I8 rows need two dimensions, found {:?}", view.shape()));
    };
    let scales = floats(scales)?;
    if scales.len() != *count {
        return Err(format!("expected {count} row scales, found {}", scales.len()));
    }
    let mut numbers = Vec::with_capacity(count * width);
    for (row, scale) in view.data().chunks_exact((*width).max(1)).zip(scales) {
        numbers.extend(row.iter().map(|byte| f32::from(i8::from_le_bytes([*byte])) * scale));
    }
    Ok(numbers)
}

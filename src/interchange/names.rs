//! The tensors of a safetensors file by name, held against those that are expected.
//!
//! Tells everything that is wrong at once: what is missing, what does not belong there, what has
//! another shape or type. Knows no model.

use super::files::FileError;
use safetensors::tensor::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Names listed in full; the rest is a number.
const LISTED_MAX: usize = 30;

/// Type and shape of each tensor, and what the file says of itself.
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, (Dtype, Vec<usize>)>,
    pub(super) metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads a file's header.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = std::fs::read(path).map_err(FileError::io("read", path))?;
        let broken = |error: safetensors::SafeTensorError| FileError::Line {
            path: path.to_owned(),
            line: 1,
            expected: "a safetensors file",
            reason: error.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
        let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
        let tensors = file
            .iter()
            .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec())))
            .collect();
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { tensors, metadata })
    }
}

/// What is wrong with a set of tensors; nothing where all lists are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatch {
    /// Expected and not there, with the shape.
    pub missing: Vec<String>,
    /// There and not expected.
    pub superfluous: Vec<String>,
    /// Of another shape or type, with both.
    pub misshapen: Vec<String>,
}

impl Mismatch {
    /// Compares; `found` by the name that it has here.
    pub(super) fn of(
        expected: &BTreeMap<String, Vec<usize>>,
        found: &BTreeMap<String, (Dtype, Vec<usize>)>,
    ) -> Self {
        let mut mismatch = Self::default();
        for (name, shape) in expected {
            match found.get(name) {
                None => mismatch.missing.push(format!("{name} {shape:?}")),
                Some((_, has)) if has != shape => {
                    mismatch.misshapen.push(format!("{name} {has:?}, expected {shape:?}"));
                }
                Some((dtype, _)) if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) => {
                    let text = format!("{name} {dtype:?}, expected F32, F16 or BF16");
                    mismatch.misshapen.push(text);
                }
                Some(_) => {}
            }
        }
        let extra = found.keys().filter(|name| !expected.contains_key(*name));
        mismatch.superfluous.extend(extra.cloned());
        mismatch
    }

    /// Whether everything fits.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.superfluous.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("missing", &self.missing),
            ("superfluous", &self.superfluous),
            ("of another shape or type", &self.misshapen),
        ];
        let mut lead = "";
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            let listed = &names[..names.len().min(LISTED_MAX)];
            write!(f, "{lead}{} {what}: {}", names.len(), listed.join(", "))?;
            if names.len() > LISTED_MAX {
                write!(f, " and {} more", names.len() - LISTED_MAX)?;
            }
            lead = "; ";
        }
        Ok(())
    }
}

/// Files as another trainer saves them.
#[cfg(test)]
pub(super) mod saved {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use candle_core::{DType, Tensor};
    use half::{bf16, f16};
    use safetensors::tensor::{Dtype, TensorView};
    use std::collections::{BTreeMap, HashMap};
    use std::path::Path;

    /// Writes tensors in their own types.
    pub(in super::super) fn save(
        path: &Path,
        tensors: &HashMap<String, Tensor>,
        metadata: Option<HashMap<String, String>>,
    ) {
        let stored: BTreeMap<&String, (Dtype, Vec<u8>)> =
            tensors.iter().map(|(name, tensor)| (name, bytes(tensor))).collect();
        let views = stored.iter().map(|(name, (dtype, bytes))| {
            let shape = tensors[*name].dims().to_vec();
            (name.as_str(), TensorView::new(*dtype, shape, bytes).unwrap())
        });
        std::fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
    }

    fn bytes(tensor: &Tensor) -> (Dtype, Vec<u8>) {
        let flat = tensor.flatten_all().unwrap();
        match tensor.dtype() {
            DType::F16 => {
                let values = flat.to_vec1::<f16>().unwrap();
                (Dtype::F16, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            DType::BF16 => {
                let values = flat.to_vec1::<bf16>().unwrap();
                (Dtype::BF16, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            DType::I64 => {
                let values = flat.to_vec1::<i64>().unwrap();
                (Dtype::I64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            _ => {
                let values = flat.to_vec1::<f32>().unwrap();
                (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
        }
    }
}

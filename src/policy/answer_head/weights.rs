//! The answer head as bytes: safetensors with a header of its own.
//!
//! A head that shares weights with a policy is stored without them: its header names the digest of
//! the policy's weights, and it is put together again from both. Knows no folder.

use super::{ANSWER_PREFIX, AnswerHead, HEAD_PREFIX};
use crate::policy::features;
use crate::policy::head::{Head, HeadConfig};
use actors::types::Digest;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Version of what the head reads and how it answers; weights of another one are refused.
pub const LAYOUT: &str = "regrade-answers/1";
const HEADER: &str = "regrade_answer_head";

/// What the file says of itself.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    layout: String,
    head: HeadConfig,
    labels: Vec<String>,
    /// Digest of the policy whose head this one shares; absent where it has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<Digest>,
}

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WeightsError(pub(super) String);

/// safetensors bytes, with layout, sizes and labels as metadata; `policy` is the digest of the policy
/// whose head this one shares, whose tensors then stay out.
///
/// # Errors
/// A value that is not finite, by tensor.
pub fn to_bytes(head: &AnswerHead, policy: Option<&Digest>) -> Result<Vec<u8>, WeightsError> {
    let fail = |name: &str, e: &dyn std::fmt::Display| {
        WeightsError(format!("cannot export tensor `{name}`: {e}"))
    };
    let shared = head.head().tensors().iter().map(|t| (HEAD_PREFIX, t));
    let shared = shared.filter(|_| policy.is_none());
    let mut raw: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (prefix, (name, tensor)) in shared.chain(head.own().iter().map(|t| (ANSWER_PREFIX, t))) {
        let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        let values = values.map_err(|e| fail(name, &e))?;
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(WeightsError(format!("tensor `{prefix}{name}` holds {bad}")));
        }
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        raw.insert(format!("{prefix}{name}"), (tensor.dims().to_vec(), bytes));
    }
    let mut views = BTreeMap::new();
    for (name, (shape, bytes)) in &raw {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        views.insert(name.as_str(), view.map_err(|e| fail(name, &e))?);
    }
    let header = Header {
        layout: LAYOUT.to_owned(),
        head: head.head().config().clone(),
        labels: head.labels().to_vec(),
        policy: policy.cloned(),
    };
    // One key only: equal weights have equal bytes, whatever the order of a hash map.
    let header = serde_json::to_string(&header).map_err(|e| fail(HEADER, &e))?;
    let metadata = HashMap::from([(HEADER.to_owned(), header)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| fail(HEADER, &e))
}

/// Reads weights and checks layout, names, shapes and that every value is finite.
///
/// `policy` gives the head and the digest of a policy, for weights that share them.
///
/// # Errors
/// Bytes that are none, of another layout, or whose policy is missing or another one.
pub fn from_bytes(
    bytes: &[u8],
    policy: Option<(&Head, &Digest)>,
    device: &Device,
) -> Result<AnswerHead, WeightsError> {
    let fail = |text: String| WeightsError(text);
    let header = header(bytes)?;
    if header.layout != LAYOUT {
        let found = header.layout;
        return Err(fail(format!("the weights have answer layout `{found}`, expected `{LAYOUT}`")));
    }
    let (found, expected) = (header.head.scalars, features::SCALARS.len());
    if found != expected {
        return Err(fail(format!("the head takes {found} scalar features, expected {expected}")));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| fail(e.to_string()))?;
    let (mut head, mut own) = (BTreeMap::new(), BTreeMap::new());
    for (name, view) in file.tensors() {
        let tensor = tensor(&name, &view, device)?;
        if let Some(name) = name.strip_prefix(HEAD_PREFIX) {
            head.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(ANSWER_PREFIX) {
            own.insert(name.to_owned(), tensor);
        } else {
            return Err(fail(format!("tensor `{name}` does not belong to an answer head")));
        }
    }
    let head = match (&header.policy, policy) {
        (None, _) => Head::from_tensors(header.head, head).map_err(fail)?,
        (Some(wanted), Some((head, digest))) if wanted == digest => head.clone(),
        (Some(wanted), Some((_, digest))) => {
            return Err(fail(format!(
                "the answer head shares the weights of policy {wanted}, but {digest} was given; \
                 train the generator again on that policy"
            )));
        }
        (Some(wanted), None) => {
            return Err(fail(format!(
                "the answer head shares the weights of policy {wanted}, which is not beside it"
            )));
        }
    };
    AnswerHead::from_tensors(head, header.labels, own).map_err(fail)
}

/// Digest of the policy that weights share their head with, if they do.
pub(super) fn shared_with(bytes: &[u8]) -> Result<Option<Digest>, WeightsError> {
    Ok(header(bytes)?.policy)
}

fn header(bytes: &[u8]) -> Result<Header, WeightsError> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|e| WeightsError(format!("the weights are not a safetensors file ({e})")))?;
    let text = metadata.metadata().as_ref().and_then(|m| m.get(HEADER));
    text.and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| {
        WeightsError("the weights carry no answer head's header; are they a policy's?".to_owned())
    })
}

fn tensor(name: &str, view: &TensorView<'_>, device: &Device) -> Result<Tensor, WeightsError> {
    if view.dtype() != safetensors::Dtype::F32 {
        let dtype = view.dtype();
        return Err(WeightsError(format!("tensor `{name}` is {dtype:?}, expected F32")));
    }
    let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let values: Vec<f32> = view.data().chunks_exact(4).map(number).collect();
    if values.iter().any(|v| !v.is_finite()) {
        return Err(WeightsError(format!("tensor `{name}` holds a value that is not finite")));
    }
    Tensor::from_vec(values, view.shape(), device)
        .map_err(|e| WeightsError(format!("tensor `{name}`: {e}")))
}

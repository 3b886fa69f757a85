//! Differentiable layers over the kernels: linear, layer norm, bias with GELU, packed attention.
//!
//! Owns the pairing of each kernel with its gradient. On a CPU in f32 a layer is one custom op;
//! anywhere else it is composed of candle operations that have a gradient ([`composed`], which is
//! also the oracle of the tests). candle's own fused layer norm and softmax silently have none, so
//! nothing here uses them. Knows no model and no names of weights.

pub mod composed;
mod fused;

use candle_core::{DType, Result, Tensor};
use std::sync::Arc;

/// Where each sequence of a packed batch starts: B + 1 rising row numbers, the last is T.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets(Arc<[usize]>);

impl Offsets {
    /// Lays sequences of these lengths end to end.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut offsets = vec![0];
        let mut end = 0;
        for length in lengths {
            end += length;
            offsets.push(end);
        }
        Self(offsets.into())
    }

    /// The numbers themselves.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// (first row, length) of each sequence.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.0.windows(2).map(|pair| (pair[0], pair[1] - pair[0]))
    }

    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }

    /// Sequences.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn kernels_apply(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// x W^T + b. `x` (T, in), `weight` (out, in), `bias` (out); returns (T, out).
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if kernels_apply(x) {
        return x.contiguous()?.apply_op3(weight, bias, fused::Linear);
    }
    composed::linear(x, weight, bias)
}

/// Layer normalisation of each row. `x` (T, H), `weight` and `bias` (H); returns (T, H).
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    if kernels_apply(x) {
        let op = fused::LayerNorm { epsilon: epsilon as f32 };
        return x.contiguous()?.apply_op3(weight, bias, op);
    }
    composed::layer_norm(x, weight, bias, epsilon)
}

/// GELU(x W^T + b), the erf form. Shapes as in [`linear`].
pub fn linear_gelu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if kernels_apply(x) {
        return x.matmul(&weight.t()?)?.apply_op2(bias, fused::BiasGelu);
    }
    composed::linear(x, weight, bias)?.gelu_erf()
}

/// Self-attention within each sequence. `q`, `k`, `v` (T, H), H = heads * width; returns (T, H).
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    offsets: &Offsets,
    heads: usize,
) -> Result<Tensor> {
    if kernels_apply(q) {
        let op = fused::Attention { offsets: offsets.clone(), heads };
        return q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op);
    }
    composed::attention(q, k, v, offsets, heads)
}

#[cfg(test)]
mod tests;

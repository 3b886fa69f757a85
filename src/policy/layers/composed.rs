//! The same layers out of candle's differentiable operations: any device, any float type.
//!
//! Slower than the kernels on a CPU; the oracle they are tested against.

use super::Offsets;
use candle_core::{D, Result, Tensor};

/// See [`super::linear`].
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)?.broadcast_add(bias)
}

/// See [`super::layer_norm`].
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normalised = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    normalised.broadcast_mul(weight)?.broadcast_add(bias)
}

/// See [`super::attention`].
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    offsets: &Offsets,
    heads: usize,
) -> Result<Tensor> {
    let width = q.dim(1)?;
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    let mut outputs = Vec::with_capacity(offsets.len());
    for (start, len) in offsets.spans().filter(|(_, len)| *len > 0) {
        let split = |x: &Tensor| {
            let rows = x.narrow(0, start, len)?;
            rows.reshape((len, heads, width / heads))?.transpose(0, 1)?.contiguous()
        };
        let (q, k, v) = (split(q)?, split(k)?, split(v)?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? * scale)?;
        let p = candle_nn::ops::softmax(&scores, D::Minus1)?;
        outputs.push(p.matmul(&v)?.transpose(0, 1)?.reshape((len, width))?);
    }
    if outputs.is_empty() {
        return q.zeros_like();
    }
    Tensor::cat(&outputs, 0)
}

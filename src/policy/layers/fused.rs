//! Custom ops: one kernel forward, one backward. CPU and f32 only.
//!
//! A backward pass skips the gradient of an argument that nothing is trained through: with a
//! frozen trunk that is a third of the work of each linear layer.

use super::Offsets;
use crate::policy::kernels::{self, AttentionShape, Matrix, MatrixMut, ShapeError, Threads};
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, Device, Error, Layout, Result, Shape, Storage, Tensor,
};

type Gradients2 = (Option<Tensor>, Option<Tensor>);
type Gradients3 = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

fn shape_error(error: ShapeError) -> Error {
    Error::wrap(error)
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        return Err(Error::msg("a fused layer needs contiguous arguments"));
    };
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// Runs `body` over the numbers of tensors that lie on the CPU.
fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    body: impl FnOnce([&[f32]; N]) -> std::result::Result<R, ShapeError>,
) -> Result<R> {
    let mut contiguous = Vec::with_capacity(N);
    for tensor in tensors {
        contiguous.push(tensor.contiguous()?);
    }
    let guards: Vec<_> = contiguous.iter().map(Tensor::storage_and_layout).collect();
    let mut slices: [&[f32]; N] = [&[]; N];
    for (out, (guard, layout)) in slices.iter_mut().zip(&guards) {
        match &**guard {
            Storage::Cpu(storage) => *out = slice(storage, layout)?,
            _ => return Err(Error::msg("a fused layer runs on the CPU only")),
        }
    }
    body(slices).map_err(shape_error)
}

fn tensor(numbers: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

/// x W^T + b with the bias as the product's starting value.
pub(super) struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inner) = x_layout.shape().dims2()?;
        let (columns, weight_inner) = weight_layout.shape().dims2()?;
        let (x, weight) = (slice(x, x_layout)?, slice(weight, weight_layout)?);
        let mut out = kernels::prefill_rows(slice(bias, bias_layout)?, rows);
        let mut run = || {
            let a = Matrix::rows(x, rows, inner, inner)?;
            let b = Matrix::rows(weight, columns, weight_inner, weight_inner)?.transposed();
            let view = MatrixMut::rows(&mut out, rows, columns)?;
            kernels::matmul(view, true, (a, b), 1.0, Threads::Pool)
        };
        run().map_err(shape_error)?;
        Ok((CpuStorage::F32(out), (rows, columns).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Gradients3> {
        let gradient = gradient.contiguous()?;
        let width = bias.elem_count();
        let dx = if x.track_op() { Some(gradient.matmul(weight)?) } else { None };
        let dw = if weight.track_op() { Some(gradient.t()?.matmul(x)?) } else { None };
        let db = if bias.track_op() {
            let sums = with_slices([&gradient], |[g]| kernels::column_sums(g, width))?;
            Some(tensor(sums, bias.shape())?)
        } else {
            None
        };
        Ok((dx, dw, db))
    }
}

/// Layer normalisation of rows.
pub(super) struct LayerNorm {
    pub(super) epsilon: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (weight, bias) = (slice(weight, weight_layout)?, slice(bias, bias_layout)?);
        let out = kernels::layer_norm(slice(x, x_layout)?, weight, bias, self.epsilon);
        Ok((CpuStorage::F32(out.map_err(shape_error)?), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Gradients3> {
        let all = with_slices([x, weight, gradient], |[x, w, g]| {
            kernels::layer_norm_backward(x, w, g, self.epsilon)
        })?;
        Ok((
            Some(tensor(all.input, x.shape())?),
            Some(tensor(all.weight, weight.shape())?),
            Some(tensor(all.bias, bias.shape())?),
        ))
    }
}

/// GELU of a product plus its bias.
pub(super) struct BiasGelu;

impl CustomOp2 for BiasGelu {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = kernels::bias_gelu(slice(x, x_layout)?, slice(bias, bias_layout)?);
        Ok((CpuStorage::F32(out.map_err(shape_error)?), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Gradients2> {
        let dx =
            with_slices([x, bias, gradient], |[x, b, g]| kernels::bias_gelu_backward(x, b, g))?;
        let db = kernels::column_sums(&dx, bias.elem_count()).map_err(shape_error)?;
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(db, bias.shape())?)))
    }
}

/// Multi-head attention over packed sequences; the backward pass computes the probabilities again.
pub(super) struct Attention {
    pub(super) offsets: Offsets,
    pub(super) heads: usize,
}

impl Attention {
    fn shape(&self, width: usize) -> Result<AttentionShape<'_>> {
        if self.heads == 0 || !width.is_multiple_of(self.heads) {
            return Err(Error::msg(format!(
                "{width} columns do not divide into {} heads",
                self.heads
            )));
        }
        let head_width = width / self.heads;
        Ok(AttentionShape { offsets: self.offsets.as_slice(), heads: self.heads, head_width })
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "packed-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape(q_layout.shape().dims2()?.1)?;
        let (q, k, v) = (slice(q, q_layout)?, slice(k, k_layout)?, slice(v, v_layout)?);
        let out = kernels::attention(q, k, v, shape).map_err(shape_error)?;
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Gradients3> {
        let shape = self.shape(q.dim(1)?)?;
        let all = with_slices([q, k, v, gradient], |[q, k, v, g]| {
            kernels::attention_backward((q, k, v), g, shape)
        })?;
        Ok((
            Some(tensor(all.query, q.shape())?),
            Some(tensor(all.key, q.shape())?),
            Some(tensor(all.value, q.shape())?),
        ))
    }
}

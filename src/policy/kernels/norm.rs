//! Layer normalisation over rows and its gradient.
//!
//! Source: Ba, Kiros, Hinton 2016, eq. 4, with population variance. Knows no tensor.

use super::matmul::{ShapeError, same};
use super::{ROWS_PER_JOB, lane_sum};
use rayon::prelude::*;

/// Gradients of [`layer_norm`].
#[derive(Debug)]
pub struct LayerNormGradients {
    /// (rows, width), by the input.
    pub input: Vec<f32>,
    /// (width), by the scale.
    pub weight: Vec<f32>,
    /// (width), by the shift.
    pub bias: Vec<f32>,
}

/// Normalises each row of `x` (rows, width) to mean 0 and variance 1, then scales and shifts.
///
/// `weight`, `bias`: (width). `epsilon` is added to the variance.
pub fn layer_norm(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    epsilon: f32,
) -> Result<Vec<f32>, ShapeError> {
    check(x, weight, bias)?;
    let mut out = vec![0f32; x.len()];
    let block = weight.len() * ROWS_PER_JOB;
    out.par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .for_each(|(out, x)| forward_rows(x, weight, bias, epsilon, out));
    Ok(out)
}

/// Gradients by input, weight and bias, given `gradient` (rows, width) by the output.
pub fn layer_norm_backward(
    x: &[f32],
    weight: &[f32],
    gradient: &[f32],
    epsilon: f32,
) -> Result<LayerNormGradients, ShapeError> {
    check(x, weight, weight)?;
    same("layer norm gradient", x.len(), gradient.len())?;
    let width = weight.len();
    let block = width * ROWS_PER_JOB;
    let mut input = vec![0f32; x.len()];
    let partial: Vec<Vec<f32>> = input
        .par_chunks_mut(block)
        .zip(x.par_chunks(block).zip(gradient.par_chunks(block)))
        .map(|(dx, (x, g))| {
            let mut sums = vec![0f32; 2 * width];
            backward_rows((x, g), weight, epsilon, dx, &mut sums);
            sums
        })
        .collect();
    let mut total = vec![0f32; 2 * width];
    for sums in &partial {
        for (total, value) in total.iter_mut().zip(sums) {
            *total += value;
        }
    }
    let bias = total.split_off(width);
    Ok(LayerNormGradients { input, weight: total, bias })
}

fn check(x: &[f32], weight: &[f32], bias: &[f32]) -> Result<(), ShapeError> {
    same("layer norm (bias)", weight.len(), bias.len())?;
    if weight.is_empty() || !x.len().is_multiple_of(weight.len()) {
        return Err(ShapeError::Mismatch {
            operation: "layer norm (width of the rows)",
            expected: weight.len(),
            found: x.len(),
        });
    }
    Ok(())
}

#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let n = x.len();
    let mean = lane_sum(n, |i| x[i]) / n as f32;
    let variance = lane_sum(n, |i| (x[i] - mean) * (x[i] - mean)) / n as f32;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

vectorised! {
    fn forward_rows<'a>(
        x: &'a [f32],
        w: &'a [f32],
        b: &'a [f32],
        epsilon: f32,
        out: &'a mut [f32],
    ) {
        let n = w.len();
        let b = &b[..n];
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            let (mean, scale) = moments(x, epsilon);
            for i in 0..n {
                out[i] = ((x[i] - mean) * scale).mul_add(w[i], b[i]);
            }
        }
    }
}

vectorised! {
    fn backward_rows<'a>(
        xs: (&'a [f32], &'a [f32]),
        w: &'a [f32],
        epsilon: f32,
        dx: &'a mut [f32],
        sums: &'a mut [f32],
    ) {
        let (x, g) = xs;
        let n = w.len();
        let (dw, db) = sums.split_at_mut(n);
        let db = &mut db[..n];
        for ((x, g), dx) in x.chunks_exact(n).zip(g.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
            let (mean, scale) = moments(x, epsilon);
            let mean_g = lane_sum(n, |i| g[i] * w[i]) / n as f32;
            let mean_gx = lane_sum(n, |i| g[i] * w[i] * (x[i] - mean) * scale) / n as f32;
            for i in 0..n {
                let normalised = (x[i] - mean) * scale;
                dw[i] += g[i] * normalised;
                db[i] += g[i];
                dx[i] = scale * (g[i] * w[i] - mean_g - normalised * mean_gx);
            }
        }
    }
}

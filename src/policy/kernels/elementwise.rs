//! Loops that touch each number once: bias with GELU, column sums, AdamW.
//!
//! Knows no tensor; rows are contiguous.

use super::matmul::{ShapeError, same};
use super::{ROWS_PER_JOB, lane_sum, normal};
use rayon::prelude::*;

/// Numbers given to one job of a flat loop.
const NUMBERS_PER_JOB: usize = 1 << 15;

/// GELU(x + bias) with the exact erf form; `x` (rows, width), `bias` (width).
pub fn bias_gelu(x: &[f32], bias: &[f32]) -> Result<Vec<f32>, ShapeError> {
    check_rows("bias and GELU", x, bias.len())?;
    let mut out = vec![0f32; x.len()];
    let block = bias.len() * ROWS_PER_JOB;
    out.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(out, x)| gelu_rows(x, bias, out));
    Ok(out)
}

/// Gradient of [`bias_gelu`] by `x`, given `gradient` (rows, width) by its output.
pub fn bias_gelu_backward(
    x: &[f32],
    bias: &[f32],
    gradient: &[f32],
) -> Result<Vec<f32>, ShapeError> {
    check_rows("bias and GELU", x, bias.len())?;
    same("bias and GELU gradient", x.len(), gradient.len())?;
    let mut out = vec![0f32; x.len()];
    let block = bias.len() * ROWS_PER_JOB;
    out.par_chunks_mut(block)
        .zip(x.par_chunks(block).zip(gradient.par_chunks(block)))
        .for_each(|(out, (x, g))| gelu_rows_backward(x, bias, g, out));
    Ok(out)
}

/// Sum of each column of `x` (rows, width).
pub fn column_sums(x: &[f32], width: usize) -> Result<Vec<f32>, ShapeError> {
    check_rows("column sums", x, width)?;
    let partial: Vec<Vec<f32>> = x
        .par_chunks(width * ROWS_PER_JOB)
        .map(|rows| {
            let mut sums = vec![0f32; width];
            add_rows(rows, &mut sums);
            sums
        })
        .collect();
    let mut total = vec![0f32; width];
    for sums in &partial {
        add_rows(sums, &mut total);
    }
    Ok(total)
}

/// `rows` copies of `row`, one below the other.
pub fn prefill_rows(row: &[f32], rows: usize) -> Vec<f32> {
    row.repeat(rows)
}

/// Sum of squares, in double precision between blocks.
pub fn square_sum(x: &[f32]) -> f64 {
    let partial: Vec<f32> = x.par_chunks(4096).map(square_sum_block).collect();
    partial.iter().map(|sum| f64::from(*sum)).sum()
}

/// Numbers of one AdamW step (Loshchilov and Hutter 2019, algorithm 2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Step size.
    pub rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub decay: f32,
    /// 1 / (1 - beta1^t).
    pub correction1: f32,
    /// 1 / (1 - beta2^t).
    pub correction2: f32,
    /// Factor on the gradient (clipping).
    pub gradient_scale: f32,
}

/// One step in place on parameters, first and second moments.
pub fn adamw(
    parameters: &mut [f32],
    (first, second): (&mut [f32], &mut [f32]),
    gradient: &[f32],
    numbers: AdamW,
) -> Result<(), ShapeError> {
    same("AdamW first moment", parameters.len(), first.len())?;
    same("AdamW second moment", parameters.len(), second.len())?;
    same("AdamW gradient", parameters.len(), gradient.len())?;
    parameters
        .par_chunks_mut(NUMBERS_PER_JOB)
        .zip(first.par_chunks_mut(NUMBERS_PER_JOB))
        .zip(second.par_chunks_mut(NUMBERS_PER_JOB))
        .zip(gradient.par_chunks(NUMBERS_PER_JOB))
        .for_each(|(((p, m), v), g)| adamw_block(p, (m, v), g, numbers));
    Ok(())
}

fn check_rows(operation: &'static str, x: &[f32], width: usize) -> Result<(), ShapeError> {
    if width == 0 || !x.len().is_multiple_of(width) {
        return Err(ShapeError::Mismatch { operation, expected: width, found: x.len() });
    }
    Ok(())
}

vectorised! {
    fn gelu_rows<'a>(x: &'a [f32], bias: &'a [f32], out: &'a mut [f32]) {
        let n = bias.len();
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            for i in 0..n {
                let value = x[i] + bias[i];
                out[i] = value * normal(value).0;
            }
        }
    }
}

vectorised! {
    fn gelu_rows_backward<'a>(x: &'a [f32], bias: &'a [f32], g: &'a [f32], out: &'a mut [f32]) {
        let n = bias.len();
        for ((x, g), out) in x.chunks_exact(n).zip(g.chunks_exact(n)).zip(out.chunks_exact_mut(n)) {
            for i in 0..n {
                let value = x[i] + bias[i];
                let (below, density) = normal(value);
                out[i] = g[i] * value.mul_add(density, below);
            }
        }
    }
}

vectorised! {
    fn add_rows<'a>(rows: &'a [f32], sums: &'a mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

vectorised! {
    fn adamw_block<'a>(
        p: &'a mut [f32],
        mv: (&'a mut [f32], &'a mut [f32]),
        g: &'a [f32],
        k: AdamW,
    ) {
        let n = p.len();
        let (m, v, g) = (&mut mv.0[..n], &mut mv.1[..n], &g[..n]);
        for i in 0..n {
            let gradient = g[i] * k.gradient_scale;
            m[i] = k.beta1 * m[i] + (1.0 - k.beta1) * gradient;
            v[i] = k.beta2 * v[i] + (1.0 - k.beta2) * gradient * gradient;
            let step = m[i] * k.correction1 / ((v[i] * k.correction2).sqrt() + k.epsilon);
            p[i] -= k.rate * (step + k.decay * p[i]);
        }
    }
}

vectorised! {
    fn square_sum_block<'a>(x: &'a [f32]) -> f32 {
        lane_sum(x.len(), |i| x[i] * x[i])
    }
}

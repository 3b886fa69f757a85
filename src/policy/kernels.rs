//! The inner loops of the encoder on a CPU: plain slices in, plain slices out.
//!
//! Owns every loop whose speed matters: each is written once as safe scalar code and compiled for
//! the widest vector unit found at run time (`pulp`), and split over the rayon pool by rows or by
//! (sequence, head). Knows no tensor and no model. Invariant: for one pool size or another, the
//! same input gives the same bits, because partial sums are made per fixed block and added in order.

/// Defines a function whose body is compiled for the widest vector unit and chosen at run time.
///
/// The body must stand inside `call`: a closure or function passed along would be compiled for the
/// baseline, where every fused multiply-add is a call into libm (measured: 40% of the run time).
macro_rules! vectorised {
    (
        $(#[$meta:meta])*
        fn $name:ident<$life:lifetime>($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block
    ) => {
        $(#[$meta])*
        fn $name<$life>($($arg: $type),*) $(-> $out)? {
            struct Body<$life> {
                $($arg: $type,)*
            }
            impl<$life> pulp::NullaryFnOnce for Body<$life> {
                type Output = $crate::policy::kernels::vectorised!(@out $($out)?);

                #[inline(always)]
                fn call(self) -> Self::Output {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Body { $($arg),* })
        }
    };
    (@out) => { () };
    (@out $out:ty) => { $out };
}
use vectorised;

mod attention;
mod elementwise;
mod matmul;
mod norm;

pub use attention::{AttentionGradients, AttentionShape, attention, attention_backward};
pub use elementwise::{
    AdamW, adamw, bias_gelu, bias_gelu_backward, column_sums, prefill_rows, square_sum,
};
pub use matmul::{Matrix, MatrixMut, ShapeError, Threads, matmul};
pub use norm::{LayerNormGradients, layer_norm, layer_norm_backward};

/// Rows given to one rayon job; fixed, so that partial sums do not depend on the pool size.
const ROWS_PER_JOB: usize = 32;

/// Sum of `term(i)` for i in 0..n over sixteen running sums: an order that vectorises and is fixed.
#[inline(always)]
fn lane_sum(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let whole = n / 16 * 16;
    for start in (0..whole).step_by(16) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    let mut total: f32 = lanes.iter().sum();
    for i in whole..n {
        total += term(i);
    }
    total
}

/// e^x, relative error below 2e-7 for x in [-87.3, 88.3]; clamped outside.
///
/// Cephes `expf`: range reduction by ln 2 in two parts, degree 5 polynomial.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer that stands in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.3);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    let mantissa = p.mul_add(r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    mantissa * f32::from_bits(exponent)
}

/// Distribution function and density of the standard normal at `x`, absolute error below 2e-7.
///
/// Abramowitz and Stegun 7.1.26 for erf.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.327_591_1f32.mul_add(z, 1.0);
    let e = exp(-z * z);
    let mut p = 1.061_405_4f32;
    p = p.mul_add(t, -1.453_152);
    p = p.mul_add(t, 1.421_413_8);
    p = p.mul_add(t, -0.284_496_72);
    p = p.mul_add(t, 0.254_829_6);
    let erf = (1.0 - p * t * e).copysign(x);
    (0.5 * (1.0 + erf), DENSITY_AT_ZERO * e)
}

vectorised! {
    /// Turns a row of logits into probabilities in place.
    fn softmax_row<'a>(row: &'a mut [f32]) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        for chunk in row.chunks(16) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = lane.max(*value);
            }
        }
        let max = lanes.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        for value in row.iter_mut() {
            *value = exp(*value - max);
        }
        let scale = 1.0 / lane_sum(row.len(), |i| row[i]);
        for value in row.iter_mut() {
            *value *= scale;
        }
    }
}

vectorised! {
    /// Gradient of softmax: `g[i] = p[i] * (g[i] - sum_j p[j] g[j])`, in place.
    fn softmax_row_backward<'a>(p: &'a [f32], g: &'a mut [f32]) {
        let n = p.len();
        let g = &mut g[..n];
        let dot = lane_sum(n, |i| p[i] * g[i]);
        for i in 0..n {
            g[i] = p[i] * (g[i] - dot);
        }
    }
}

#[cfg(test)]
mod tests;

//! Several candidates at once: which findings stand when a share of false ones is to be bounded.

/// The hypotheses that Benjamini and Hochberg (1995) reject with false discovery rate at most `q`:
/// with `K` hypotheses the `k` smallest p-values, for the largest `k` whose largest member is at
/// most `q k / K`.
///
/// Asks for independent (or positively dependent) p-values; candidates that share a control are
/// not that for certain, so promotions use [`e_benjamini_hochberg`]. A NaN is never rejected, and
/// nothing is for a `q` out of (0, 1).
pub fn benjamini_hochberg(p: &[f64], q: f64) -> Vec<bool> {
    let count = p.len() as f64;
    step_up(p, q, |left, right| left.total_cmp(right), |p, rank| p <= q * rank / count)
}

/// The hypotheses that e-BH rejects (Wang and Ramdas, "False discovery rate control with e-values",
/// JRSS B 84(3), 2022): with `K` hypotheses the `k` largest e-values, for the largest `k` whose
/// smallest member is at least `K / (q k)`. False discovery rate at most `q` under any dependence,
/// at any look, if each e-value is one at that look.
///
/// `e` ≥ 0. A NaN is never rejected, and nothing is for a `q` out of (0, 1).
pub fn e_benjamini_hochberg(e: &[f64], q: f64) -> Vec<bool> {
    let count = e.len() as f64;
    step_up(e, q, |left, right| right.total_cmp(left), |e, rank| e >= count / (q * rank))
}

/// Rejects everything up to the last of the ordered `values` that passes at its rank (from 1).
fn step_up(
    values: &[f64],
    q: f64,
    order: impl Fn(&f64, &f64) -> std::cmp::Ordering,
    passes: impl Fn(f64, f64) -> bool,
) -> Vec<bool> {
    let mut rejected = vec![false; values.len()];
    if !(q > 0.0 && q < 1.0) {
        return rejected;
    }
    let mut sorted: Vec<usize> = (0..values.len()).filter(|at| !values[*at].is_nan()).collect();
    sorted.sort_by(|left, right| order(&values[*left], &values[*right]));
    let last = (0..sorted.len()).rfind(|at| passes(values[sorted[*at]], (at + 1) as f64));
    let kept = last.map_or(0, |last| last + 1);
    sorted[..kept].iter().for_each(|at| rejected[*at] = true);
    rejected
}

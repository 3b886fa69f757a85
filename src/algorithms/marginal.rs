//! Likelihood of a set of alternatives any of which is right: the marginal over them.
//!
//! Source: the summed objective over all occurrences of an answer with one normaliser over all
//! passages: Kadlec et al. 2016 (attention sum), Clark and Gardner 2018 (arXiv 1710.10723, section
//! 3: shared normalisation, no-answer option), Lee et al. 2019 (ORQA, eq. 6: marginal likelihood);
//! the pooled span scores of Wang et al. 2019 (multi-passage BERT, arXiv 1908.08167).

use candle_core::{D, Result, Tensor};

/// Logits of what is closed are moved here: finite, so that no gradient is 0 · ∞, and so low that
/// nothing is left of it.
const CLOSED: f64 = -1e9;

/// ln Σ_i w_i exp(s_i) − ln Σ_i exp(s_i), for each of B rows, in nats; ≤ 0 where weights are ≤ 1.
///
/// logits: (B, n) f32; weights: (B, n) in [0, 1], 1 for what is right and less for what is nearly
/// so (then the logarithm of the expected quality, a lower bound on the mixture's); present: (B, n),
/// 1 for an alternative and 0 for padding. Alternatives with equal weight may be merged or split
/// without a change, so the likelihood of a group of passages with one answer is that of its
/// passages. A row without any weight above 0 gives about −1e9: leave such rows out of a mean.
pub fn log_likelihood(logits: &Tensor, weights: &Tensor, present: &Tensor) -> Result<Tensor> {
    let closed = ((present - 1.0)? * -CLOSED)?;
    let all = (logits + &closed)?.log_sum_exp(D::Minus1)?;
    // ln w, where w is not 0; a constant, so its own gradient never matters.
    let chance = weights.detach();
    let is_none = chance.eq(0f32)?.to_dtype(chance.dtype())?;
    let shift = ((&chance + &is_none)?.log()? + (is_none * CLOSED)?)?;
    let right = ((logits + closed)? + shift)?.log_sum_exp(D::Minus1)?;
    right - all
}

/// Mean of the negative [`log_likelihood`] over rows. row_weights: (B) ≥ 0; rows of weight 0 do not
/// count, whatever they hold. Scalar in nats; 0 where every weight is 0.
pub fn negative_log_likelihood(
    logits: &Tensor,
    weights: &Tensor,
    present: &Tensor,
    row_weights: &Tensor,
) -> Result<Tensor> {
    let rows = log_likelihood(logits, weights, present)?.neg()?;
    let total = f64::from(row_weights.sum_all()?.to_scalar::<f32>()?);
    (rows * row_weights)?.sum_all()? / total.max(1e-12)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::{Device, Var};

    fn t<const N: usize>(rows: &[[f32; N]]) -> Tensor {
        Tensor::from_vec(rows.concat(), (rows.len(), N), &Device::Cpu).unwrap()
    }

    fn of<const N: usize>(logits: [f32; N], weights: [f32; N], present: [f32; N]) -> f32 {
        let rows = log_likelihood(&t(&[logits]), &t(&[weights]), &t(&[present])).unwrap();
        rows.to_vec1::<f32>().unwrap()[0]
    }

    #[test]
    fn likelihood_by_hand() {
        let ln = f32::ln;
        // Masses 1, 2, 3, 4: the second and the fourth are right: 6 of 10.
        let logits = [0.0, ln(2.0), ln(3.0), ln(4.0)];
        assert!((of(logits, [0.0, 1.0, 0.0, 1.0], [1.0; 4]) - ln(0.6)).abs() < 1e-6);
        // Nearly right counts by its weight: (2 + 0.5 · 3) of 10.
        assert!((of(logits, [0.0, 1.0, 0.5, 0.0], [1.0; 4]) - ln(0.35)).abs() < 1e-6);
        // Padding is not there: 2 of 6.
        assert!(
            (of(logits, [0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]) - ln(1.0 / 3.0)).abs() < 1e-6
        );
        // Everything right: certain. Two passages of mass 1.5 are one of mass 3.
        assert!(of(logits, [1.0; 4], [1.0; 4]).abs() < 1e-6);
        let split = of([0.0, ln(1.5), ln(1.5)], [0.0, 1.0, 1.0], [1.0; 3]);
        assert!((split - of([0.0, ln(3.0)], [0.0, 1.0], [1.0; 2])).abs() < 1e-6);
    }

    #[test]
    fn rows_of_no_weight_do_not_count() {
        let logits = t(&[[0.0, 0.0], [5.0, 1.0]]);
        let (weights, present) = (t(&[[1.0, 0.0], [0.0, 0.0]]), t(&[[1.0, 1.0], [1.0, 1.0]]));
        let mean = |rows: [f32; 2]| {
            let rows = Tensor::new(&rows, &Device::Cpu).unwrap();
            let loss = negative_log_likelihood(&logits, &weights, &present, &rows).unwrap();
            loss.to_scalar::<f32>().unwrap()
        };
        assert!((mean([1.0, 0.0]) - 2f32.ln()).abs() < 1e-6);
        assert_eq!(mean([0.0, 0.0]), 0.0);
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let start = [0.3f32, -1.2, 0.8, 0.1];
        let (weights, present) = (t(&[[1.0, 0.0, 0.4, 1.0]]), t(&[[1.0, 1.0, 1.0, 0.0]]));
        let logits = Var::from_tensor(&t(&[start])).unwrap();
        let loss = |logits: &Tensor| {
            let rows = Tensor::new(&[1f32], &Device::Cpu).unwrap();
            negative_log_likelihood(logits, &weights, &present, &rows).unwrap()
        };
        let gradients = loss(logits.as_tensor()).backward().unwrap();
        let gradient = gradients.get(&logits).unwrap().to_vec2::<f32>().unwrap();
        for i in 0..4 {
            let at = |step: f32| {
                let mut moved = start;
                moved[i] += step;
                loss(&t(&[moved])).to_scalar::<f32>().unwrap()
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            let found = gradient[0][i];
            assert!((found - numeric).abs() < 1e-3, "{i}: {found} against {numeric}");
        }
        assert_eq!(gradient[0][3], 0.0, "padding has no gradient");
    }
}

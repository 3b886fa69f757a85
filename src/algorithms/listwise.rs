//! List-wise regression: the distribution of the scores over a list beside that of the utilities.
//!
//! Source: ListNet (Cao et al. 2007), top-one probabilities, with a temperature on the targets. Says
//! which document is better than which, where `utility.rs` says how good each is: a shift of all
//! scores of a list changes nothing here.

use candle_core::{D, DType, Result, Tensor};

/// Logits of what is closed are moved here; finite, so that no gradient is 0 · ∞.
const CLOSED: f64 = 1e9;

/// Mean over lists of KL(softmax(utilities / temperature) ‖ softmax(scores)) over what is known.
///
/// scores: (B, n) f32; utilities: (B, n), bounded to [0, 1]; known: (B, n), 1 where the utility is
/// known and else 0; temperature > 0, in units of utility. Lists whose known utilities are all equal
/// say nothing of their order and do not count. Scalar in nats, ≥ 0; 0 where no list counts.
pub fn divergence(
    scores: &Tensor,
    utilities: &Tensor,
    known: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    let utilities = utilities.clamp(0f64, 1f64)?;
    let closed = ((known - 1.0)? * CLOSED)?;
    let log_of = |logits: Tensor| candle_nn::ops::log_softmax(&(logits + &closed)?, D::Minus1);
    let wanted = log_of((&utilities / temperature)?)?;
    let given = log_of(scores.clone())?;
    let terms = ((wanted.exp()? * (wanted - given)?)? * known)?.sum(D::Minus1)?;
    let highest = (&utilities + &closed)?.max(D::Minus1)?;
    let lowest = (&utilities - &closed)?.min(D::Minus1)?;
    let counts = (highest - lowest)?.gt(1e-6)?.to_dtype(DType::F32)?;
    let lists = f64::from(counts.sum_all()?.to_scalar::<f32>()?).max(1.0);
    (terms * counts)?.sum_all()? / lists
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::{Device, Var};

    fn t<const N: usize>(rows: &[[f32; N]]) -> Tensor {
        Tensor::from_vec(rows.concat(), (rows.len(), N), &Device::Cpu).unwrap()
    }

    #[test]
    fn divergence_by_hand() {
        // Wanted: masses 4, 1, 1 (utility ln 4 · τ above the others): 2/3, 1/6, 1/6. Given: thirds.
        let tau = 0.5;
        let best = 4f32.ln() * tau;
        let utilities = t(&[[best, 0.0, 0.0, 0.9], [0.3, 0.3, 0.3, 0.3], [0.7, 0.0, 0.0, 0.0]]);
        let known = t(&[[1.0, 1.0, 1.0, 0.0], [1.0; 4], [1.0, 0.0, 0.0, 0.0]]);
        let scores = t(&[[1.0, 1.0, 1.0, 9.0], [0.0, 1.0, 2.0, 3.0], [0.0; 4]]);
        let loss = divergence(&scores, &utilities, &known, f64::from(tau)).unwrap();
        let by_hand = 2.0 / 3.0 * 2f32.ln() + 1.0 / 3.0 * 0.5f32.ln();
        // The second list has no order and the third one document: neither counts.
        assert!((loss.to_scalar::<f32>().unwrap() - by_hand).abs() < 1e-6);
        let none = divergence(&scores, &utilities, &t(&[[0.0; 4]; 3]), 0.5).unwrap();
        assert_eq!(none.to_scalar::<f32>().unwrap(), 0.0);
    }

    #[test]
    fn gradient_agrees_with_finite_differences_and_sums_to_zero() {
        let start = [0.4f32, -0.9, 1.3, 0.2];
        let (utilities, known) = (t(&[[0.8, 0.1, 1.4, 0.6]]), t(&[[1.0, 1.0, 1.0, 0.0]]));
        let scores = Var::from_tensor(&t(&[start])).unwrap();
        let loss = |scores: &Tensor| divergence(scores, &utilities, &known, 0.3).unwrap();
        let gradients = loss(scores.as_tensor()).backward().unwrap();
        let gradient = gradients.get(&scores).unwrap().to_vec2::<f32>().unwrap();
        for i in 0..start.len() {
            let at = |step: f32| {
                let mut moved = start;
                moved[i] += step;
                loss(&t(&[moved])).to_scalar::<f32>().unwrap()
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            let found = gradient[0][i];
            assert!((found - numeric).abs() < 1e-3, "{i}: {found} against {numeric}");
        }
        assert!(gradient[0].iter().sum::<f32>().abs() < 1e-6, "a shift changes nothing");
        assert_eq!(gradient[0][3], 0.0, "what is not known has no gradient");
    }
}

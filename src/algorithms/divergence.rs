//! How far two policies are apart, step by step.

use candle_core::{D, Result, Tensor};

/// Exact KL(π ‖ reference) of the categorical at each step.
///
/// all_log_probs, reference: (R, T, A) f32 in nats, about -1e9 where masked in both; steps: (R, T)
/// of 0 and 1. Returns the mean over the steps, a scalar ≥ 0 up to rounding.
pub fn kl_categorical(
    all_log_probs: &Tensor,
    reference: &Tensor,
    steps: &Tensor,
) -> Result<Tensor> {
    let difference = (all_log_probs - reference)?;
    let terms = (all_log_probs.exp()? * difference)?.sum(D::Minus1)?;
    (terms * steps)?.sum_all()? / total(steps)?
}

/// The k3 estimate of KL(π ‖ behaviour) from actions drawn by the behaviour policy:
/// `ρ ln ρ − (ρ − 1)` with ρ = π/b, each term ≥ 0.
///
/// log_probs, behaviour: natural logs of the taken steps. Returns the mean; 0 for none. Source:
/// Schulman, "Approximating KL divergence", with the roles for samples from the behaviour.
pub fn kl_k3(log_probs: &[f64], behaviour: &[f64]) -> f64 {
    let n = log_probs.len().min(behaviour.len());
    let terms = log_probs.iter().zip(behaviour).map(|(p, b)| {
        let ratio = (p - b).clamp(-20.0, 20.0).exp();
        ratio * ratio.ln() - (ratio - 1.0)
    });
    terms.sum::<f64>() / (n.max(1) as f64)
}

/// Mean entropy of the steps, in nats. all_log_probs: (R, T, A); steps: (R, T).
pub fn entropy(all_log_probs: &Tensor, steps: &Tensor) -> Result<Tensor> {
    // Masked actions have probability 0 and a finite log: their product is 0.
    let terms = (all_log_probs.exp()? * all_log_probs)?.sum(D::Minus1)?.neg()?;
    (terms * steps)?.sum_all()? / total(steps)?
}

/// Number of steps, at least 1.
fn total(steps: &Tensor) -> Result<f64> {
    Ok(f64::from(steps.sum_all()?.to_scalar::<f32>()?).max(1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::Device;

    #[test]
    fn exact_kl_and_entropy_by_hand() {
        // p = (3/4, 1/4), q = (1/2, 1/2), the third action masked, the second step padding.
        let l = |p: f32| p.ln();
        let p = [[[l(0.75), l(0.25), -1e9], [0.0, -1e9, -1e9]]];
        let q = [[[l(0.5), l(0.5), -1e9], [-1e9, 0.0, -1e9]]];
        let (p, q) =
            (Tensor::new(&p, &Device::Cpu).unwrap(), Tensor::new(&q, &Device::Cpu).unwrap());
        let steps = Tensor::new(&[[1f32, 0.0]], &Device::Cpu).unwrap();
        let kl = kl_categorical(&p, &q, &steps).unwrap().to_scalar::<f32>().unwrap();
        let expected = 0.75 * 1.5f32.ln() + 0.25 * 0.5f32.ln();
        assert!((kl - expected).abs() < 1e-6);
        let h = entropy(&p, &steps).unwrap().to_scalar::<f32>().unwrap();
        assert!((h + 0.75 * 0.75f32.ln() + 0.25 * 0.25f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn k3_is_zero_at_equality_and_unbiased() {
        assert_eq!(kl_k3(&[-1.0, -0.2], &[-1.0, -0.2]), 0.0);
        // All actions of p = (3/4, 1/4), b = (1/2, 1/2), weighted equally as b draws them.
        let p = [0.75f64.ln(), 0.25f64.ln()];
        let b = [0.5f64.ln(); 2];
        let exact = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((kl_k3(&p, &b) - exact).abs() < 1e-12);
    }
}

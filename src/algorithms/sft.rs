//! Behaviour cloning: likelihood of given selections, and its soft form over single documents.

use candle_core::{D, Result, Tensor};

/// Negative log-likelihood of whole selections, mean over selections. log_probs: (R, T) f32 of the
/// steps taken, 0 at padding. Scalar in nats.
pub fn negative_log_likelihood(log_probs: &Tensor) -> Result<Tensor> {
    log_probs.sum(D::Minus1)?.neg()?.mean_all()
}

/// Cross-entropy between a target distribution and the policy at one step each.
///
/// all_log_probs: (R, A) f32 in nats, about -1e9 where masked; targets: (R, A), rows sum to 1 and
/// are 0 where masked; weights: (R) ≥ 0. Scalar: weighted mean, 0 if all weights are 0.
pub fn soft_cross_entropy(
    all_log_probs: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
) -> Result<Tensor> {
    let rows = (all_log_probs * targets)?.sum(D::Minus1)?.neg()?;
    let total = f64::from(weights.sum_all()?.to_scalar::<f32>()?);
    (rows * weights)?.sum_all()? / total.max(1e-12)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::Device;

    #[test]
    fn likelihood_and_cross_entropy_by_hand() {
        let steps = Tensor::new(&[[-0.5f32, -0.25], [-1.0, 0.0]], &Device::Cpu).unwrap();
        let nll = negative_log_likelihood(&steps).unwrap().to_scalar::<f32>().unwrap();
        assert!((nll - 0.875).abs() < 1e-6);
        let log_probs =
            Tensor::new(&[[0.5f32.ln(), 0.5f32.ln(), -1e9], [0.0, -1e9, -1e9]], &Device::Cpu);
        let targets = Tensor::new(&[[1f32, 0.0, 0.0], [1.0, 0.0, 0.0]], &Device::Cpu).unwrap();
        let weights = Tensor::new(&[3f32, 1.0], &Device::Cpu).unwrap();
        let loss = soft_cross_entropy(&log_probs.unwrap(), &targets, &weights).unwrap();
        assert!((loss.to_scalar::<f32>().unwrap() - 0.75 * 2f32.ln()).abs() < 1e-6);
    }
}

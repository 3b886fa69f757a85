//! The clipped sequential objective, off-policy corrected.
//!
//! Source: RRPO (arXiv 2604.02091) §2.2 and PPO (Schulman et al. 2017, eq. 7). The ratio is taken to
//! the *behaviour* policy that drew the action, as its logged propensity says, so the correction is
//! exact for any age of the sample; distance from the reference is held by a KL term beside it.

use candle_core::{Result, Tensor};

/// What the clipped objective gives.
#[derive(Debug, Clone)]
pub struct Clipped {
    /// Scalar to be minimised: −mean over steps of min(ρA, clip(ρ)A).
    pub loss: Tensor,
    /// Share of steps at which the clip was active, in [0, 1].
    pub clip_fraction: f64,
}

/// log_probs: (R, T) f32 under the policy, 0 at padding; behaviour: (R, T) logged; advantages:
/// (R, T); steps: (R, T) of 0 and 1; clip in (0, 1).
///
/// `min` makes the bound pessimistic for both signs of the advantage; the log-ratio is held within
/// ±10 so that one impossible sample cannot overflow the batch.
pub fn clipped_surrogate(
    log_probs: &Tensor,
    behaviour: &Tensor,
    advantages: &Tensor,
    steps: &Tensor,
    clip: f64,
) -> Result<Clipped> {
    let ratio = (log_probs - behaviour)?.clamp(-10f64, 10f64)?.exp()?;
    let clipped = ratio.clamp(1.0 - clip, 1.0 + clip)?;
    let free = (&ratio * advantages)?;
    let bound = (&clipped * advantages)?;
    let count = f64::from(steps.sum_all()?.to_scalar::<f32>()?).max(1.0);
    // A mask instead of `minimum`, whose gradient at a tie (every first step) is split or doubled.
    let is_clipped = bound.lt(&free)?;
    let active = (is_clipped.to_dtype(steps.dtype())? * steps)?;
    let clip_fraction = f64::from(active.sum_all()?.to_scalar::<f32>()?) / count;
    let terms = is_clipped.where_cond(&bound, &free)?;
    let loss = ((terms * steps)?.sum_all()?.neg()? / count)?;
    Ok(Clipped { loss, clip_fraction })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::{Device, Var};

    fn t(v: [f32; 3]) -> Tensor {
        Tensor::new(&[v], &Device::Cpu).unwrap()
    }

    #[test]
    fn objective_by_hand() {
        // Ratios 2, 0.5, 1 (padding). Advantages 1, −1: min(2, 1.2) = 1.2; min(−0.5, −0.8) = −0.8.
        let log_probs = t([2f32.ln(), 0.5f32.ln(), 0.0]);
        let steps = t([1.0, 1.0, 0.0]);
        let c =
            clipped_surrogate(&log_probs, &t([0.0; 3]), &t([1.0, -1.0, 5.0]), &steps, 0.2).unwrap();
        assert!((c.loss.to_scalar::<f32>().unwrap() + 0.2).abs() < 1e-6);
        assert_eq!(c.clip_fraction, 1.0);
        // The other signs are not clipped: moving back towards the behaviour stays free.
        let c =
            clipped_surrogate(&log_probs, &t([0.0; 3]), &t([-1.0, 1.0, 0.0]), &steps, 0.2).unwrap();
        assert!((c.loss.to_scalar::<f32>().unwrap() - 0.75).abs() < 1e-6);
        assert_eq!(c.clip_fraction, 0.0);
    }

    #[test]
    fn at_ratio_one_the_gradient_is_the_policy_gradient() {
        let log_probs = Var::new(&[[-0.3f32, -1.0, -2.0]], &Device::Cpu).unwrap();
        let behaviour = log_probs.as_detached_tensor().copy().unwrap();
        let c = clipped_surrogate(&log_probs, &behaviour, &t([2.0, -1.0, 0.5]), &t([1.0; 3]), 0.2)
            .unwrap();
        let grads = c.loss.backward().unwrap();
        let grad = grads.get(&log_probs).unwrap().to_vec2::<f32>().unwrap();
        for (g, a) in grad[0].iter().zip([2.0, -1.0, 0.5]) {
            assert!((g + a / 3.0).abs() < 1e-6);
        }
    }
}

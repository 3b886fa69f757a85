//! Pointwise regression of each document's own utility: what the answer from it alone earned.
//!
//! Dense credit beside the sequence objectives: one reward for each candidate instead of one for
//! each selection. The direct method of off-policy learning, with the score as the logit.

use candle_core::{Result, Tensor};

/// Binary cross-entropy of σ(scores) against utilities.
///
/// scores: (B, n) f32; utilities: (B, n), bounded to [0, 1] here, for beyond it the loss has no
/// minimum; known: (B, n), 1 where the utility is known and else 0. Scalar: mean over the known, 0
/// if there is none. Computed from logits without overflow.
pub fn regression(scores: &Tensor, utilities: &Tensor, known: &Tensor) -> Result<Tensor> {
    let utilities = &utilities.clamp(0f64, 1f64)?;
    // −y ln σ(s) − (1 − y) ln σ(−s) = relu(s) − s·y + ln(1 + e^−|s|)
    let soft = ((scores.abs()?.neg()?.exp()? + 1.0)?.log()? + scores.relu()?)?;
    let terms = (soft - (scores * utilities)?)?;
    let count = f64::from(known.sum_all()?.to_scalar::<f32>()?).max(1.0);
    (terms * known)?.sum_all()? / count
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn a_reward_outside_its_range_counts_as_the_end_of_it() {
        let at = |target: f32| {
            let scores = Var::new(&[[40f32, -40.0]], &Device::Cpu).unwrap();
            let targets = Tensor::new(&[[target, target]], &Device::Cpu).unwrap();
            let known = Tensor::ones((1, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
            let loss = regression(&scores, &targets, &known).unwrap();
            let grads = loss.backward().unwrap();
            let grad = grads.get(&scores).unwrap().to_vec2::<f32>().unwrap();
            (loss.to_scalar::<f32>().unwrap(), grad)
        };
        // Without a bound the loss of a target beyond 1 has no minimum: it falls for ever.
        assert_eq!(at(1.3), at(1.0));
        assert_eq!(at(-0.2), at(0.0));
        assert!(at(1.3).0 >= 0.0 && at(1.3).1[0][0].abs() < 1e-6);
    }

    #[test]
    fn loss_and_gradient_by_hand() {
        let scores = Var::new(&[[0f32, 2.0, 80.0]], &Device::Cpu).unwrap();
        let t = |v: [f32; 3]| Tensor::new(&[v], &Device::Cpu).unwrap();
        let loss = regression(&scores, &t([1.0, 0.25, 0.0]), &t([1.0, 1.0, 0.0])).unwrap();
        let sigma = 1.0 / (1.0 + (-2f32).exp());
        let second = -0.25 * sigma.ln() - 0.75 * (1.0 - sigma).ln();
        let expected = (2f32.ln() + second) / 2.0;
        assert!((loss.to_scalar::<f32>().unwrap() - expected).abs() < 1e-6);
        let grads = loss.backward().unwrap();
        let grad = grads.get(&scores).unwrap().to_vec2::<f32>().unwrap();
        // d/ds = (σ(s) − y) / 2 for the known ones.
        assert!((grad[0][0] + 0.25).abs() < 1e-6);
        assert!((grad[0][1] - (sigma - 0.25) / 2.0).abs() < 1e-6);
        assert_eq!(grad[0][2], 0.0);
    }
}

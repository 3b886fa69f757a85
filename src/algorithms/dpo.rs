//! Direct preference optimisation on pairs of selections.
//!
//! Source: Rafailov et al. 2023, eq. 7; DynamicRAG (arXiv 2505.07233) eq. 5–6 with best and worst
//! sampled selections as the pair.

use candle_core::{Result, Tensor};

/// The pieces of a preference loss.
#[derive(Debug, Clone)]
pub struct Preference {
    /// Scalar: mean of −ln σ(β · margin) + α · (−ln π(chosen)).
    pub loss: Tensor,
    /// (P): log-ratio of chosen minus log-ratio of rejected, in nats.
    pub margin: Tensor,
}

/// chosen, rejected: (P) f32, log-probability of whole selections under the policy;
/// reference_chosen, reference_rejected: (P) under the frozen reference; beta > 0: inverse
/// temperature; sft_weight ≥ 0: weight of the likelihood of the chosen, the known remedy against
/// both likelihoods falling together.
pub fn preference(
    chosen: &Tensor,
    rejected: &Tensor,
    reference_chosen: &Tensor,
    reference_rejected: &Tensor,
    beta: f64,
    sft_weight: f64,
) -> Result<Preference> {
    let margin = ((chosen - reference_chosen)? - (rejected - reference_rejected)?)?;
    // −ln σ(x) = ln(1 + e^−x) = relu(−x) + ln(1 + e^−|x|): no overflow at either end.
    let x = (&margin * beta)?;
    let soft = ((x.abs()?.neg()?.exp()? + 1.0)?.log()? + x.neg()?.relu()?)?;
    let loss = (soft.mean_all()? + (chosen.neg()?.mean_all()? * sft_weight)?)?;
    Ok(Preference { loss, margin })
}

/// Best and worst of one group of tried selections, as indices; `None` if their rewards differ by
/// less than `gap_min`, if either is not finite, or if they are the same selection.
///
/// Ties go to the shorter selection for the best (fewer documents earn the same) and to the longer
/// for the worst.
pub fn best_and_worst(
    rewards: &[f64],
    orders: &[Vec<u32>],
    gap_min: f64,
) -> Option<(usize, usize)> {
    let better = |a: usize, b: usize| {
        rewards[a].total_cmp(&rewards[b]).then(orders[b].len().cmp(&orders[a].len()))
    };
    let scored = (0..rewards.len().min(orders.len())).filter(|&i| rewards[i].is_finite());
    let indices: Vec<usize> = scored.collect();
    let best = *indices.iter().max_by(|a, b| better(**a, **b))?;
    let worst = *indices.iter().min_by(|a, b| better(**a, **b))?;
    let is_pair = rewards[best] - rewards[worst] >= gap_min && orders[best] != orders[worst];
    is_pair.then_some((best, worst))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::{Device, Var};

    fn loss(chosen: f32, rejected: f32, beta: f64, sft: f64) -> f32 {
        let t = |v: f32| Tensor::new(&[v], &Device::Cpu).unwrap();
        let p = preference(&t(chosen), &t(rejected), &t(-1.0), &t(-2.0), beta, sft).unwrap();
        p.loss.to_scalar().unwrap()
    }

    #[test]
    fn loss_by_hand() {
        // At the reference the margin is 0 and the loss ln 2.
        assert!((loss(-1.0, -2.0, 0.1, 0.0) - 2f32.ln()).abs() < 1e-6);
        // Margin (-0.5 + 1) - (-3 + 2) = 1.5, β 2: −ln σ(3).
        assert!((loss(-0.5, -3.0, 2.0, 0.0) - (1.0 + (-3f32).exp()).ln()).abs() < 1e-6);
        assert!((loss(-0.5, -3.0, 2.0, 0.1) - (1.0 + (-3f32).exp()).ln() - 0.05).abs() < 1e-6);
        assert!(loss(-1000.0, 0.0, 1.0, 0.0).is_finite());
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let chosen = Var::new(&[-0.7f32, -1.9], &Device::Cpu).unwrap();
        let t = |v: [f32; 2]| Tensor::new(&v, &Device::Cpu).unwrap();
        let run = |c: &Tensor| {
            preference(c, &t([-1.1, -0.4]), &t([-1.0, -1.5]), &t([-0.9, -0.6]), 0.8, 0.2)
                .unwrap()
                .loss
        };
        let grads = run(chosen.as_tensor()).backward().unwrap();
        let grad: Vec<f32> = grads.get(&chosen).unwrap().to_vec1().unwrap();
        for i in 0..2 {
            let at = |step: f32| {
                let mut v = [-0.7f32, -1.9];
                v[i] += step;
                run(&t(v)).to_scalar::<f32>().unwrap()
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((grad[i] - numeric).abs() < 1e-3, "{} vs {numeric}", grad[i]);
        }
    }

    #[test]
    fn pairs_need_a_gap_and_two_selections() {
        let orders = [vec![1, 2], vec![1], vec![0, 3], vec![2]];
        assert_eq!(best_and_worst(&[0.9, 0.9, 0.1, f64::NAN], &orders, 0.1), Some((1, 2)));
        assert_eq!(best_and_worst(&[0.5, 0.5, 0.45, 0.5], &orders, 0.1), None);
        assert_eq!(best_and_worst(&[0.9, 0.1], &[vec![1], vec![1]], 0.1), None);
        assert_eq!(best_and_worst(&[], &[], 0.1), None);
    }
}

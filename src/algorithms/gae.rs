//! Generalised advantage estimation with a learned value.
//!
//! Source: Schulman et al. 2016 (arXiv 1506.02438), eq. 11 and 16:
//! `δ_t = r_t + γ V_{t+1} − V_t`, `A_t = Σ_{j≥t} (γλ)^{j−t} δ_j`, the value after the last step is
//! 0.

/// Advantages and the returns that a value function is fitted to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Estimate {
    /// (T) `A_t`.
    pub advantages: Vec<f64>,
    /// (T) `A_t + V_t`: the λ-return.
    pub returns: Vec<f64>,
}

/// rewards, values: (T) of one episode that ends after its last step; gamma, lambda in [0, 1].
/// Where the lengths differ the rest of the longer one is left out.
pub fn estimate(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Estimate {
    let steps = rewards.len().min(values.len());
    let mut advantages = vec![0.0; steps];
    let (mut after, mut value_after) = (0.0, 0.0);
    for t in (0..steps).rev() {
        let delta = rewards[t] + gamma * value_after - values[t];
        after = delta + gamma * lambda * after;
        advantages[t] = after;
        value_after = values[t];
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    Estimate { advantages, returns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-12, "{found:?} against {expected:?}");
        }
    }

    #[test]
    fn advantages_equal_numbers_worked_by_hand() {
        // γ 0.5, λ 0.5. δ_1 = 2 − 1 = 1; δ_0 = −0.2 + 0.5 · 1 − 0.4 = −0.1.
        // A_1 = 1; A_0 = −0.1 + 0.25 · 1 = 0.15.
        let found = estimate(&[-0.2, 2.0], &[0.4, 1.0], 0.5, 0.5);
        close(&found.advantages, &[0.15, 1.0]);
        close(&found.returns, &[0.55, 2.0]);
    }

    #[test]
    fn lambda_one_gives_the_return_less_the_value_and_lambda_zero_one_step() {
        let (rewards, values) = ([1.0, -0.5, 2.0], [0.3, 0.7, -0.2]);
        let all = estimate(&rewards, &values, 0.9, 1.0);
        close(&all.returns, &[1.0 - 0.45 + 0.81 * 2.0, -0.5 + 1.8, 2.0]);
        let one = estimate(&rewards, &values, 0.9, 0.0);
        close(&one.advantages, &[1.0 + 0.63 - 0.3, -0.5 - 0.18 - 0.7, 2.2]);
    }

    #[test]
    fn a_value_that_is_the_return_leaves_no_advantage() {
        let found = estimate(&[-0.2, 2.0], &[-0.2 + 0.99 * 2.0, 2.0], 0.99, 0.95);
        close(&found.advantages, &[0.0, 0.0]);
        assert_eq!(estimate(&[], &[], 0.9, 0.9), Estimate::default());
    }
}

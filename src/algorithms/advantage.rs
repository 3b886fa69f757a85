//! Advantages over the steps of one selection, from prefix rewards and a reference's.
//!
//! Source: RRPO (arXiv 2604.02091): reward r_t is the judged answer from the first t documents,
//! V_t the same for the first t documents of the frozen reference's greedy selection.

/// The self-critical form: `A_t = Σ_{j≥t} (γλ)^{j−t} (r_j − V_j)`.
///
/// rewards, baseline: (T), the prefix rewards of the sample and of the reference. Returns (T).
/// It is 0 everywhere when the sample earns what the reference earns, which the printed form is
/// not; therefore it is the default.
pub fn self_critical(rewards: &[f64], baseline: &[f64], gamma: f64, lambda: f64) -> Vec<f64> {
    let delta = |t: usize| rewards[t] - baseline[t];
    discounted(rewards.len().min(baseline.len()), gamma * lambda, delta)
}

/// The form as printed: `δ_t = r_t + γ V_{t+1} − V_t`, `A_t = Σ_{j≥t} (γλ)^{j−t} δ_j`, with
/// `V_{T+1} = 0`.
///
/// The paper's V is a reward of a prefix and not a return to go, so this carries an offset of about
/// γV that only a later normalisation removes; kept for comparison.
pub fn printed(rewards: &[f64], baseline: &[f64], gamma: f64, lambda: f64) -> Vec<f64> {
    let steps = rewards.len().min(baseline.len());
    let next = |t: usize| if t + 1 < steps { baseline[t + 1] } else { 0.0 };
    discounted(steps, gamma * lambda, |t| rewards[t] + gamma * next(t) - baseline[t])
}

/// What the others of a group earned on average after each of `steps` documents: the baseline of
/// REINFORCE leave-one-out (Kool et al. 2019; Ahmadian et al. 2024), which does not depend on what it
/// is compared with, so that the advantages of a group have mean zero and stay unbiased.
///
/// others: prefix rewards of the other draws of the same policy, each after 1, 2, … documents; what
/// has stopped earlier has later what it had by then. `None` where there is no other.
pub fn leave_one_out<'a>(
    others: impl Iterator<Item = &'a [f64]>,
    steps: usize,
) -> Option<Vec<f64>> {
    let (mut sums, mut count) = (vec![0.0; steps], 0.0);
    for rewards in others {
        let last = rewards.last().copied()?;
        for (t, sum) in sums.iter_mut().enumerate() {
            *sum += rewards.get(t).copied().unwrap_or(last);
        }
        count += 1.0;
    }
    sums.iter_mut().for_each(|sum| *sum /= count);
    (count > 0.0).then_some(sums)
}

fn discounted(steps: usize, factor: f64, delta: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut advantages = vec![0.0; steps];
    let mut tail = 0.0;
    for t in (0..steps).rev() {
        tail = delta(t) + factor * tail;
        advantages[t] = tail;
    }
    advantages
}

/// Subtracts the mean and divides by the standard deviation over all values; values that do not
/// vary become 0, for they say nothing.
pub fn whiten(values: &mut [f64]) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n.max(1.0);
    let deviation = variance.sqrt();
    for value in values.iter_mut() {
        *value = if deviation > 1e-8 { (*value - mean) / deviation } else { 0.0 };
    }
}

/// Divides by the root mean square, keeping sign and zero: 0 stays "as good as the reference".
pub fn scale(values: &mut [f64]) {
    let n = values.len() as f64;
    let rms = (values.iter().map(|v| v * v).sum::<f64>() / n.max(1.0)).sqrt();
    if rms > 1e-8 {
        values.iter_mut().for_each(|v| *v /= rms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn self_critical_by_hand() {
        // Differences 0.5, -0.5, 1; factor 0.5: 1 -> -0.5 + 0.5 = 0 -> 0.5 + 0 = 0.5.
        let a = self_critical(&[0.5, 0.0, 1.0], &[0.0, 0.5, 0.0], 0.5, 1.0);
        assert_eq!(a, [0.5, 0.0, 1.0]);
    }

    #[test]
    fn self_critical_is_zero_at_the_reference() {
        let rewards = [0.3, 0.9, 0.4];
        assert_eq!(self_critical(&rewards, &rewards, 0.9, 0.8), [0.0; 3]);
        assert!(printed(&rewards, &rewards, 0.9, 0.8).iter().any(|a| a.abs() > 0.1));
    }

    #[test]
    fn printed_by_hand() {
        // γ = 1, λ = 0.5: δ_2 = 1 - 0.25 = 0.75; δ_1 = 0 + 0.25 - 0.5 = -0.25.
        let a = printed(&[0.0, 1.0], &[0.5, 0.25], 1.0, 0.5);
        assert_eq!(a, [-0.25 + 0.5 * 0.75, 0.75]);
    }

    #[test]
    fn whitened_values_have_mean_zero_and_variance_one() {
        let mut v = [1.0, 2.0, 3.0, 6.0];
        whiten(&mut v);
        assert!(v.iter().sum::<f64>().abs() < 1e-12);
        assert!((v.iter().map(|x| x * x).sum::<f64>() / 4.0 - 1.0).abs() < 1e-12);
        let mut same = [0.7; 3];
        whiten(&mut same);
        assert_eq!(same, [0.0; 3]);
    }

    #[test]
    fn leave_one_out_by_hand() {
        let (a, b) = ([0.2, 0.6, 0.9], [0.4]);
        let mean = leave_one_out([a.as_slice(), b.as_slice()].into_iter(), 3);
        let expected = [0.3, 0.5, 0.65];
        let near = |found: &[f64]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(mean.as_deref().is_some_and(near), "{mean:?}");
        assert_eq!(leave_one_out(std::iter::empty(), 2), None);
        // Whatever the rewards, the advantages of a group add up to nothing.
        let rewards = [[0.1], [0.7], [0.7], [1.0]];
        let advantage = |i: usize| {
            let others = (0..4).filter(|j| *j != i).map(|j| rewards[j].as_slice());
            rewards[i][0] - leave_one_out(others, 1).map_or(0.0, |mean| mean[0])
        };
        assert!((0..4).map(advantage).sum::<f64>().abs() < 1e-12);
    }

    #[test]
    fn scaling_keeps_sign_and_zero() {
        let mut v = [0.0, 3.0, -4.0, 0.0];
        scale(&mut v);
        assert_eq!(v, [0.0, 1.2, -1.6, 0.0]);
    }
}

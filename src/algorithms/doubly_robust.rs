//! Policy gradient on logged decisions: the doubly robust objective and its controls.
//!
//! A logged decision a has the behaviour's log-probability `ln π0(a|x)`, and a reward r where somebody
//! answered. The value of a policy π is estimated by (Dudík, Langford and Li 2011)
//!
//! `Ĵ(π) = mean_i [ E_{a∼π} q̂(x_i, a) + c_i · w̄_i · (r_i − q̂(x_i, a_i)) ]`, `w̄ = min(π/π0, M)`,
//!
//! with `c_i` the weight of the observation (the inverse of the chance of an answer; 0 where there is
//! none). Without a reward model (`q̂` a constant) this is clipped IPS with a baseline; divided by the
//! mean of `c w̄` it is SNIPS (Swaminathan and Joachims 2015). All functions are pure, over f32 tensors.

use candle_core::{D, Result, Tensor};

/// What the weights of one minibatch are like.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WeightFigures {
    /// Effective sample size `(Σ w)² / Σ w²`; 0 of none.
    pub ess: f64,
    /// Rows whose weight was clipped.
    pub clipped: u64,
    /// Rows with a weight.
    pub rows: u64,
}

/// Clipped importance weights with a gradient where they are not clipped.
///
/// log_probs: (R) ln π(a|x), with gradient; behaviour: (R) ln π0(a|x); clip: M > 0. Returns (R)
/// weights `min(π/π0, M)`; a clipped weight is a constant, so its row gives no gradient.
pub fn clipped_weights(
    log_probs: &Tensor,
    behaviour: &Tensor,
    clip: f64,
) -> Result<(Tensor, WeightFigures)> {
    // Bounded before the exponential: 0 · ∞ would be no number.
    let ceiling = clip.ln();
    let ratio = (log_probs - behaviour)?;
    let weights = ratio.minimum(ceiling)?.exp()?;
    // `minimum` passes the gradient at a tie; what lies above gets none.
    let values = weights.to_vec1::<f32>()?;
    let is_clipped = ratio.to_vec1::<f32>()?.into_iter().filter(|r| f64::from(*r) > ceiling);
    let sum: f64 = values.iter().map(|w| f64::from(*w)).sum();
    let squares: f64 = values.iter().map(|w| f64::from(*w).powi(2)).sum();
    let figures = WeightFigures {
        ess: if squares > 0.0 { sum * sum / squares } else { 0.0 },
        clipped: is_clipped.count() as u64,
        rows: values.len() as u64,
    };
    Ok((weights, figures))
}

/// What corrects the reward model: `c · w̄ · (r − q̂)` for each row, (R).
///
/// weights: (R) from [`clipped_weights`]; residuals: (R) `r − q̂`; observed: (R) `c`, ≥ 0.
pub fn corrections(weights: &Tensor, residuals: &Tensor, observed: &Tensor) -> Result<Tensor> {
    (weights * residuals)? * observed
}

/// SNIPS: `Σ c w̄ r / Σ c w̄`, a scalar with gradient through both sums.
///
/// The ratio of two sums over one minibatch is biased by the order of one over its rows, and does
/// not move when all rewards are shifted by a constant.
pub fn self_normalised(weights: &Tensor, rewards: &Tensor, observed: &Tensor) -> Result<Tensor> {
    let weighted = (weights * observed)?;
    let total = weighted.sum_all()?;
    (weighted * rewards)?.sum_all()? / (total + 1e-8)?
}

/// A surrogate whose gradient is that of `mean_i E_{a∼π} q̂(x_i, a)`: the score function with the
/// mean of the other draws of the same list as the baseline (leave-one-out, unbiased).
///
/// log_probs: (B · m) ln π of the drawn selections, m ≥ 2 of each list together, with gradient;
/// values: their q̂. Returns a scalar; its value is that of the centred products, not of the mean.
pub fn expectation(log_probs: &Tensor, values: &[f64], draws: usize) -> Result<Tensor> {
    let mut centred = Vec::with_capacity(values.len());
    for list in values.chunks(draws.max(1)) {
        let (sum, others) = (list.iter().sum::<f64>(), (list.len() as f64 - 1.0).max(1.0));
        centred.extend(list.iter().map(|v| (v - (sum - v) / others) as f32));
    }
    let count = centred.len();
    let centred = Tensor::from_vec(centred, count, log_probs.device())?;
    (log_probs * centred)?.mean_all()
}

/// What the estimate's own noise costs: `sqrt(Var(terms) / rows)` (counterfactual risk minimisation,
/// Swaminathan and Joachims 2015, eq. 7). terms: (R), R ≥ 2; rows: of the whole data set.
pub fn deviation(terms: &Tensor, rows: f64) -> Result<Tensor> {
    let count = terms.dim(0)? as f64;
    let centred = terms.broadcast_sub(&terms.mean_keepdim(D::Minus1)?)?;
    let variance = (centred.sqr()?.sum_all()? / (count - 1.0).max(1.0))?;
    ((variance / rows.max(1.0))? + 1e-12)?.sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use candle_core::{Device, Var};

    fn t(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    fn scalar(value: &Tensor) -> f64 {
        f64::from(value.to_scalar::<f32>().unwrap())
    }

    #[test]
    fn weights_and_corrections_by_hand() {
        // Ratios 0.5, 2 and 30 with M = 10.
        let log_probs = Var::from_tensor(&t(&[0.25f32.ln(), 0.5f32.ln(), 0.6f32.ln()])).unwrap();
        let behaviour = t(&[0.5f32.ln(), 0.25f32.ln(), 0.02f32.ln()]);
        let (weights, figures) = clipped_weights(&log_probs, &behaviour, 10.0).unwrap();
        let found = weights.to_vec1::<f32>().unwrap();
        assert!(found.iter().zip([0.5, 2.0, 10.0]).all(|(f, e)| (f - e).abs() < 1e-5), "{found:?}");
        assert_eq!((figures.clipped, figures.rows), (1, 3));
        assert!((figures.ess - 12.5 * 12.5 / 104.25).abs() < 1e-4);
        let terms = corrections(&weights, &t(&[1.0, -0.5, 0.1]), &t(&[2.0, 1.0, 0.0])).unwrap();
        assert_eq!(
            terms.to_vec1::<f32>().unwrap()[2],
            0.0,
            "what nobody answered corrects nothing"
        );
        // d/dlogπ of Σ c w (r − q) is c w (r − q); of the clipped row nothing.
        let terms = corrections(&weights, &t(&[1.0, -0.5, 0.1]), &t(&[2.0, 1.0, 1.0])).unwrap();
        let gradients = terms.sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(&log_probs).unwrap().to_vec1::<f32>().unwrap();
        let expected = [1.0, -1.0, 0.0];
        assert!(
            gradient.iter().zip(expected).all(|(f, e): (&f32, f32)| (f - e).abs() < 1e-5),
            "{gradient:?}"
        );
    }

    #[test]
    fn a_shift_of_all_rewards_moves_snips_by_the_shift_and_its_gradient_not_at_all() {
        let log_probs = Var::from_tensor(&t(&[-1.0, -0.3, -2.0])).unwrap();
        let behaviour = t(&[-0.7, -1.1, -1.0]);
        let of = |shift: f32| {
            let (weights, _) = clipped_weights(&log_probs, &behaviour, 100.0).unwrap();
            let rewards = t(&[0.2 + shift, 0.9 + shift, 0.4 + shift]);
            let value = self_normalised(&weights, &rewards, &t(&[1.0, 2.0, 1.0])).unwrap();
            let gradients = value.backward().unwrap();
            (scalar(&value), gradients.get(&log_probs).unwrap().to_vec1::<f32>().unwrap())
        };
        let ((at, gradient), (moved, same)) = (of(0.0), of(5.0));
        assert!((moved - at - 5.0).abs() < 1e-4);
        assert!(gradient.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-4), "{same:?}");
    }

    /// Two actions, everything enumerable: the mean of the sampled gradient is the exact one, and
    /// the doubly robust value is unbiased with a wrong model and right weights.
    #[test]
    fn gradients_agree_with_finite_differences_of_the_exact_value() {
        let (worth, modelled) = ([0.9f32, 0.2], [0.4f32, 0.3]);
        let behaviour = [0.3f32, 0.7];
        let value = |logit: f32| {
            let p = 1.0 / (1.0 + (-logit).exp());
            p * worth[0] + (1.0 - p) * worth[1]
        };
        let start = 0.4f32;
        let logit = Var::from_tensor(&t(&[start])).unwrap();
        let log_prob = |action: usize| {
            let signed = if action == 0 { logit.neg().unwrap() } else { logit.as_tensor().clone() };
            ((signed.exp().unwrap() + 1.0).unwrap().log().unwrap()).neg().unwrap()
        };
        let p = 1.0 / (1.0 + (-start).exp());
        let (mut total, mut estimate) = (None::<Tensor>, 0.0);
        for (action, &logged) in behaviour.iter().enumerate() {
            // The expectation over the log, exactly: each action in proportion to π0.
            let (weights, _) = clipped_weights(&log_prob(action), &t(&[logged.ln()]), 1e3).unwrap();
            let residual = t(&[worth[action] - modelled[action]]);
            let term = corrections(&weights, &residual, &t(&[1.0])).unwrap().sum_all().unwrap();
            let term = (term * f64::from(logged)).unwrap();
            estimate += scalar(&term);
            total = Some(match total {
                None => term,
                Some(sum) => (sum + term).unwrap(),
            });
        }
        // The direct part over all pairs of draws, in proportion to their probability.
        for first in 0..2 {
            for second in 0..2 {
                let chance = |a: usize| f64::from(if a == 0 { p } else { 1.0 - p });
                let drawn = Tensor::cat(&[log_prob(first), log_prob(second)], 0).unwrap();
                let values = [f64::from(modelled[first]), f64::from(modelled[second])];
                let term = expectation(&drawn, &values, 2).unwrap();
                let term = (term * (chance(first) * chance(second))).unwrap();
                total = total.map(|sum| (sum + term).unwrap());
            }
        }
        estimate += f64::from(p * modelled[0] + (1.0 - p) * modelled[1]);
        assert!((estimate - f64::from(value(start))).abs() < 1e-5, "{estimate}");
        let gradients = total.unwrap().backward().unwrap();
        let found = gradients.get(&logit).unwrap().to_vec1::<f32>().unwrap()[0];
        let numeric = (value(start + 1e-2) - value(start - 1e-2)) / 2e-2;
        assert!((found - numeric).abs() < 1e-3, "{found} against {numeric}");
    }

    #[test]
    fn the_deviation_of_a_mean_by_hand() {
        // Variance of 0, 2, 4 is 4; over 100 rows the mean errs by 0.2.
        let terms = Var::from_tensor(&t(&[0.0, 2.0, 4.0])).unwrap();
        let found = deviation(&terms, 100.0).unwrap();
        assert!((scalar(&found) - 0.2).abs() < 1e-5);
        let gradients = found.backward().unwrap();
        let gradient = gradients.get(&terms).unwrap().to_vec1::<f32>().unwrap();
        // d/dx_i sqrt(V/100) = (x_i − mean) / (n − 1) / (100 · 0.2).
        assert!((gradient[0] + 0.05).abs() < 1e-5 && gradient[1].abs() < 1e-6, "{gradient:?}");
        assert!(scalar(&deviation(&t(&[1.0, 1.0]), 10.0).unwrap()) < 1e-5);
    }
}

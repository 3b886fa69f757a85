//! Proximal policy optimisation: the clipped surrogate with a clipped value loss beside it.
//!
//! Source: Schulman et al. 2017 (arXiv 1707.06347), eq. 7 and 9. The surrogate is that of
//! `rrpo.rs`, whose ratio is taken to the behaviour policy that drew the action: 1 before the first
//! step of an iteration. The value is clipped around the one it had when the actions were drawn, as
//! in the authors' implementation.

use super::rrpo::clipped_surrogate;
use candle_core::{Result, Tensor};

/// The weights of the terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Width of the clip for ratio and value, in (0, 1).
    pub clip: f64,
    /// Weight of the value loss, ≥ 0.
    pub value: f64,
    /// Weight of the entropy bonus, ≥ 0.
    pub entropy: f64,
}

/// What was done and how it turned out, N actions of any number of episodes. All (N) f32.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Log-probability under the behaviour policy that drew the action, in nats.
    pub behaviour: Tensor,
    /// Advantage.
    pub advantages: Tensor,
    /// 1 for a choice, 0 for an action that was forced or for padding.
    pub steps: Tensor,
}

/// What the value function said and what it should have said; (M) f32 each, a row a state.
#[derive(Debug, Clone)]
pub struct Returns {
    /// Value when the actions were drawn.
    pub old_values: Tensor,
    /// Return: see `gae.rs`.
    pub returns: Tensor,
}

/// The loss of one batch and what to watch.
#[derive(Debug, Clone)]
pub struct Objective {
    /// Scalar to be minimised: −surrogate + value · value loss − entropy · entropy.
    pub loss: Tensor,
    /// Scalar: value loss before its weight.
    pub value_loss: Tensor,
    /// Share of choices at which the clip was active, in [0, 1].
    pub clip_fraction: f64,
}

/// log_probs: (N) f32 of the actions taken under the policy; values: (M) f32; entropy: scalar, mean
/// over choices in nats.
pub fn objective(
    log_probs: &Tensor,
    taken: &Taken,
    (values, returns): (&Tensor, &Returns),
    entropy: &Tensor,
    terms: Terms,
) -> Result<Objective> {
    let clipped = clipped_surrogate(
        &log_probs.unsqueeze(0)?,
        &taken.behaviour.unsqueeze(0)?,
        &taken.advantages.unsqueeze(0)?,
        &taken.steps.unsqueeze(0)?,
        terms.clip,
    )?;
    let value_loss = value_loss(values, returns, terms.clip)?;
    let loss = ((clipped.loss + (&value_loss * terms.value)?)? - (entropy * terms.entropy)?)?;
    Ok(Objective { loss, value_loss, clip_fraction: clipped.clip_fraction })
}

/// Mean of `max((V − R)², (V_old + clip(V − V_old, ±clip) − R)²)`: the pessimistic one of the two,
/// so that a value moves by more than `clip` in one iteration only back towards its return.
pub fn value_loss(values: &Tensor, returns: &Returns, clip: f64) -> Result<Tensor> {
    let old = &returns.old_values;
    let near = (old + (values - old)?.clamp(-clip, clip)?)?;
    let free = (values - &returns.returns)?.sqr()?;
    let held = (near - &returns.returns)?.sqr()?;
    // A mask instead of `maximum`, whose gradient at a tie (every first step) is split or doubled.
    let is_held = held.gt(&free)?;
    is_held.where_cond(&held, &free)?.mean_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::{Device, Var};

    const TERMS: Terms = Terms { clip: 0.2, value: 0.5, entropy: 0.01 };

    fn t(v: &[f32]) -> Tensor {
        Tensor::new(v, &Device::Cpu).unwrap()
    }

    fn number(t: &Tensor) -> f32 {
        t.to_scalar().unwrap()
    }

    fn taken(behaviour: &[f32]) -> Taken {
        Taken {
            behaviour: t(behaviour),
            advantages: t(&[1.0, -2.0, 9.0]),
            steps: t(&[1.0, 1.0, 0.0]),
        }
    }

    fn returns() -> Returns {
        Returns { old_values: t(&[0.0, 1.0]), returns: t(&[1.0, 0.5]) }
    }

    #[test]
    fn the_value_loss_equals_numbers_worked_by_hand() {
        // V = 0.5: free (0.5 − 1)² = 0.25, held (0.2 − 1)² = 0.64, the larger counts.
        // V = 0.9: within the clip, (0.9 − 0.5)² = 0.16 either way.
        let loss = value_loss(&t(&[0.5, 0.9]), &returns(), 0.2).unwrap();
        assert!((number(&loss) - (0.64 + 0.16) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn at_the_first_step_the_ratio_is_exactly_one() {
        let log_probs = t(&[-0.3, -1.7, 0.0]);
        let of = taken(&[-0.3, -1.7, 0.0]);
        let zero = t(&[0.0]).sum_all().unwrap();
        let terms = Terms { value: 0.0, ..TERMS };
        let found =
            objective(&log_probs, &of, (&t(&[0.0, 1.0]), &returns()), &zero, terms).unwrap();
        // −mean of the advantages themselves: no rounding, for exp(0) is 1.
        assert_eq!(number(&found.loss), 0.5);
        assert_eq!(found.clip_fraction, 0.0);
    }

    #[test]
    fn the_objective_adds_its_terms_with_their_weights() {
        // Ratio 1.5 at advantage 1 is clipped to 1.2; ratio 1 at advantage −2: −(1.2 − 2) / 2.
        let log_probs = t(&[1.5f32.ln(), 0.0, 0.0]);
        let (of, values) = (taken(&[0.0; 3]), t(&[0.5, 0.9]));
        let entropy = t(&[2.0]).sum_all().unwrap();
        let found = objective(&log_probs, &of, (&values, &returns()), &entropy, TERMS).unwrap();
        assert!((number(&found.loss) - (0.4 + 0.5 * 0.4 - 0.02)).abs() < 1e-6);
        assert_eq!(found.clip_fraction, 0.5);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        // Away from the kinks of clip and maximum.
        let start = [-0.4f32, -1.2, -0.7, 0.55, 0.93];
        let run = |x: &Tensor| {
            let (log_probs, values) = (x.narrow(0, 0, 3).unwrap(), x.narrow(0, 3, 2).unwrap());
            let entropy = log_probs.neg().unwrap().mean_all().unwrap();
            let of = taken(&[-0.5, -1.1, -0.7]);
            objective(&log_probs, &of, (&values, &returns()), &entropy, TERMS).unwrap().loss
        };
        let x = Var::new(&start, &Device::Cpu).unwrap();
        let grads = run(x.as_tensor()).backward().unwrap();
        let grad: Vec<f32> = grads.get(&x).unwrap().to_vec1().unwrap();
        for i in 0..start.len() {
            let at = |step: f32| {
                let mut moved = start;
                moved[i] += step;
                number(&run(&t(&moved)))
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((grad[i] - numeric).abs() < 2e-3, "{i}: {} against {numeric}", grad[i]);
        }
    }
}

//! A supervisor that errs: an environment whose verdicts are turned round with a given probability.
//!
//! For measuring how much of what is learned survives a noisy judge. Whether a verdict is turned is a
//! function of (seed, question, documents): asking again gives the same wrong answer, as a
//! deterministic weak judge would.

use actors::ports::{Environment, EnvironmentError, Trial};
use actors::types::{Reward, RewardPart};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sha2::{Digest as _, Sha256};

/// An environment with flipped rewards.
pub struct Noisy<'a> {
    inner: &'a dyn Environment,
    flips: f64,
    seed: u64,
}

impl<'a> Noisy<'a> {
    /// Turns a reward r in [0, 1] into 1 − r with probability `flips` (held within [0, 1]).
    pub fn new(inner: &'a dyn Environment, flips: f64, seed: u64) -> Self {
        Self { inner, flips: flips.clamp(0.0, 1.0), seed }
    }

    fn is_flipped(&self, trial: &Trial) -> bool {
        let mut hasher = Sha256::new();
        hasher.update(self.seed.to_le_bytes());
        hasher.update(trial.query.text.as_bytes());
        for document in &trial.documents {
            hasher.update([0]);
            hasher.update(document.id.as_str().as_bytes());
        }
        StdRng::from_seed(hasher.finalize().into()).random_bool(self.flips)
    }
}

impl Environment for Noisy<'_> {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        let scored = self.inner.rewards(trials).into_iter().zip(trials);
        scored
            .map(|(reward, trial)| {
                let reward = reward?;
                if !self.is_flipped(trial) {
                    return Ok(reward);
                }
                let value = (1.0 - reward.total).clamp(0.0, 1.0);
                let name = "flipped".to_owned();
                Reward::from_parts(vec![RewardPart::new(name, value, 1.0)])
                    .ok_or_else(|| EnvironmentError::Unscored("no finite reward".to_owned()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use actors::types::{Document, Query};

    struct One;
    impl Environment for One {
        fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
            let part = RewardPart::new("f1", 0.9, 1.0);
            trials.iter().map(|_| Ok(Reward::from_parts(vec![part.clone()]).unwrap())).collect()
        }
    }

    fn trials() -> Vec<Trial> {
        let trial = |i: usize| Trial {
            query: Query { text: format!("q{i}"), ..Query::default() },
            documents: vec![Document { id: "d".into(), ..Document::default() }],
        };
        (0..1000).map(trial).collect()
    }

    #[test]
    fn the_wished_share_of_verdicts_is_turned_and_stays_turned() {
        let totals = |flips: f64, seed: u64| -> Vec<f64> {
            let noisy = Noisy::new(&One, flips, seed);
            noisy.rewards(&trials()).into_iter().map(|r| r.unwrap().total).collect()
        };
        let turned = |v: &[f64]| v.iter().filter(|t| **t < 0.5).count();
        assert_eq!(turned(&totals(0.0, 1)), 0);
        assert_eq!(turned(&totals(1.0, 1)), 1000);
        let some = totals(0.2, 1);
        // Five standard deviations of a binomial: 63.
        assert!((turned(&some) as i64 - 200).abs() < 64, "{}", turned(&some));
        assert_eq!(some, totals(0.2, 1));
        assert_ne!(some, totals(0.2, 2));
        assert!(some.iter().any(|t| (t - 0.1).abs() < 1e-12));
    }
}

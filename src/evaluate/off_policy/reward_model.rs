//! A model of the reward for the direct method and the doubly robust estimators: ridge regression
//! on features of a decision, cross-fitted over queries.
//!
//! No row is predicted by a model that has seen its query, so the doubly robust estimators stay
//! unbiased whatever the model is worth. The model is linear, hence its mean over a target's draws
//! is its value at the mean of their features. Knows numbers only; `features.rs` says which.

use super::row::Prediction;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of the reward model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardModelConfig {
    /// Whether there is one; without it DM, DR and their kin are not given.
    pub enabled: bool,
    /// Parts that queries are dealt into; each is predicted by a model of the others.
    pub folds: usize,
    /// Ridge penalty for each row, on features of unit variance.
    pub ridge: f64,
    /// Draws from the target behind the mean of its features, for each decision.
    pub draws: usize,
}

impl Default for RewardModelConfig {
    fn default() -> Self {
        Self { enabled: true, folds: 5, ridge: 0.1, draws: 16 }
    }
}

impl RewardModelConfig {
    /// Names the first field out of range, and the range.
    ///
    /// # Errors
    /// `(field, what is expected)`.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let bad = |field: &str, expected: &str| Err((field.to_owned(), expected.to_owned()));
        if !(2..=100).contains(&self.folds) {
            return bad("folds", "2 to 100");
        }
        if !(self.ridge > 0.0 && self.ridge.is_finite()) {
            return bad("ridge", "above 0");
        }
        if !(1..=1_000).contains(&self.draws) {
            return bad("draws", "1 to 1000");
        }
        Ok(())
    }
}

/// One decision for the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The query: its examples are in one fold.
    pub group: String,
    /// Features of what was logged.
    pub logged: Vec<f64>,
    /// Mean features of what the target draws.
    pub target: Vec<f64>,
    /// What the logged decision was worth.
    pub reward: f64,
}

/// Predictions for every example, each by a model that has seen no example of its query. `None`
/// where there are too few queries for as many folds, or features of several widths.
pub fn predict(examples: &[Example], config: &RewardModelConfig) -> Option<Vec<Prediction>> {
    let width = examples.first()?.logged.len();
    let fits = |e: &Example| e.logged.len() == width && e.target.len() == width;
    let folds = folds(examples, config.folds);
    if folds.iter().max()? + 1 < config.folds || !examples.iter().all(fits) {
        return None;
    }
    let mut predictions = vec![Prediction::default(); examples.len()];
    for fold in 0..config.folds {
        let train: Vec<&Example> =
            examples.iter().zip(&folds).filter(|(_, f)| **f != fold).map(|(e, _)| e).collect();
        let model = Ridge::fit(&train, width, config.ridge)?;
        let held = predictions.iter_mut().zip(examples).zip(&folds);
        for ((prediction, example), _) in held.filter(|(_, f)| **f == fold) {
            prediction.logged = model.value(&example.logged);
            prediction.target = model.value(&example.target);
        }
    }
    let all = predictions.iter().all(|p| p.logged.is_finite() && p.target.is_finite());
    all.then_some(predictions)
}

/// The fold of each example: queries are dealt round in the order of a hash of their names.
fn folds(examples: &[Example], folds: usize) -> Vec<usize> {
    let mut names: Vec<(u64, &str)> =
        examples.iter().map(|e| (fnv(&e.group), e.group.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    let of: BTreeMap<&str, usize> =
        names.iter().enumerate().map(|(at, (_, name))| (*name, at % folds)).collect();
    examples.iter().map(|e| of.get(e.group.as_str()).copied().unwrap_or(0)).collect()
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
pub(super) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Coefficient of determination of predictions of the logged rewards, out of fold; at most 1, 0 for
/// the mean, `None` where rewards do not vary.
pub fn r_squared<'a>(pairs: impl Iterator<Item = (f64, f64)> + Clone + 'a) -> Option<f64> {
    let n = pairs.clone().count() as f64;
    let mean = pairs.clone().map(|(_, reward)| reward).sum::<f64>() / n;
    let total: f64 = pairs.clone().map(|(_, r)| (r - mean).powi(2)).sum();
    let residual: f64 = pairs.map(|(q, r)| (r - q).powi(2)).sum();
    (total > 0.0).then(|| 1.0 - residual / total)
}

/// A linear model on standardised features.
struct Ridge {
    intercept: f64,
    centre: Vec<f64>,
    coefficients: Vec<f64>,
}

impl Ridge {
    /// Minimises Σ (y - xβ - b)² + ridge n |β|² on standardised x. `None` where nothing is there to
    /// fit, or the numbers are none.
    fn fit(examples: &[&Example], width: usize, ridge: f64) -> Option<Self> {
        let n = examples.len() as f64;
        if examples.is_empty() {
            return None;
        }
        let mean = |of: &dyn Fn(&Example) -> f64| examples.iter().map(|e| of(e)).sum::<f64>() / n;
        let centre: Vec<f64> = (0..width).map(|j| mean(&|e| e.logged[j])).collect();
        let scale: Vec<f64> = (0..width)
            .map(|j| mean(&|e| (e.logged[j] - centre[j]).powi(2)).sqrt())
            .map(|deviation| if deviation > 1e-9 { 1.0 / deviation } else { 0.0 })
            .collect();
        let intercept = mean(&|e| e.reward);
        let mut gram = vec![0.0; width * width];
        let mut moment = vec![0.0; width];
        let mut x = vec![0.0; width];
        for example in examples {
            for j in 0..width {
                x[j] = (example.logged[j] - centre[j]) * scale[j];
            }
            for j in 0..width {
                moment[j] += x[j] * (example.reward - intercept);
                for k in 0..=j {
                    gram[j * width + k] += x[j] * x[k];
                }
            }
        }
        for j in 0..width {
            gram[j * width + j] += ridge * n;
        }
        let mut coefficients = solve(gram, moment)?;
        coefficients.iter_mut().zip(&scale).for_each(|(b, s)| *b *= s);
        Some(Self { intercept, centre, coefficients })
    }

    fn value(&self, features: &[f64]) -> f64 {
        let terms = features.iter().zip(&self.centre).zip(&self.coefficients);
        self.intercept + terms.map(|((x, c), b)| (x - c) * b).sum::<f64>()
    }
}

/// Solves a symmetric positive definite system whose lower triangle is given (Cholesky); `None` where
/// it is none.
pub(crate) fn solve(mut lower: Vec<f64>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let n = right.len();
    for j in 0..n {
        for k in 0..=j {
            let known: f64 = (0..k).map(|i| lower[j * n + i] * lower[k * n + i]).sum();
            let left = lower[j * n + k] - known;
            if j == k {
                if !(left > 0.0 && left.is_finite()) {
                    return None;
                }
                lower[j * n + j] = left.sqrt();
            } else {
                lower[j * n + k] = left / lower[k * n + k];
            }
        }
    }
    for j in 0..n {
        let known: f64 = (0..j).map(|i| lower[j * n + i] * right[i]).sum();
        right[j] = (right[j] - known) / lower[j * n + j];
    }
    for j in (0..n).rev() {
        let known: f64 = (j + 1..n).map(|i| lower[i * n + j] * right[i]).sum();
        right[j] = (right[j] - known) / lower[j * n + j];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn a_system_of_two_worked_by_hand() {
        // [[4, 2], [2, 3]] x = [8, 7]: x = [1.25, 1.5].
        let found = solve(vec![4.0, 0.0, 2.0, 3.0], vec![8.0, 7.0]).unwrap();
        assert!((found[0] - 1.25).abs() < 1e-12 && (found[1] - 1.5).abs() < 1e-12, "{found:?}");
        assert!(solve(vec![0.0], vec![1.0]).is_none());
    }

    fn examples(n: usize, group: impl Fn(usize) -> String) -> Vec<Example> {
        let mut rng = StdRng::seed_from_u64(3);
        (0..n)
            .map(|i| {
                let logged: Vec<f64> = (0..3).map(|_| rng.random_range(-1.0..1.0)).collect();
                let reward = 0.5 + 0.3 * logged[0] - 0.2 * logged[1];
                let target = vec![1.0, 1.0, 0.0];
                Example { group: group(i), logged, target, reward }
            })
            .collect()
    }

    #[test]
    fn a_linear_reward_is_found_again() {
        let config = RewardModelConfig { ridge: 1e-9, ..RewardModelConfig::default() };
        let examples = examples(200, |i| format!("q{i}"));
        let found = predict(&examples, &config).unwrap();
        for (prediction, example) in found.iter().zip(&examples) {
            assert!((prediction.logged - example.reward).abs() < 1e-6);
            assert!((prediction.target - 0.6).abs() < 1e-6);
        }
        let pairs = found.iter().zip(&examples).map(|(p, e)| (p.logged, e.reward));
        assert!(r_squared(pairs).unwrap() > 0.999_999);
    }

    #[test]
    fn no_prediction_rests_on_a_reward_of_its_own_query() {
        let config = RewardModelConfig::default();
        let group = |i: usize| format!("q{}", i / 4);
        let mut examples = examples(80, group);
        let before = predict(&examples, &config).unwrap();
        examples.iter_mut().filter(|e| e.group == "q3").for_each(|e| e.reward = 50.0);
        let after = predict(&examples, &config).unwrap();
        assert_eq!(before[12..16], after[12..16], "their own reward moved them");
        assert_ne!(before[0..4], after[0..4], "others see it");
        examples.truncate(12);
        assert!(predict(&examples, &config).is_none(), "three queries give no five folds");
    }
}

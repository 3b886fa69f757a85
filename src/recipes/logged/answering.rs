//! Who gives feedback: the chance that a decision is answered, and what follows for its weight.
//!
//! Thumbs come from some users and not from others, and the rewards that are seen are those of the
//! answered decisions alone. Where the chance to be answered depends on what the log shows (the arm,
//! whether the list was explored, its length, the answer), weighting by its inverse makes the answered
//! speak for all (inverse probability of observation; Saito, "Missing-not-at-random", 2020, for the
//! case that is left over: what depends on the reward itself cannot be seen in a log). Where the annoyed
//! answer ρ times as often as the content, whatever they were shown, the odds of a good reward are 1/ρ of
//! the true ones for every list alike: means are off, which list is better is not.
//! Logistic regression with a ridge, by Newton's method in f64. Knows numbers only.

/// Ridge on the coefficients (not on the intercept), for standardised features.
const RIDGE: f64 = 1.0;
/// Newton steps; the problem is convex and small, a handful suffices.
const STEPS: usize = 25;

/// The chance that a decision is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answering {
    /// Intercept first, then one coefficient a standardised feature.
    coefficients: Vec<f64>,
    centre: Vec<f64>,
    scale: Vec<f64>,
    /// No chance is taken to be below this: one rare answer must not speak for hundreds.
    floor: f64,
    share: f64,
}

impl Answering {
    /// Fits the chance to `rows` of features and whether the decision was answered.
    ///
    /// floor: least chance, in (0, 1]. Where one class is missing or there are fewer than ten rows of
    /// either, the chance is the same for all: the share of the answered.
    pub(super) fn fit(rows: &[(Vec<f64>, bool)], floor: f64) -> Self {
        let answered = rows.iter().filter(|(_, answered)| *answered).count();
        let share = answered as f64 / rows.len().max(1) as f64;
        let width = rows.first().map_or(0, |(features, _)| features.len());
        let constant = |share: f64| Self {
            coefficients: vec![logit(share.clamp(1e-6, 1.0 - 1e-6))],
            centre: Vec::new(),
            scale: Vec::new(),
            floor,
            share,
        };
        let is_thin = answered.min(rows.len() - answered) < 10;
        if is_thin || rows.iter().any(|(features, _)| features.len() != width) {
            return constant(if rows.is_empty() { 1.0 } else { share });
        }
        let n = rows.len() as f64;
        let mean = |of: &dyn Fn(&[f64]) -> f64| rows.iter().map(|(x, _)| of(x)).sum::<f64>() / n;
        let centre: Vec<f64> = (0..width).map(|j| mean(&|x| x[j])).collect();
        let scale: Vec<f64> = (0..width)
            .map(|j| mean(&|x| (x[j] - centre[j]).powi(2)).sqrt())
            .map(|deviation| if deviation > 1e-9 { 1.0 / deviation } else { 0.0 })
            .collect();
        let mut fitted = Self { centre, scale, ..constant(share) };
        fitted.coefficients.resize(width + 1, 0.0);
        for _ in 0..STEPS {
            let Some(step) = fitted.newton_step(rows) else { return constant(share) };
            let largest = step.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
            fitted.coefficients.iter_mut().zip(&step).for_each(|(c, s)| *c += s);
            if largest < 1e-9 {
                break;
            }
        }
        if fitted.coefficients.iter().all(|c| c.is_finite()) { fitted } else { constant(share) }
    }

    /// The chance that a decision with these features is answered, in `[floor, 1]`.
    pub(super) fn chance(&self, features: &[f64]) -> f64 {
        sigmoid(self.score(&self.row(features))).max(self.floor)
    }

    /// Share of the decisions that were answered.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// The intercept's 1, then the standardised features.
    fn row(&self, features: &[f64]) -> Vec<f64> {
        let of = |((x, c), s): ((&f64, &f64), &f64)| (x - c) * s;
        let scaled = features.iter().zip(&self.centre).zip(&self.scale).map(of);
        std::iter::once(1.0).chain(scaled).collect()
    }

    fn score(&self, row: &[f64]) -> f64 {
        row.iter().zip(&self.coefficients).map(|(x, c)| x * c).sum()
    }

    /// One step of Newton's method, halved where it is long so that it cannot overshoot.
    fn newton_step(&self, rows: &[(Vec<f64>, bool)]) -> Option<Vec<f64>> {
        let width = self.coefficients.len();
        let mut hessian = vec![0.0; width * width];
        let mut gradient = vec![0.0; width];
        for (features, answered) in rows {
            let row = self.row(features);
            let p = sigmoid(self.score(&row));
            let residual = f64::from(u8::from(*answered)) - p;
            let curvature = p * (1.0 - p);
            for (j, x) in row.iter().enumerate() {
                gradient[j] += residual * x;
                for (k, y) in row.iter().enumerate().take(j + 1) {
                    hessian[j * width + k] += curvature * x * y;
                }
            }
        }
        for j in 0..width {
            let ridge = if j == 0 { 1e-6 } else { RIDGE };
            hessian[j * width + j] += ridge;
            gradient[j] -= ridge * self.coefficients[j];
        }
        let step = crate::evaluate::off_policy::solve(hessian, gradient)?;
        let longest = step.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        let shrink = if longest > 2.0 { 2.0 / longest } else { 1.0 };
        Some(step.into_iter().map(|s| s * shrink).collect())
    }
}

fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn a_planted_chance_is_found_again_and_its_inverse_makes_the_answered_speak_for_all() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut rows, mut rewards) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            // The long answers are the bad ones, and they are answered three times as often.
            let is_long = rng.random_bool(0.5);
            let chance = if is_long { 0.45 } else { 0.15 };
            let reward = f64::from(u8::from(rng.random_bool(if is_long { 0.2 } else { 0.8 })));
            rows.push((vec![f64::from(u8::from(is_long)), 1.0], rng.random_bool(chance)));
            rewards.push(reward);
        }
        let answering = Answering::fit(&rows, 0.02);
        assert!((answering.chance(&[1.0, 1.0]) - 0.45).abs() < 0.02);
        assert!((answering.chance(&[0.0, 1.0]) - 0.15).abs() < 0.02);
        let of_answered = rows.iter().zip(&rewards).filter(|(row, _)| row.1);
        let (mut sum, mut weights, mut plain, mut count) = (0.0, 0.0, 0.0, 0.0);
        for ((features, _), reward) in of_answered {
            let weight = 1.0 / answering.chance(features);
            (sum, weights) = (sum + weight * reward, weights + weight);
            (plain, count) = (plain + reward, count + 1.0);
        }
        assert!((plain / count - 0.35).abs() < 0.02, "the answered alone: {}", plain / count);
        assert!((sum / weights - 0.5).abs() < 0.02, "weighted: {}", sum / weights);
    }

    #[test]
    fn without_both_kinds_the_chance_is_the_share_and_never_below_the_floor() {
        let rows: Vec<(Vec<f64>, bool)> = (0..40).map(|i| (vec![f64::from(i)], false)).collect();
        assert!((Answering::fit(&rows, 0.05).chance(&[3.0]) - 0.05).abs() < 1e-12);
        let all: Vec<(Vec<f64>, bool)> = (0..40).map(|i| (vec![f64::from(i)], true)).collect();
        assert!(Answering::fit(&all, 0.05).chance(&[3.0]) > 0.999);
        assert!(Answering::fit(&[], 0.05).chance(&[]) > 0.999, "nothing is known to be missing");
    }
}

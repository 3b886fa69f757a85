//! The estimators of `vw-estimators`, the evaluation library beside Vowpal Wabbit, on the same
//! numbers: what people who come from there know.
//!
//! Points: IPS, SNIPS, Cressie–Read (empirical likelihood; Karampatziakis, Langford, Mineiro,
//! "Empirical likelihood for contextual bandits", 2020). Intervals: Cressie–Read, Gaussian,
//! Clopper–Pearson, and the confidence sequence in `sequence`. Each takes `(weight, reward)` in
//! the order they were logged. Knows one weight a row; steps and models are the other estimators'.

mod quantiles;
mod sequence;

pub use sequence::confidence_sequence;

use quantiles::{beta_quantile, f_quantile, normal_quantile};

/// A weight and a reward.
pub type Weighted = (f64, f64);

/// Smallest and largest weight there can be, smallest < 1 < largest: not those that came up. The
/// largest may be infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightRange {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Default for WeightRange {
    fn default() -> Self {
        Self { min: 0.0, max: f64::INFINITY }
    }
}

/// Mean w r; `None` of nothing.
pub fn ips(rows: &[Weighted]) -> Option<f64> {
    (!rows.is_empty()).then(|| sum(rows, |(w, r)| w * r) / rows.len() as f64)
}

/// Σ w r / Σ w; `None` of nothing, or where every weight is 0.
pub fn snips(rows: &[Weighted]) -> Option<f64> {
    let weight = sum(rows, |(w, _)| w);
    (weight != 0.0).then(|| sum(rows, |(w, r)| w * r) / weight)
}

/// IPS with a normal interval; `None` of fewer than two rows.
pub fn gaussian(rows: &[Weighted], alpha: f64) -> Option<(f64, f64)> {
    let n = rows.len() as f64;
    if rows.len() < 2 {
        return None;
    }
    let total = sum(rows, |(w, r)| w * r);
    let squares = sum(rows, |(w, r)| (w * r).powi(2));
    let variance = ((squares - total * total / n) / (n - 1.0)).max(0.0);
    let margin = normal_quantile(1.0 - alpha / 2.0) * (variance / n).sqrt();
    Some((total / n - margin, total / n + margin))
}

/// The interval of a binomial share after dividing by the largest weight that came up; `None` where
/// every weight is 0 or a reward leaves `range`. Rewards are scaled to [0, 1] by `range`.
pub fn clopper_pearson(rows: &[Weighted], range: [f64; 2], alpha: f64) -> Option<(f64, f64)> {
    let [low, high] = range;
    let largest = rows.iter().map(|(w, _)| *w).fold(0.0, f64::max);
    if largest <= 0.0 || rows.iter().any(|(_, r)| *r < low || *r > high) {
        return None;
    }
    let successes = sum(rows, |(w, r)| w * (r - low) / (high - low)) / largest;
    let trials = rows.len() as f64 / largest;
    let bottom = if successes > 0.0 {
        beta_quantile(alpha / 2.0, successes, trials - successes + 1.0)
    } else {
        0.0
    };
    // Weights above their mean of 1 can make more successes than trials.
    let top = if successes < trials {
        beta_quantile(1.0 - alpha / 2.0, successes + 1.0, trials - successes)
    } else {
        1.0
    };
    Some((low + bottom * (high - low), low + top * (high - low)))
}

/// The sums that empirical likelihood needs.
struct Moments {
    n: f64,
    w: f64,
    ww: f64,
    wr: f64,
    wwr: f64,
    wwrr: f64,
    r: f64,
    range: WeightRange,
}

impl Moments {
    fn of(rows: &[Weighted], range: WeightRange) -> Self {
        let seen = rows.iter().fold(range, |range, (w, _)| WeightRange {
            min: range.min.min(*w),
            max: range.max.max(*w),
        });
        Self {
            n: rows.len() as f64,
            w: sum(rows, |(w, _)| w),
            ww: sum(rows, |(w, _)| w * w),
            wr: sum(rows, |(w, r)| w * r),
            wwr: sum(rows, |(w, r)| w * w * r),
            wwrr: sum(rows, |(w, r)| w * w * r * r),
            r: sum(rows, |(_, r)| r),
            range: seen,
        }
    }

    /// The weight of the one row that is thought to be missing: it pulls the mean weight to 1.
    fn counterweight(&self) -> f64 {
        if self.w < self.n { self.range.max } else { self.range.min }
    }
}

/// The Cressie–Read (-2) empirical likelihood estimate; `None` of nothing, or where the weights
/// leave it undefined.
pub fn cressie_read(rows: &[Weighted], range: WeightRange) -> Option<f64> {
    if rows.is_empty() {
        return None;
    }
    let m = Moments::of(rows, range);
    let missing = m.counterweight();
    // The tilted probability of a row of weight w is (-γ - βw) / (n + 1).
    let (gamma, beta) = if missing.is_infinite() {
        (-(1.0 + m.n) / m.n, 0.0)
    } else {
        let first = (missing + m.w) / (1.0 + m.n);
        let second = (missing * missing + m.ww) / (1.0 + m.n);
        let spread = first * first - second;
        if spread >= 0.0 {
            return None;
        }
        ((second - first) / spread, (1.0 - first) / spread)
    };
    let seen = (-gamma * m.wr - beta * m.wwr) / (1.0 + m.n);
    let mass = (-gamma * m.w - beta * m.ww) / (1.0 + m.n);
    // Weight that nothing seen accounts for earns the logged mean.
    Some(seen + (1.0 - mass).max(0.0) * m.r / m.n)
}

/// The Cressie–Read (-2) interval of rewards within `rewards`; `None` of nothing, or where a reward
/// leaves them.
pub fn cressie_read_interval(
    rows: &[Weighted],
    range: WeightRange,
    rewards: [f64; 2],
    alpha: f64,
) -> Option<(f64, f64)> {
    let [low, high] = rewards;
    if rows.is_empty() || rows.iter().any(|(_, r)| *r < low || *r > high) {
        return None;
    }
    let m = Moments::of(rows, range);
    let missing = m.counterweight();
    let unconstrained = if missing.is_infinite() {
        1.0 + 1.0 / m.n
    } else {
        let first = (missing + m.w) / (1.0 + m.n);
        let second = (missing * missing + m.ww) / (1.0 + m.n);
        (1.0 + m.n) * (first - 1.0).powi(2) / (second - first * first)
    };
    let allowed = f_quantile(1.0 - alpha, m.n);
    let phi = (-unconstrained - allowed) / (2.0 * (1.0 + m.n));
    let bound = |reward: f64, sign: f64| {
        let ends = [m.range.min, m.range.max];
        let least = ends
            .into_iter()
            .filter_map(|weight| extreme(&m, weight, (reward, sign), phi))
            .fold(f64::INFINITY, f64::min);
        let least = if least.is_finite() { least } else { low };
        (sign * least).clamp(low, high)
    };
    Some((bound(low, 1.0), bound(high, -1.0)))
}

/// Products this close to 0 count as 0.
const TINY: f64 = 1e-9;

/// The least value (of `sign` times the reward) that the likelihood allows with a missing row of
/// this weight and reward; `None` where it allows none.
fn extreme(m: &Moments, weight: f64, (r, sign): (f64, f64), phi: f64) -> Option<f64> {
    let (x, y, z) = if weight.is_infinite() {
        let x = sign * (r + (m.wr - m.w * r) / m.n);
        let y = (r * m.w - m.wr).powi(2) / (m.n * (1.0 + m.n))
            - (r * r * m.ww - 2.0 * r * m.wwr + m.wwrr) / (1.0 + m.n);
        (x, y, phi + 1.0 / (2.0 * m.n))
    } else {
        let mean = |sum: f64, one: f64| (one + sum) / (1.0 + m.n);
        let (w, ww) = (mean(m.w, weight), mean(m.ww, weight * weight));
        let (wr, wwr) = (sign * mean(m.wr, weight * r), sign * mean(m.wwr, weight * weight * r));
        let wwrr = mean(m.wwrr, weight * weight * r * r);
        let variance = ww - w * w;
        if variance <= 0.0 {
            return None;
        }
        let covariance = wwr - w * wr;
        let x = wr + (1.0 - w) * covariance / variance;
        let y = covariance * covariance / variance - (wwrr - wr * wr);
        (x, y, phi + (1.0 - w).powi(2) / (2.0 * variance))
    };
    let product = y * z;
    if product.abs() <= TINY * TINY {
        Some(x - std::f64::consts::SQRT_2 * TINY)
    } else if z <= 0.0 && product >= 0.0 {
        Some(x - (2.0 * product).sqrt())
    } else {
        None
    }
}

/// A compensated sum (Neumaier): the error does not grow with the number of rows.
fn sum(rows: &[Weighted], of: impl Fn(Weighted) -> f64) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0_f64);
    for row in rows {
        let value = of(*row);
        let next = total + value;
        lost += if total.abs() >= value.abs() {
            (total - next) + value
        } else {
            (value - next) + total
        };
        total = next;
    }
    total + lost
}

#[cfg(test)]
mod tests;

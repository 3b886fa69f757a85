//! The e-detector: a statistic that crosses its threshold once in so many observations at most
//! while nothing changes, and soon after something did.
//!
//! Shin, Ramdas, Rinaldo (2022), "E-detectors: a nonparametric framework for sequential change
//! detection", §2: with e-values `L_t` (mean at most 1 given the past, while nothing changed) the
//! Shiryaev-Roberts recursion `M_t = L_t (M_{t-1} + 1)` has `E[M_τ] ≤ E[τ]` for every stopping
//! time, so the first time that `M` reaches A comes after A observations or more on average. A
//! weighted mean of such statistics is one again: that is how a size of change that is not known is
//! met.

/// Statistics are cut off here, so that no product overflows; any threshold is far below.
const STATISTIC_MAX: f64 = 1e100;

/// A mixture of Shiryaev-Roberts statistics over alternatives, equally weighted.
#[derive(Debug, Clone)]
pub(super) struct EDetector {
    statistics: Vec<f64>,
    threshold: f64,
    has_alarmed: bool,
}

impl EDetector {
    /// Over so many alternatives (≥ 1); alarms at `threshold`, the least mean number of
    /// observations between false alarms.
    pub(super) fn new(alternatives: usize, threshold: f64) -> Self {
        Self { statistics: vec![0.0; alternatives.max(1)], threshold, has_alarmed: false }
    }

    /// Takes the e-value of each alternative for one observation; `true` at the crossing. From then
    /// on it stays silent until it is made anew.
    pub(super) fn absorb(&mut self, e_values: impl IntoIterator<Item = f64>) -> bool {
        if self.has_alarmed {
            return false;
        }
        for (statistic, e_value) in self.statistics.iter_mut().zip(e_values) {
            *statistic = (e_value * (*statistic + 1.0)).min(STATISTIC_MAX);
        }
        self.has_alarmed = self.statistic() >= self.threshold;
        self.has_alarmed
    }

    /// Starts over where the observations before cannot be continued; an alarm stands.
    pub(super) fn restart(&mut self) {
        if !self.has_alarmed {
            self.statistics.fill(0.0);
        }
    }

    /// The mixture.
    pub(super) fn statistic(&self) -> f64 {
        self.statistics.iter().sum::<f64>() / self.statistics.len() as f64
    }

    /// Where it alarms.
    pub(super) fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The statistic relative to its threshold; 1 and above since an alarm.
    pub(super) fn level(&self) -> f64 {
        self.statistic() / self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    #[test]
    fn the_recursion_equals_numbers_worked_by_hand() {
        let mut detector = EDetector::new(2, 100.0);
        // 2 · (0 + 1) = 2 and 0.5; then 2 · 3 = 6 and 0.5 · 1.5 = 0.75.
        assert!(!detector.absorb([2.0, 0.5]));
        assert!((detector.statistic() - 1.25).abs() < 1e-12);
        assert!(!detector.absorb([2.0, 0.5]));
        assert!((detector.statistic() - 3.375).abs() < 1e-12);
        assert!((detector.level() - 0.033_75).abs() < 1e-12);
    }

    #[test]
    fn it_alarms_once_and_stays_up() {
        let mut detector = EDetector::new(1, 10.0);
        let alarms = (0..50).filter(|_| detector.absorb([2.0])).count();
        detector.restart();
        assert!(alarms == 1 && detector.level() >= 1.0);
    }

    #[test]
    fn without_a_change_alarms_are_as_rare_as_the_threshold_says() {
        // Fair coins, e-values 1 ± 0.3: the mean run length is at least the threshold.
        let (mut rng, mut total, runs) = (StdRng::seed_from_u64(7), 0_u64, 400_u64);
        for _ in 0..runs {
            let mut detector = EDetector::new(1, 200.0);
            loop {
                total += 1;
                let e_value = if rng.random::<bool>() { 1.3 } else { 0.7 };
                if detector.absorb([e_value]) {
                    break;
                }
            }
        }
        assert!(total / runs >= 185, "mean run length {}", total / runs);
    }
}

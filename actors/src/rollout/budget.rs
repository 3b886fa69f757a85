//! How much exploration may cost an hour: a bucket of regret for each segment of the queries, which
//! refills steadily.
//!
//! Knows numbers and names only. A decision that differs from the greedy one is charged the most it can have
//! cost; when the bucket cannot pay for another, serving is greedy until it can. Whether to explore
//! is decided before the draw, from earlier draws alone, so that propensities stay what they say.

use crate::types::Exploration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bounds of exploration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// Regret that each segment may spend in an hour, in units of reward, > 0; absent: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<f64>,
    /// The most that one decision other than the greedy one may cost, in units of reward, > 0.
    pub regret_max: f64,
    /// Key of the query's metadata whose values are the segments; absent: all queries are one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Most segments with a budget of their own; all others, and queries without the key, share one.
    pub segments_max: usize,
    /// How decisions are drawn while a drift alarm holds, within the budget; absent: as always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widened: Option<Exploration>,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { per_hour: None, regret_max: 1.0, segment: None, segments_max: 16, widened: None }
    }
}

impl BudgetConfig {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let is_amount = |amount: f64| amount.is_finite() && amount > 0.0;
        if !is_amount(self.regret_max) {
            return Err(format!("regret_max: {} must be a finite number above 0", self.regret_max));
        }
        if self.segment.as_ref().is_some_and(String::is_empty) {
            return Err("segment: must name a key of the metadata, or be left out".to_owned());
        }
        match self.per_hour {
            Some(per_hour) if !(is_amount(per_hour) && per_hour >= self.regret_max) => {
                let least = self.regret_max;
                Err(format!("per_hour: {per_hour} must be at least regret_max ({least})"))
            }
            _ => Ok(()),
        }
    }
}

/// What is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    config: BudgetConfig,
    segments: BTreeMap<String, Bucket>,
    /// Of all that have none of their own.
    shared: Bucket,
    spent: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    left: f64,
    filled_ms: u64,
}

impl Bucket {
    fn refill(&mut self, per_hour: f64, now_ms: u64) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds between two queries")]
        let hours = now_ms.saturating_sub(self.filled_ms) as f64 / 3_600_000.0;
        self.left = (self.left + hours * per_hour).min(per_hour);
        self.filled_ms = self.filled_ms.max(now_ms);
    }
}

/// What a decision set aside, and where; for [`Budget::settle`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Aside {
    /// `None`: of the shared budget.
    segment: Option<String>,
}

impl Budget {
    /// Full buckets.
    pub fn new(config: BudgetConfig, now_ms: u64) -> Self {
        let shared = Bucket { left: config.per_hour.unwrap_or(0.0), filled_ms: now_ms };
        Self { config, segments: BTreeMap::new(), shared, spent: 0.0 }
    }

    /// Whether another decision may explore now; `None`: it is made greedily. What it may cost is
    /// set aside at once, and given back by [`Budget::settle`] if it cost nothing, so that queries
    /// beside each other cannot overdraw.
    ///
    /// metadata: of the query.
    pub fn take(&mut self, metadata: &BTreeMap<String, String>, now_ms: u64) -> Option<Aside> {
        let Some(per_hour) = self.config.per_hour else { return Some(Aside { segment: None }) };
        let segment = self.config.segment.as_ref().and_then(|key| metadata.get(key));
        let segment = segment.filter(|segment| self.has_place(segment, now_ms)).cloned();
        let full = Bucket { left: per_hour, filled_ms: now_ms };
        let bucket = match &segment {
            Some(segment) => self.segments.entry(segment.clone()).or_insert(full),
            None => &mut self.shared,
        };
        bucket.refill(per_hour, now_ms);
        if bucket.left < self.config.regret_max {
            return None;
        }
        bucket.left -= self.config.regret_max;
        Some(Aside { segment })
    }

    /// Whether a segment has, or may have, a bucket of its own. Where there are too many, those
    /// that are full again make room: a new one is as they are.
    fn has_place(&mut self, segment: &str, now_ms: u64) -> bool {
        if !self.segments.contains_key(segment) && self.segments.len() >= self.config.segments_max {
            let per_hour = self.config.per_hour.unwrap_or(0.0);
            self.segments.values_mut().for_each(|bucket| bucket.refill(per_hour, now_ms));
            self.segments.retain(|_, bucket| bucket.left < per_hour);
        }
        self.segments.contains_key(segment) || self.segments.len() < self.config.segments_max
    }

    /// Gives back what a decision did not cost.
    pub fn settle(&mut self, aside: Aside, has_deviated: bool) {
        if has_deviated {
            self.spent += self.config.regret_max;
            return;
        }
        let Some(per_hour) = self.config.per_hour else { return };
        let bucket = match &aside.segment {
            Some(segment) => self.segments.get_mut(segment),
            None => Some(&mut self.shared),
        };
        // One that made room was full without it.
        if let Some(bucket) = bucket {
            bucket.left = (bucket.left + self.config.regret_max).min(per_hour);
        }
    }

    /// Regret spent since the start over all segments, at most, in units of reward.
    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// The least that is left to any segment, in units of reward; infinite without a bound.
    pub fn left(&self) -> f64 {
        if self.config.per_hour.is_none() {
            return f64::INFINITY;
        }
        self.segments.values().map(|bucket| bucket.left).fold(self.shared.left, f64::min)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    const HOUR: u64 = 3_600_000;

    fn of(segment: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("segment".to_owned(), segment.to_owned())])
    }

    /// Whether one more decision of the segment may explore, and what it set aside is spent.
    fn explores(budget: &mut Budget, segment: &str, now_ms: u64) -> bool {
        let aside = budget.take(&of(segment), now_ms);
        aside.map(|aside| budget.settle(aside, true)).is_some()
    }

    #[test]
    fn segments_spend_budgets_of_their_own_and_those_beyond_the_bound_share_one() {
        let config = BudgetConfig {
            per_hour: Some(2.0),
            segment: Some("segment".to_owned()),
            segments_max: 2,
            ..BudgetConfig::default()
        };
        let mut budget = Budget::new(config, 0);
        let spend = |budget: &mut Budget, segment: &str, now_ms| {
            (0..10).filter(|_| explores(budget, segment, now_ms)).count()
        };
        assert_eq!(spend(&mut budget, "a", 0), 2);
        assert_eq!(spend(&mut budget, "b", 0), 2, "what another spent is not theirs");
        assert_eq!(spend(&mut budget, "c", 0), 2);
        assert_eq!(spend(&mut budget, "d", 0), 0, "c and d share one");
        assert_eq!(budget.take(&BTreeMap::new(), 0), None, "so do those without a segment");
        // An hour later all are full, and others may have the places.
        assert_eq!(spend(&mut budget, "e", HOUR), 2);
        assert_eq!(spend(&mut budget, "f", HOUR), 2);
        assert_eq!(spend(&mut budget, "g", HOUR), 2);
        assert_eq!(spend(&mut budget, "h", HOUR), 0);
        assert!((budget.spent() - 12.0).abs() < 1e-12);
    }

    #[test]
    fn however_many_segments_come_an_hour_has_a_bound() {
        let config = BudgetConfig {
            per_hour: Some(3.0),
            segment: Some("segment".to_owned()),
            segments_max: 4,
            ..BudgetConfig::default()
        };
        let mut budget = Budget::new(config, 0);
        for n in 0..36_000 {
            explores(&mut budget, &format!("s{n}"), n * 100);
        }
        // Five buckets, full at the start and refilled once.
        assert!(budget.spent() <= 30.0, "{}", budget.spent());
    }

    #[test]
    fn a_spent_budget_makes_serving_greedy_until_it_refills() {
        let config = BudgetConfig { per_hour: Some(3.0), ..BudgetConfig::default() };
        let mut budget = Budget::new(config, 0);
        for _ in 0..3 {
            assert!(explores(&mut budget, "", 0));
        }
        assert!(!explores(&mut budget, "", 0));
        assert_eq!(budget.take(&of(""), HOUR / 3 - 1_000), None);
        assert!(budget.take(&of(""), HOUR / 3 + 1_000).is_some());
        assert!((budget.spent() - 3.0).abs() < 1e-12);
    }

    #[test]
    fn what_was_not_deviated_costs_nothing_and_concurrent_queries_cannot_overdraw() {
        let config = BudgetConfig { per_hour: Some(2.0), ..BudgetConfig::default() };
        let mut budget = Budget::new(config, 0);
        for _ in 0..100 {
            let aside = budget.take(&of(""), 0).unwrap();
            budget.settle(aside, false);
        }
        let mut may_explore = || budget.take(&of(""), 0).is_some();
        assert_eq!([may_explore(), may_explore(), may_explore()], [true, true, false]);
    }

    #[test]
    fn an_hour_never_spends_more_than_its_budget_and_a_full_bucket() {
        let config = BudgetConfig { per_hour: Some(5.0), ..BudgetConfig::default() };
        let mut budget = Budget::new(config, 0);
        for second in 0..3_600 {
            explores(&mut budget, "", second * 1_000);
        }
        assert!(budget.spent() <= 10.0, "{}", budget.spent());
    }
}

//! How much exploration may cost an hour: a bucket of regret that refills steadily.
//!
//! Knows numbers only. A decision that differs from the greedy one is charged the most it can have
//! cost; when the bucket cannot pay for another, serving is greedy until it can. Whether to explore
//! is decided before the draw, from earlier draws alone, so that propensities stay what they say.

use crate::types::Exploration;
use serde::{Deserialize, Serialize};

/// Bounds of exploration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// Regret that may be spent in an hour, in units of reward, > 0; absent: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<f64>,
    /// The most that one decision other than the greedy one may cost, in units of reward, > 0.
    pub regret_max: f64,
    /// How decisions are drawn while a drift alarm holds, within the budget; absent: as always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widened: Option<Exploration>,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { per_hour: None, regret_max: 1.0, widened: None }
    }
}

impl BudgetConfig {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let is_amount = |amount: f64| amount.is_finite() && amount > 0.0;
        if !is_amount(self.regret_max) {
            return Err(format!("regret_max: {} must be a finite number above 0", self.regret_max));
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

/// How a query may be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// As asked.
    AsAsked,
    /// Greedily: the budget is spent.
    Greedy,
}

/// What is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    config: BudgetConfig,
    left: f64,
    filled_ms: u64,
    spent: f64,
}

impl Budget {
    /// A full bucket.
    pub fn new(config: BudgetConfig, now_ms: u64) -> Self {
        Self { config, left: config.per_hour.unwrap_or(0.0), filled_ms: now_ms, spent: 0.0 }
    }

    /// Whether another decision may explore now. What it may cost is set aside at once, and given
    /// back by [`Budget::settle`] if it cost nothing, so that queries beside each other cannot
    /// overdraw.
    pub fn take(&mut self, now_ms: u64) -> Draw {
        let Some(per_hour) = self.config.per_hour else { return Draw::AsAsked };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds between two queries")]
        let hours = now_ms.saturating_sub(self.filled_ms) as f64 / 3_600_000.0;
        self.left = (self.left + hours * per_hour).min(per_hour);
        self.filled_ms = self.filled_ms.max(now_ms);
        if self.left < self.config.regret_max {
            return Draw::Greedy;
        }
        self.left -= self.config.regret_max;
        Draw::AsAsked
    }

    /// Gives back what a decision taken as asked did not cost.
    pub fn settle(&mut self, has_deviated: bool) {
        if has_deviated {
            self.spent += self.config.regret_max;
        } else if let Some(per_hour) = self.config.per_hour {
            self.left = (self.left + self.config.regret_max).min(per_hour);
        }
    }

    /// Regret spent since the start, at most, in units of reward.
    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// What is left, in units of reward; infinite without a bound.
    pub fn left(&self) -> f64 {
        if self.config.per_hour.is_some() { self.left } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_spent_budget_makes_serving_greedy_until_it_refills() {
        let config = BudgetConfig { per_hour: Some(3.0), ..BudgetConfig::default() };
        let mut budget = Budget::new(config, 0);
        for _ in 0..3 {
            assert_eq!(budget.take(0), Draw::AsAsked);
            budget.settle(true);
        }
        assert_eq!(budget.take(0), Draw::Greedy);
        assert_eq!(budget.take(HOUR / 3 - 1_000), Draw::Greedy);
        assert_eq!(budget.take(HOUR / 3 + 1_000), Draw::AsAsked);
        assert!((budget.spent() - 3.0).abs() < 1e-12);
    }

    #[test]
    fn what_was_not_deviated_costs_nothing_and_concurrent_queries_cannot_overdraw() {
        let config = BudgetConfig { per_hour: Some(2.0), ..BudgetConfig::default() };
        let mut budget = Budget::new(config, 0);
        for _ in 0..100 {
            assert_eq!(budget.take(0), Draw::AsAsked);
            budget.settle(false);
        }
        assert_eq!([budget.take(0), budget.take(0), budget.take(0)][2], Draw::Greedy);
    }

    #[test]
    fn an_hour_never_spends_more_than_its_budget_and_a_full_bucket() {
        let config = BudgetConfig { per_hour: Some(5.0), ..BudgetConfig::default() };
        let mut budget = Budget::new(config, 0);
        for second in 0..3_600 {
            if budget.take(second * 1_000) == Draw::AsAsked {
                budget.settle(true);
            }
        }
        assert!(budget.spent() <= 10.0, "{}", budget.spent());
    }
}

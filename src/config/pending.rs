//! Sections whose owners are still being written; each alias goes when the real struct stands.
//!
//! `ServiceConfig` will be `actors::service::ServiceConfig`. Only this file and `check.rs` know their fields.

use actors::types::{Exploration, SelectionLimits};
use serde::{Deserialize, Serialize};

/// Which children a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Roles {
    /// Answers queries.
    pub serve: bool,
    /// Judges episodes.
    pub judge: bool,
    /// Learns.
    pub learn: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self { serve: true, judge: true, learn: true }
    }
}

/// The actors' settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Documents asked of the index for one query, ≥ 1.
    pub top_n: usize,
    /// Which children run.
    pub roles: Roles,
    /// Masks of every decision.
    pub limits: SelectionLimits,
    /// How decisions are drawn.
    pub exploration: Exploration,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            top_n: 20,
            roles: Roles::default(),
            limits: SelectionLimits { k_min: 1, k_max: 10, token_budget: 2048 },
            exploration: Exploration::Greedy,
        }
    }
}

impl ServiceConfig {
    /// Checks every value; the error is `field: what it may be`.
    pub fn validate(&self) -> Result<(), String> {
        let limits = &self.limits;
        if self.top_n == 0 {
            return Err("top_n: must be at least 1".to_owned());
        }
        if limits.k_min > limits.k_max {
            return Err(format!("limits.k_min: {} is above k_max {}", limits.k_min, limits.k_max));
        }
        match self.exploration {
            Exploration::Sample { temperature, .. }
                if temperature.is_nan() || temperature <= 0.0 =>
            {
                Err(format!(
                    "exploration.temperature: {temperature} must be a finite number above 0"
                ))
            }
            _ => Ok(()),
        }
    }
}

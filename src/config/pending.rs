//! Sections whose owners are still being written; each alias goes when the real struct stands.
//!
//! `ServiceConfig` will be `actors::service::ServiceConfig`, `OnlineConfig` will be
//! `crate::recipes::online::OnlineConfig`. Only this file and `check.rs` know their fields.

use actors::types::{Exploration, SelectionLimits};
use serde::{Deserialize, Serialize};

/// The actors' settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Queries admitted at once; one more is answered 429.
    pub queue_capacity: usize,
    /// Passages asked of the index for one query.
    pub retrieve: usize,
    /// Most queries decided in one forward pass.
    pub batch_max: usize,
    /// Masks of every decision.
    pub limits: SelectionLimits,
    /// How decisions are drawn.
    pub exploration: Exploration,
    /// How long an episode waits for feedback, milliseconds.
    pub join_window_ms: u64,
    /// Seed of ids and of exploration.
    pub seed: u64,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            queue_capacity: 256,
            retrieve: 20,
            batch_max: 8,
            limits: SelectionLimits { k_min: 1, k_max: 5, token_budget: 2048 },
            exploration: Exploration::Sample { temperature: 1.0, epsilon: 0.05 },
            join_window_ms: 600_000,
            seed: 0,
        }
    }
}

/// Hyper-parameters of the online recipe.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineConfig {}

//! The settings of searches by terms, and their bounds.

use actors::ports::SearchError;
use serde::{Deserialize, Serialize};

/// Settings of the embedded index.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedIndexConfig {
    /// How slowly further occurrences of a term saturate, ≥ 0.
    pub k1: f64,
    /// How much long passages are marked down, in [0, 1].
    pub b: f64,
    /// Query terms that occur in more than this share of the passages are left out, unless nothing
    /// else remains; in (0, 1].
    pub common_term_share: f64,
    /// Only in pools larger than this.
    pub common_term_pool_min: u64,
    /// Distinct terms of a query that are looked up, the first ones.
    pub query_terms_max: usize,
    /// Candidates returned at most, whatever is asked for.
    pub candidates_max: usize,
    /// Memory for passages on their way into the index, bytes; at least 15,000,000.
    pub writer_memory_bytes: usize,
}

impl Default for EmbeddedIndexConfig {
    fn default() -> Self {
        Self {
            k1: 0.9,
            b: 0.4,
            common_term_share: 0.2,
            common_term_pool_min: 2_000,
            query_terms_max: 256,
            candidates_max: 1_000,
            writer_memory_bytes: 64_000_000,
        }
    }
}

/// Fails with the first setting out of bounds.
pub(super) fn check(config: &EmbeddedIndexConfig) -> Result<(), SearchError> {
    let refused = |what: &str| Err(SearchError::Refused(format!("index setting {what}")));
    if !(config.k1.is_finite() && config.k1 >= 0.0) {
        return refused(&format!("`k1` is {}, expected a number of at least 0", config.k1));
    }
    if !(0.0..=1.0).contains(&config.b) {
        return refused(&format!("`b` is {}, expected a number in [0, 1]", config.b));
    }
    if !(config.common_term_share > 0.0 && config.common_term_share <= 1.0) {
        let share = config.common_term_share;
        return refused(&format!("`common_term_share` is {share}, expected a number in (0, 1]"));
    }
    Ok(())
}

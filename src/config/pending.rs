//! A section whose owner is still being written; the alias goes when the real struct stands.
//!
//! `OnlineConfig` will be `crate::recipes::online::OnlineConfig`: swap it in `config.rs` and delete
//! this file. Nothing else knows its fields.

use serde::{Deserialize, Serialize};

/// Hyper-parameters of the online recipe.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineConfig {}

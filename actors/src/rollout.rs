//! How weights earn their place, as data and pure functions: what the log says of every version,
//! who is served by which, what the log shows of a canary, and when a stage is over.
//!
//! Floor 1. Knows no actor, no model and no clock; whoever folds the same records comes to the same
//! board, on every node and in `regrade policy verify`.

mod agreement;
mod assignment;
mod board;
mod budget;
mod certificate;
mod comparison;
mod config;
mod ledger;
mod recent;
mod shadows;
mod stages;

pub use agreement::{agreement, kendall_tau};
pub use assignment::{AA, Routing, bucket, holds_control, unit_of};
pub use board::{Board, Effect, Standing};
pub use budget::{Aside, Budget, BudgetConfig};
pub use certificate::{Fault, Grant, Issuer, check};
pub use comparison::{ArmFigures, Comparison};
pub use config::{
    CanaryConfig, Config, GuardConfig, OfflineConfig, OnNoSupport, ParityConfig, Path,
    ShadowConfig, Unit, WatchConfig,
};
pub use ledger::{Ledger, Outcome, Place};
pub use recent::Recent;
pub use shadows::{ShadowFigures, Shadows};
pub use stages::{
    AaFigures, Step, aa_figures, canary_step, inputs_digest, shadow_step, win_evidence,
};

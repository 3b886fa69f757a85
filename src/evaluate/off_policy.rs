//! What a policy would have earned on traffic that another one served, from logged propensities.
//!
//! A log says what one policy chose, with which probability, and what that was worth. Weighting
//! each reward by how much likelier another policy is to choose the same gives that other policy's
//! mean reward, without serving anybody by it. Owns the estimators, their diagnostics, their
//! intervals and the refusal: where the log says too little of a policy there is a reason and no
//! interval.
//!
//! [`Row`] is one logged decision; [`rows()`] makes rows of samples, [`evaluate()`] estimates one
//! policy, [`compare()`] one against another. [`bandit`] are the estimators of the package
//! `vw-estimators` by the same numbers. Knows no log, no head and no trunk.

pub mod bandit;
mod bootstrap;
mod confidence;
mod config;
mod diagnostics;
mod estimators;
mod features;
mod finding;
pub mod reward_model;
mod row;
mod rows;
mod slots;
pub mod traffic;

pub use config::OffPolicyConfig;
pub use diagnostics::{Diagnostics, Refusal};
pub use estimators::{Estimator, point};
pub use finding::{Estimate, Evaluation, Figure, Finding, Spread, compare, evaluate};
pub(crate) use reward_model::{r_squared, solve};
pub use row::{Prediction, Row, RowError, StepPrediction};
pub use rows::{Conduct, Logged, Unusable, check, rows};
pub use slots::slot_probabilities;

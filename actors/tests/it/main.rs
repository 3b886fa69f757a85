//! The service over fakes: flow, faults, restarts, conservation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod bench;
mod config;
mod degraded;
mod experiments;
mod faults;
mod feedback;
mod flow;
mod kills;
mod learning;
mod poison;
mod promotion;
mod replay;
mod rewrites;
mod rollback;
mod staged;
mod swaps;
mod telemetry;

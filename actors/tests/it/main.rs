//! The service over fakes: flow, faults, restarts, conservation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod bench;
mod config;
mod degraded;
mod faults;
mod feedback;
mod flow;
mod learning;
mod poison;
mod promotion;
mod replay;
mod rewrites;
mod staged;
mod swaps;
mod telemetry;

//! The root package's integration tests, one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod baselines;
mod configs;
mod contracts;
mod deploy;
mod evaluate;
mod gateway;
mod generator;
mod ingest;
mod interchange;
mod kafka;
mod llm;
mod ope;
mod parity;
mod qdrant;
mod reward_range;
mod service;
mod services;
mod snapshots;
mod tidy;
mod tiny;

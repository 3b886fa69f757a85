//! The root package's integration tests, one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod baselines;
mod configs;
mod contracts;
mod deploy;
mod gateway;
mod ingest;
mod kafka;
mod llm;
mod parity;
mod qdrant;
mod service;
mod services;
mod snapshots;
mod tidy;
mod tiny;

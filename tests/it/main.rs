//! The root package's integration tests, one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod configs;
mod contracts;
mod gateway;
mod ingest;
mod parity;
mod service;
mod tidy;
mod tiny;

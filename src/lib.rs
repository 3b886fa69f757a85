//! Regrade: a RAG reranker that keeps learning from production traffic.
//!
//! This package is what the actors are plugged into: models, algorithms, rewards, adapters, recipes,
//! configuration and the command line. See `ARCHITECTURE.md` for the map.

pub mod adapters;
pub mod algorithms;
pub mod bench;
pub mod chat;
pub mod cli;
pub mod config;
pub mod datasets;
pub mod demo;
pub mod evaluate;
pub mod gateway;
pub mod ingest;
pub mod interchange;
pub mod policy;
pub mod recipes;
pub mod retrieval;
pub mod rewards;
pub mod text;
pub mod wiring;

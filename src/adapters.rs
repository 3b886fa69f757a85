//! Ports to the world: one file an adapter; siblings never import each other.

pub mod generator_reader;
pub mod index_embedded;
pub mod judge_reference;
pub mod log_embedded;
pub mod snapshots_object;

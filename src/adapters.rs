//! Ports to the world: one file an adapter; siblings never import each other.
//!
//! `contract` holds the suite of each port; `bounded_cache` is shared, and no adapter.

mod bounded_cache;
#[doc(hidden)]
pub mod contract;
pub mod embedder_http;
pub mod embedder_local;
pub mod environment;
pub mod generator_reader;
pub mod index_embedded;
pub mod judge_reference;
pub mod log_embedded;
pub mod snapshots_object;

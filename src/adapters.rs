//! Ports to the world: one file an adapter; siblings never import each other.
//!
//! `contract` holds the suite of each port; `bounded_cache` is shared, and no adapter.

mod bounded_cache;
#[doc(hidden)]
pub mod contract;
pub mod environment;
pub mod generator_fallback;
pub mod generator_http;
pub mod generator_reader;
pub mod index_embedded;
pub mod judge_http;
pub mod judge_reference;
pub mod log_embedded;
pub mod rewriter_http;
pub mod snapshots_object;

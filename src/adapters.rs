//! Ports to the world: one file an adapter; siblings never import each other.
//!
//! `contract` holds the suite of each port; `bounded_cache`, `database_file` and `resilience` are
//! shared, and no adapters.

mod bounded_cache;
#[doc(hidden)]
pub mod contract;
mod database_file;
pub mod embedder_http;
pub mod embedder_local;
pub mod environment;
pub mod generator_answer_head;
pub mod generator_fallback;
pub mod generator_http;
pub mod generator_memory;
pub mod generator_reader;
pub mod index_embedded;
pub mod index_qdrant;
pub mod judge_http;
pub mod judge_reference;
pub mod listwise_http;
pub mod log_embedded;
pub mod log_kafka;
pub mod readings_file;
pub mod resilience;
pub mod rewriter_http;
pub mod seal_ed25519;
pub mod snapshots_object;

//! Ports to the world: one file an adapter; siblings never import each other.
//!
//! `contract` holds the suite of each port; `bounded_cache` and `resilience` are shared, and no
//! adapters.

mod bounded_cache;
#[doc(hidden)]
pub mod contract;
pub mod environment;
pub mod generator_reader;
pub mod index_embedded;
pub mod index_qdrant;
pub mod judge_reference;
pub mod log_embedded;
pub mod resilience;
pub mod snapshots_object;

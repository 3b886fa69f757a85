//! One suite a port: what every adapter of it promises, embedded, remote or fake.
//!
//! Tests call these functions with a way to make the adapter; they panic with the broken promise.
//! Not part of the library's interface: public only so that integration tests and other adapters
//! can use it. Knows ports and types, and no adapter.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test suites, public only to be shared between test binaries"
)]

mod generator;
mod index;
mod judge;
mod log;
mod snapshots;

pub use generator::check_generator;
pub use index::check_search_index;
pub use judge::check_judge;
pub use log::check_event_log;
pub use snapshots::check_snapshot_store;

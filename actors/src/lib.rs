//! What the Regrade service says and does.
//!
//! Reading order: [`types`] (the words), [`ports`] (the sockets), `episode` (one query from top to
//! bottom), then the six actors, then `service` (who supervises whom).

pub mod compute;
pub mod ports;
pub mod types;

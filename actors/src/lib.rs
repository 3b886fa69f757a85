//! What the Regrade service says and does.
//!
//! Reading order: [`types`] (the words), [`ports`] (the sockets), [`episode`] (one query from top to
//! bottom), [`rollout`] (how weights earn their place), then the actors, then [`service`] (who
//! supervises whom).
//!
//! ```text
//! answer ─► service (door) ─► episode ─► retriever ─► reranker ─► generator ─► log (episodes)
//!                                                       ▲ swap
//! log (episodes, feedback) ─► judge ─► log (rewards)    │
//! log (episodes, rewards) ─► replay_buffer ─► learner ──┴► snapshots, log (policies: candidates)
//! log (policies, episodes, rewards, shadows) ─► promoter ─► log (policies: every step)
//! log (policies) ─► policy_follower ─► reranker (champion, canaries), shadow, the door's routing
//! served queries ─► shadow ─► log (shadows)
//! ```
//! No actor imports another: requests between them are closures handed in `Args`, made by `service`.

mod bounds;
mod tail;

pub mod clock;
pub mod compute;
pub mod drift;
pub mod episode;
#[cfg(feature = "fakes")]
pub mod fakes;
pub mod generator;
pub mod intake;
pub mod interleaving;
pub mod invariants;
pub mod judge;
pub mod learner;
pub mod policy_follower;
pub mod ports;
pub mod promoter;
pub mod replay;
pub mod replay_buffer;
pub mod reranker;
pub mod retriever;
pub mod rollout;
pub mod sequential;
pub mod service;
pub mod shadow;
pub mod slot;
pub mod telemetry;
pub mod types;

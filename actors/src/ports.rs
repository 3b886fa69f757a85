//! The sockets of the service: everything outside an actor is reached through one of these traits.
//!
//! Floor 1. Each port has one contract suite that all its adapters pass; only `wiring.rs` of the
//! root package knows which adapter stands behind which port.

mod environment;
mod examiner;
mod generator;
mod index;
mod judge;
mod learner;
mod log;
mod policy;
mod rewriter;
mod seal;
mod snapshots;

pub use environment::{Environment, EnvironmentError, Purchases, Trial};
pub use examiner::{ExamineError, Examiner, Probed};
pub use generator::{GenerateError, Generator};
pub use index::{Search, SearchError, SearchIndex};
pub use judge::{Judge, JudgeError, JudgeTask, Judgement};
pub use learner::{
    Batch, CancelOnDrop, Cancellation, Examination, LearnError, LearnReport, Learner,
};
pub use log::{
    Commit, EventConsumer, EventLog, Found, LogError, NewRecord, Ownership, Record, StateChange,
    Stream,
};
pub use policy::{DecideRequest, Policy, PolicyError};
pub use rewriter::{RewriteError, Rewriter};
pub use seal::{Seal, SealError, Signature};
pub use snapshots::{SnapshotError, SnapshotStore};

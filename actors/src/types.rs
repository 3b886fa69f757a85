//! The vocabulary of the service: plain data, serialisable, without behaviour.
//!
//! Floor 0. Knows no actor, port, model or store. Every record of the event log is made of these
//! types, so a field is added with a default and never renamed.

mod answer;
mod decision;
mod episode;
mod feedback;
mod ids;
mod policy;
mod promotion;
mod query;
mod reward;
mod shadow;

pub use answer::{Answer, AnswerRecord, Ranked, Served, Timings, Usage};
pub use decision::{
    CandidateStates, Decision, Exploration, Gate, PolicyStamp, SelectionLimits, StatesError,
};
pub use episode::{Degraded, Episode, Outcome};
pub use feedback::{Feedback, FeedbackFault, FeedbackKind};
pub use ids::{DecisionId, Digest, DocumentId, PolicyVersion, QueryId, next_id};
pub use policy::{PolicyRecord, PolicySnapshot, PolicyState};
pub use promotion::{
    Arm, Assignment, Certificate, Claims, DraftedBy, Interleaved, LogPosition, StageEvidence,
};
pub use query::{Candidate, Document, Filter, Query, Rewrite};
pub use reward::{EvidenceSource, Reward, RewardPart, RewardRecord, Sample, Verdict, Votes};
pub use shadow::{Agreement, ShadowRecord};

/// Version of the record schema, written into every record of the log.
pub const SCHEMA_VERSION: u32 = 1;

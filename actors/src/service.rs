//! The whole service behind one handle: the supervision tree, the one door, readiness and drain.
//!
//! Floor 4. Knows the actors and the ports, no adapter. PUBLIC SHAPE IS FINAL; bodies follow.

mod config;

pub use config::{AdmissionConfig, Roles, ServiceConfig, SupervisionConfig};

/// Everything outside the actors, handed in by the wiring.
#[derive(Clone)]
pub struct Ports {
    /// Where documents are found.
    pub index: Arc<dyn SearchIndex>,
    /// What answers.
    pub generator: Arc<dyn Generator>,
    /// What judges.
    pub judge: Arc<dyn Judge>,
    /// The only memory.
    pub log: Arc<dyn EventLog>,
    /// Where weights are kept.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Makes a serving policy; called again after a crash.
    pub policy: PolicyFactory, // Arc<dyn Fn() -> Result<Box<dyn Policy>, PolicyError> + Send + Sync>
    /// Makes a learner; called again after a crash.
    pub learner: LearnerFactory, // Arc<dyn Fn() -> Result<Box<dyn Learner>, LearnError> + Send + Sync>
    /// Stamps of records (`Clock::System` in production).
    pub clock: Clock,
}

/// What one caller asks for beyond the configuration.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub limits: Option<SelectionLimits>,
    pub exploration: Option<Exploration>,
    pub top_n: Option<usize>,
}

/// A query answered (or reranked) and logged. serde: Serialize + Deserialize.
pub struct Served {
    pub query_id: QueryId,
    pub decision_id: DecisionId,
    /// `None` on the rerank-only path.
    pub answer: Option<Answer>,
    /// The chosen documents, in order, each with its policy score (`Ranked{document, index, score}`).
    pub documents: Vec<Ranked>,
    pub gate: Gate,
    pub policy: PolicyStamp,
    pub duration_ms: u64,
}

/// Why there is no answer; every variant is a cause a caller can tell apart (`code()` gives a stable word).
pub enum ServiceError {
    /// The door is full: HTTP 429.
    Overloaded,
    /// The service is draining or the role is not run here: 503.
    NotServing(String),
    /// The request itself is wrong: 400 (422).
    Refused(String),
    /// A stage failed: `stage` is retrieve | decide | generate | log; 502/503/504 by `timed_out`.
    Failed { stage: &'static str, reason: String, timed_out: bool },
}

/// Why feedback was not taken.
pub enum FeedbackError {
    /// 404.
    UnknownDecision(DecisionId),
    /// 400.
    Refused(String),
    /// 503.
    Unavailable(String),
}

impl Service {
    pub async fn start(ports: Ports, config: ServiceConfig) -> Result<ServiceHandle, StartError>;
}

/// Cheap to clone; the service stops when the last clone is dropped (prefer `drain`).
impl ServiceHandle {
    pub async fn answer(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError>;
    /// `query.candidates` must be given; a decision, no generation.
    pub async fn rerank(&self, query: Query, overrides: Overrides) -> Result<Served, ServiceError>;
    /// Durable when it returns; gives the feedback's id (drawn if it was empty).
    pub async fn feedback(&self, feedback: Feedback) -> Result<String, FeedbackError>;
    /// Counters of everything, serde.
    pub async fn observe(&self) -> Observed;
    /// A real forward pass and all children up; `Readiness { ready: bool, reasons: Vec<String> }`, serde.
    pub async fn ready(&self) -> Readiness;
    /// Which weights serve.
    pub fn policy(&self) -> PolicyStamp;
    /// Forces an update and waits for its outcome (learner::UpdateOutcome, serde).
    pub async fn trigger_update(&self, deadline: Duration) -> Result<UpdateOutcome, ServiceError>;
    /// Stops admitting, finishes what is in flight, lets the judge flush, stops the children in order.
    pub async fn drain(&self, deadline: Duration) -> Drained; // { clean: bool, abandoned: u64 , .. }
}

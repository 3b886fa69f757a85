//! The only memory of the service: streams of records, consumers with offsets and derived state.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The streams; on Kafka a topic each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Written by applications: `types::Query`.
    Queries,
    /// Written by serving, for applications: the answer.
    Answers,
    /// Written by serving: `types::Episode`.
    Episodes,
    /// Written by users and applications: `types::Feedback`.
    Feedback,
    /// Written by the judge: `types::RewardRecord`.
    Rewards,
    /// Written by the learner: `types::PolicyRecord`.
    Policies,
    /// Written by anyone: a record that could not be read, and why.
    Deadletter,
    /// Written by serving, by best effort: `types::ShadowRecord`.
    Shadows,
}

impl Stream {
    /// All streams, in the order of the enum.
    pub const ALL: [Stream; 8] = [
        Stream::Queries,
        Stream::Answers,
        Stream::Episodes,
        Stream::Feedback,
        Stream::Rewards,
        Stream::Policies,
        Stream::Deadletter,
        Stream::Shadows,
    ];

    /// Streams whose records can be found by their key, which is that of a decision.
    pub const INDEXED: [Stream; 2] = [Stream::Episodes, Stream::Rewards];

    /// The public name, `regrade.<stream>`.
    pub fn topic(self) -> &'static str {
        match self {
            Stream::Queries => "regrade.queries",
            Stream::Answers => "regrade.answers",
            Stream::Episodes => "regrade.episodes",
            Stream::Feedback => "regrade.feedback",
            Stream::Rewards => "regrade.rewards",
            Stream::Policies => "regrade.policies",
            Stream::Deadletter => "regrade.deadletter",
            Stream::Shadows => "regrade.shadows",
        }
    }
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRecord {
    /// Partitioning and compaction key: a query or decision id.
    pub key: String,
    /// CloudEvents attributes (`ce_id`, `ce_source`, …) and others.
    pub headers: BTreeMap<String, String>,
    /// JSON.
    pub payload: Vec<u8>,
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its stream.
    pub stream: Stream,
    /// Its partition; 0 where there is only one.
    pub partition: u32,
    /// Its offset in the partition, from 0, without gaps on the embedded log.
    pub offset: u64,
    /// Key.
    pub key: String,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Record {
    /// The name under which repeats of it are dropped: CloudEvents' source and id, else the id it
    /// has of its own, else its place in the log.
    pub fn name(&self, own_id: &str) -> String {
        match (self.headers.get("ce_source"), self.headers.get("ce_id")) {
            (Some(source), Some(id)) => format!("{source}|{id}"),
            _ if !own_id.is_empty() => format!("|{own_id}"),
            _ => format!("{}/{}", self.partition, self.offset),
        }
    }
}

/// One change of a consumer's derived state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Sets a value.
    Put {
        /// Key within this consumer.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Removes a value; a missing one is no error.
    Delete {
        /// Key within this consumer.
        key: String,
    },
}

/// Progress of a consumer, written in one atomic durable step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// The partition number whose derived state changes, and that the work belongs to.
    pub partition: u32,
    /// `(stream, partition, next offset)`: everything before is done with, or in the state.
    pub positions: Vec<(Stream, u32, u64)>,
    /// Like `positions`, for a reader that has not the derived state: everything before is done
    /// with. What is missing here is as in `positions`.
    pub resume: Vec<(Stream, u32, u64)>,
    /// Changes of derived state.
    pub state: Vec<StateChange>,
    /// Records that come out of the work: on the embedded log in the same write, elsewhere
    /// written first and made idempotent by their key.
    pub appends: Vec<(Stream, NewRecord)>,
}

/// A change of what a consumer reads: partition p of each of its streams goes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// The partition is this consumer's from now on.
    Gained {
        /// Its number.
        partition: u32,
        /// Its derived state where this process was the last to commit it; `None` where another
        /// was, or nobody: reading goes on from `Commit::resume`, and state is built from the log.
        state: Option<BTreeMap<String, Vec<u8>>>,
    },
    /// The partition goes to somebody else: nothing more is polled of it; finish or drop its work,
    /// commit, and call [`EventConsumer::release`]. It goes anyway after the time of the log.
    Leaving {
        /// Its number.
        partition: u32,
    },
    /// The partition is somebody else's already; commits of it are refused.
    Lost {
        /// Its number.
        partition: u32,
    },
}

/// Why the log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk is full; reading still works and writing does again once there is room.
    #[error("event log is out of space: {0}")]
    Full(String),
    /// The log cannot be reached or written; another try may succeed.
    #[error("event log is unavailable: {0}")]
    Unavailable(String),
    /// Stored data does not pass its checks.
    #[error("event log is damaged: {0}")]
    Damaged(String),
    /// Another process owns it.
    #[error("event log is in use: {0}")]
    InUse(String),
    /// The request itself is wrong (a record over the size limit, a position in the future).
    #[error("event log refused the request: {0}")]
    Refused(String),
    /// The partition is another consumer's by now: the work on it is to be dropped.
    #[error("event log partition has another owner: {0}")]
    Fenced(String),
}

/// Records of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The newest of those that the log holds, oldest first.
    pub records: Vec<Record>,
    /// Whether all that was in the log at the question was looked through: what is not here then,
    /// is not there.
    pub is_complete: bool,
}

/// Durable ordered streams.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends records in order; durable when it returns. Gives their offsets. On the embedded log
    /// all or none; elsewhere a failed append may leave some behind, and because their attributes
    /// name them, writing them again does no harm.
    async fn append(&self, stream: Stream, records: Vec<NewRecord>) -> Result<Vec<u64>, LogError>;

    /// Opens a named consumer of some streams at its committed positions (the start, if none).
    async fn consumer(
        &self,
        name: &str,
        streams: &[Stream],
    ) -> Result<Box<dyn EventConsumer>, LogError>;

    /// Opens a consumer that reads every partition by itself, whoever else reads: at its committed
    /// positions, else at the newest `newest` records of each partition (`None`: all).
    async fn follower(
        &self,
        name: &str,
        streams: &[Stream],
        newest: Option<u64>,
    ) -> Result<Box<dyn EventConsumer>, LogError> {
        // With one partition and one process there is nobody to share with.
        let _ = newest;
        self.consumer(name, streams).await
    }

    /// At most `newest` of the last records of one partition, oldest first.
    async fn tail(
        &self,
        stream: Stream,
        partition: u32,
        newest: u64,
    ) -> Result<Vec<Record>, LogError>;

    /// At most `newest` of the records of one key that the log holds, however old; from an index
    /// on disk of [`Stream::INDEXED`], the only streams that may be asked for.
    async fn find(&self, stream: Stream, key: &str, newest: usize) -> Result<Found, LogError>;

    /// The next offset of each partition of a stream.
    async fn ends(&self, stream: Stream) -> Result<Vec<u64>, LogError>;

    /// The partition that records of `key` are appended to.
    fn partition_of(&self, stream: Stream, key: &str) -> u32;
}

/// One reader of the log. Dropping it gives its partitions back.
#[async_trait]
pub trait EventConsumer: Send {
    /// Up to `max` records after those already polled; waits up to `wait` for the first.
    /// Order holds within a stream and partition. Empty when nothing came, or when ownership
    /// changed: take [`EventConsumer::changes`] after each poll, before its records.
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, LogError>;

    /// Makes progress durable. A commit may name a position before what was polled (work still
    /// held in memory is read again after a restart), never after it.
    async fn commit(&mut self, commit: Commit) -> Result<(), LogError>;

    /// Whether everything that was there at the opening has been polled: then an empty poll means
    /// that there is no more.
    fn is_at_end(&self) -> bool {
        true
    }

    /// Changes of ownership since the last call, in order. The first call after opening gives
    /// what is owned from the start, if anything is.
    fn changes(&mut self) -> Vec<Ownership>;

    /// The work on a partition that is [`Ownership::Leaving`] is over and committed.
    async fn release(&mut self, partition: u32) -> Result<(), LogError>;

    /// The derived state as last committed, by key, of all that is owned.
    async fn state(&mut self) -> Result<BTreeMap<String, Vec<u8>>, LogError>;

    /// Returns to the committed positions, as after a restart.
    async fn rewind(&mut self) -> Result<(), LogError>;
}

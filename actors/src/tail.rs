//! How an actor reads the log without blocking: a task of its own holds the consumer and commits,
//! polls, and tells the actor, in turns; the actor's reply says what to commit and read next.
//!
//! Floor 1. Knows no record. Opening, repeating what failed and pausing are done here, once for all
//! actors. The task ends with its actor, so that a restart never meets its own old consumer.

mod watermarks;

use crate::ports::{
    Commit, EventConsumer, EventLog, LogError, NewRecord, Ownership, Record, Stream,
};
use crate::telemetry;
use ractor::{ActorRef, Message};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
pub(crate) use watermarks::{Origin, Watermarks};

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(ractor::concurrency::spawn(future))
    }

    /// Waits for its end; whether that was a panic.
    async fn panicked(mut self) -> bool {
        (&mut self.0).await.is_err_and(|error| error.is_panic())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) type DerivedState = BTreeMap<String, Vec<u8>>;

/// How the partitions of the streams are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Share {
    /// Each by one consumer of the name, over all processes.
    Group {
        /// Of this stream so many of the last records are read where derived state is missing.
        rebuild: Option<(Stream, u64)>,
    },
    /// All of them by this consumer, at first from so many of the newest records (`None`: all).
    Alone {
        /// Records of each partition.
        newest: Option<u64>,
    },
}

/// What is read, and at which pace failures are repeated.
#[derive(Clone)]
pub(crate) struct Source {
    /// Name of the actor, for logs and metrics.
    pub(crate) actor: &'static str,
    pub(crate) log: Arc<dyn EventLog>,
    /// Name of the consumer.
    pub(crate) name: String,
    pub(crate) streams: &'static [Stream],
    pub(crate) share: Share,
    /// First pause after a failure and the longest, milliseconds.
    pub(crate) backoff_ms: (u64, u64),
}

/// A partition as it comes and goes.
#[derive(Debug)]
pub(crate) enum Change {
    /// It is read from now on: by its state, or by the records to rebuild that from.
    Gained(u32, Result<DerivedState, Vec<Record>>),
    /// Its work is to be finished or dropped, and then released.
    Leaving(u32),
    /// It is somebody else's: its work is void.
    Lost(u32),
}

/// What one turn brought.
pub(crate) struct Turn {
    /// To be taken before the records.
    pub(crate) changes: Vec<Change>,
    pub(crate) records: Vec<Record>,
    /// Whether the log was polled and read past all it held at the opening: without records it
    /// then has no more.
    pub(crate) is_current: bool,
    reply: oneshot::Sender<Next>,
}

/// What the next turn is to do.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Made durable first, each repeated until it is.
    pub(crate) commits: Vec<Commit>,
    /// Partitions whose work is over, after the commits.
    pub(crate) release: Vec<u32>,
    pub(crate) poll_max: usize,
    pub(crate) wait: Duration,
}

impl Turn {
    /// Takes what happened, leaving the turn to be answered by [`Turn::go_on`].
    pub(crate) fn take(&mut self) -> (Vec<Change>, Vec<Record>) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.records))
    }

    /// Lets the reading go on.
    pub(crate) fn go_on(self, next: Next) {
        // A reader that ended needs no orders.
        let _ = self.reply.send(next);
    }
}

/// Starts reading; every turn comes as a message and waits for its answer.
pub(crate) fn read<M: Message>(
    source: Source,
    actor: &ActorRef<M>,
    message: impl Fn(Turn) -> M + Send + 'static,
) -> Task {
    let (actor, watched) = (actor.clone(), actor.get_cell());
    let reading = Task::spawn(async move {
        let mut reader = Reader { consumer: source.open().await, source, failures: 0 };
        let mut next = Next::default();
        loop {
            let (reply, answer) = oneshot::channel();
            let turn = reader.turn(next, reply).await;
            if actor.send_message(message(turn)).is_err() {
                return;
            }
            next = match answer.await {
                Ok(next) => next,
                Err(_) => return,
            };
        }
    });
    Task::spawn(async move {
        // An actor without its reader would wait for ever; its next life has a new one.
        if reading.panicked().await {
            watched.kill();
        }
    })
}

impl Source {
    async fn open(&self) -> Box<dyn EventConsumer> {
        let mut failures = 0;
        loop {
            let opened = match self.share {
                Share::Group { .. } => self.log.consumer(&self.name, self.streams).await,
                Share::Alone { newest } => {
                    self.log.follower(&self.name, self.streams, newest).await
                }
            };
            match opened {
                Ok(consumer) => return consumer,
                Err(error) => self.pause(&mut failures, &error).await,
            }
        }
    }

    async fn pause(&self, failures: &mut u32, error: &LogError) {
        *failures = failures.saturating_add(1);
        let (base, max) = self.backoff_ms;
        let delay = backoff(*failures, Duration::from_millis(base), Duration::from_millis(max));
        telemetry::log_failed(self.actor, error, delay);
        tokio::time::sleep(delay).await;
    }
}

struct Reader {
    consumer: Box<dyn EventConsumer>,
    source: Source,
    failures: u32,
}

impl Reader {
    async fn turn(&mut self, next: Next, reply: oneshot::Sender<Next>) -> Turn {
        let mut changes = Vec::new();
        for commit in next.commits {
            if let Some(partition) = self.commit(commit).await {
                changes.push(Change::Lost(partition));
            }
        }
        for partition in next.release {
            if let Err(error) = self.consumer.release(partition).await {
                tracing::warn!(%error, partition, "partition was not handed over in order");
            }
        }
        let mut is_current = false;
        let mut records = Vec::new();
        if next.poll_max == 0 {
            tokio::time::sleep(next.wait).await;
        } else {
            match self.consumer.poll(next.poll_max, next.wait).await {
                Ok(polled) => {
                    self.failures = 0;
                    is_current = self.consumer.is_at_end();
                    records = polled;
                }
                Err(error) => self.source.pause(&mut self.failures, &error).await,
            }
        }
        for change in self.consumer.changes() {
            changes.push(self.change(change).await);
        }
        Turn { changes, records, is_current, reply }
    }

    /// Repeats a commit until it is durable; gives its partition if that is somebody else's.
    async fn commit(&mut self, commit: Commit) -> Option<u32> {
        loop {
            match self.consumer.commit(commit.clone()).await {
                Ok(()) => return None,
                Err(error @ LogError::Fenced(_)) => {
                    tracing::warn!(%error, actor = self.source.actor, "work is void");
                    return Some(commit.partition);
                }
                Err(error) => self.source.pause(&mut self.failures, &error).await,
            }
        }
    }

    async fn change(&mut self, change: Ownership) -> Change {
        match change {
            Ownership::Gained { partition, state: Some(state) } => {
                Change::Gained(partition, Ok(state))
            }
            Ownership::Gained { partition, state: None } => {
                Change::Gained(partition, Err(self.rebuild(partition).await))
            }
            Ownership::Leaving { partition } => Change::Leaving(partition),
            Ownership::Lost { partition } => Change::Lost(partition),
        }
    }

    async fn rebuild(&mut self, partition: u32) -> Vec<Record> {
        let Share::Group { rebuild: Some((stream, newest)) } = self.source.share else {
            return Vec::new();
        };
        loop {
            match self.source.log.tail(stream, partition, newest).await {
                Ok(records) => return records,
                Err(error) => self.source.pause(&mut self.failures, &error).await,
            }
        }
    }
}

/// Polls without a record after which a reading to the end gives up on more.
const SILENCE_MAX: u32 = 50;

/// Reads a whole stream from its start with a consumer that never commits; at most `max` records.
pub(crate) async fn read_all(
    log: &Arc<dyn EventLog>,
    name: &str,
    stream: Stream,
    max: usize,
) -> Result<Vec<Record>, LogError> {
    if log.ends(stream).await?.iter().sum::<u64>() == 0 {
        return Ok(Vec::new());
    }
    let mut consumer = log.follower(name, &[stream], None).await?;
    let mut records = Vec::new();
    let mut silence = 0;
    while records.len() < max && silence < SILENCE_MAX {
        // A log that is read to its end gives the rest at once, or nothing.
        let is_at_end = consumer.is_at_end();
        let wait = if is_at_end { Duration::ZERO } else { Duration::from_millis(200) };
        let polled = consumer.poll(256, wait).await?;
        if polled.is_empty() && is_at_end {
            break;
        }
        silence = if polled.is_empty() { silence + 1 } else { 0 };
        records.extend(polled);
    }
    Ok(records)
}

/// Pause before attempt `failures` (from 1): `base` doubled each time, at most `max`.
pub(crate) fn backoff(failures: u32, base: Duration, max: Duration) -> Duration {
    base.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(max)
}

/// The record that says that another record could not be read.
pub(crate) fn deadletter(actor: &'static str, record: &Record, reason: &str) -> NewRecord {
    let origin = format!("{}/{}/{}", record.stream.topic(), record.partition, record.offset);
    crate::telemetry::record_broken(actor, &origin, reason);
    let payload = serde_json::json!({
        "schema": crate::types::SCHEMA_VERSION,
        "actor": actor,
        "origin": origin,
        "key": record.key,
        "reason": reason,
        "payload": String::from_utf8_lossy(&record.payload),
    });
    let headers = attributes(&origin, &format!("regrade/{actor}"), Stream::Deadletter.topic());
    NewRecord { key: origin, headers, payload: payload.to_string().into_bytes() }
}

/// A JSON record with the attributes that make it idempotent: `id` within `source`.
pub(crate) fn record<T: serde::Serialize>(
    key: &str,
    (id, source): (&str, &str),
    value: &T,
) -> Result<NewRecord, LogError> {
    let payload = serde_json::to_vec(value)
        .map_err(|error| LogError::Refused(format!("record `{key}` is not JSON: {error}")))?;
    Ok(NewRecord { key: key.to_owned(), headers: attributes(id, source, source), payload })
}

/// CloudEvents 1.0 in binary mode: the attributes it requires, and what the payload is.
fn attributes(id: &str, source: &str, kind: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", source),
        ("ce_type", kind),
        ("content-type", "application/json"),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Reads a record that an application wrote: it may state its schema, and need not.
pub(crate) fn parse_from_outside<T: serde::de::DeserializeOwned>(
    record: &Record,
) -> Result<T, String> {
    let mut value: serde_json::Value = parse(record)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("schema");
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Reads a record's JSON; one of a newer schema than this build writes is refused as such.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(record: &Record) -> Result<T, String> {
    #[derive(serde::Deserialize)]
    struct Stamped {
        schema: Option<u32>,
    }
    let newest = crate::types::SCHEMA_VERSION;
    // A record that is no object says more about itself in the second reading.
    if let Ok(Stamped { schema: Some(schema) }) = serde_json::from_slice(&record.payload)
        && schema > newest
    {
        return Err(format!(
            "schema {schema} is newer than {newest}, the newest that this build reads; upgrade it"
        ));
    }
    serde_json::from_slice(&record.payload).map_err(|error| error.to_string())
}

//! How an actor reads the log without blocking: one step commits what is ready, then polls, in a
//! task of its own, and comes back as a message with the consumer.
//!
//! Floor 1. Knows no record. The consumer is always in exactly one place: the actor's state or a
//! running step; a step dies with the actor, so that a restart never meets its own old consumer.

use crate::ports::{Commit, EventConsumer, EventLog, LogError, NewRecord, Record, Stream};
use ractor::{ActorRef, Message};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(ractor::concurrency::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) type Consumer = Box<dyn EventConsumer>;
pub(crate) type DerivedState = BTreeMap<String, Vec<u8>>;

/// A consumer opened, with its derived state.
pub(crate) type Opened = Result<(Consumer, DerivedState), LogError>;

/// One step over.
pub(crate) struct Stepped {
    pub(crate) consumer: Consumer,
    /// The commit went wrong and must be repeated before anything else.
    pub(crate) uncommitted: Option<(Commit, LogError)>,
    /// What the poll gave; empty if the commit failed.
    pub(crate) polled: Result<Vec<Record>, LogError>,
}

/// What a step is to do.
pub(crate) struct Step {
    pub(crate) consumer: Consumer,
    pub(crate) commit: Option<Commit>,
    pub(crate) poll_max: usize,
    pub(crate) wait: Duration,
    /// Pause before the step: back-off after a failure.
    pub(crate) delay: Duration,
}

/// Opens a consumer after `delay` and tells the actor.
pub(crate) fn open<M: Message>(
    actor: &ActorRef<M>,
    log: &Arc<dyn EventLog>,
    (name, streams): (String, &'static [Stream]),
    delay: Duration,
    message: impl Fn(Opened) -> M + Send + 'static,
) -> Task {
    let (actor, log) = (actor.clone(), Arc::clone(log));
    Task::spawn(async move {
        tokio::time::sleep(delay).await;
        let opened = match log.consumer(&name, streams).await {
            Ok(mut consumer) => consumer.state().await.map(|state| (consumer, state)),
            Err(error) => Err(error),
        };
        // A dead actor needs no message.
        let _ = actor.send_message(message(opened));
    })
}

/// Runs one step and tells the actor.
pub(crate) fn step<M: Message>(
    actor: &ActorRef<M>,
    step: Step,
    message: impl Fn(Stepped) -> M + Send + 'static,
) -> Task {
    let actor = actor.clone();
    Task::spawn(async move {
        let stepped = run_step(step).await;
        let _ = actor.send_message(message(stepped));
    })
}

async fn run_step(step: Step) -> Stepped {
    let Step { mut consumer, commit, poll_max, wait, delay } = step;
    tokio::time::sleep(delay).await;
    if let Some(commit) = commit
        && let Err(error) = consumer.commit(commit.clone()).await
    {
        let uncommitted = Some((commit, error));
        return Stepped { consumer, uncommitted, polled: Ok(Vec::new()) };
    }
    if poll_max == 0 {
        tokio::time::sleep(wait).await;
        return Stepped { consumer, uncommitted: None, polled: Ok(Vec::new()) };
    }
    let polled = consumer.poll(poll_max, wait).await;
    Stepped { consumer, uncommitted: None, polled }
}

/// Reads a whole stream from its start with a consumer that never commits; at most `max` records.
pub(crate) async fn read_all(
    log: &Arc<dyn EventLog>,
    name: &str,
    stream: Stream,
    max: usize,
) -> Result<Vec<Record>, LogError> {
    let ends = log.ends(stream).await?;
    let total: u64 = ends.iter().sum();
    if total == 0 {
        return Ok(Vec::new());
    }
    let streams = [stream];
    let mut consumer = log.consumer(name, &streams).await?;
    let mut open: BTreeMap<u32, u64> =
        (0..).zip(&ends).filter(|(_, end)| **end > 0).map(|(p, end)| (p, *end)).collect();
    let mut records = Vec::new();
    let mut empty_polls = 0;
    // A compacted stream may lack its last offsets, so silence ends the reading too.
    while !open.is_empty() && records.len() < max && empty_polls < 3 {
        let polled = consumer.poll(256, Duration::from_millis(200)).await?;
        empty_polls = if polled.is_empty() { empty_polls + 1 } else { 0 };
        for record in polled {
            if open.get(&record.partition).is_some_and(|end| record.offset + 1 >= *end) {
                open.remove(&record.partition);
            }
            records.push(record);
        }
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
    let headers =
        [("ce_id".to_owned(), origin.clone()), ("ce_source".to_owned(), format!("regrade/{actor}"))];
    NewRecord { key: origin, headers: headers.into(), payload: payload.to_string().into_bytes() }
}

/// A JSON record with the attributes that make it idempotent: `id` within `source`.
pub(crate) fn record<T: serde::Serialize>(
    key: &str,
    (id, source): (&str, &str),
    value: &T,
) -> Result<NewRecord, LogError> {
    let payload = serde_json::to_vec(value)
        .map_err(|error| LogError::Refused(format!("record `{key}` is not JSON: {error}")))?;
    let headers = [("ce_id", id), ("ce_source", source), ("ce_type", source)];
    let headers = headers.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Ok(NewRecord { key: key.to_owned(), headers, payload })
}

/// Remembers, for each stream and partition, which polled records are still needed, and thereby
/// the position that may be committed.
#[derive(Debug, Default)]
pub(crate) struct Watermarks {
    next: BTreeMap<(Stream, u32), u64>,
    held: BTreeMap<(Stream, u32), std::collections::BTreeSet<u64>>,
}

/// Where a record came from.
pub(crate) type Origin = (Stream, u32, u64);

impl Watermarks {
    /// Notes a record as read and still needed.
    pub(crate) fn hold(&mut self, record: &Record) -> Origin {
        let place = (record.stream, record.partition);
        self.next.insert(place, record.offset + 1);
        self.held.entry(place).or_default().insert(record.offset);
        (record.stream, record.partition, record.offset)
    }

    /// Notes a record as done with.
    pub(crate) fn release(&mut self, origin: Origin) {
        if let Some(held) = self.held.get_mut(&(origin.0, origin.1)) {
            held.remove(&origin.2);
        }
    }

    /// For each partition the first offset still needed, or the next to be read.
    pub(crate) fn positions(&self) -> Vec<(Stream, u32, u64)> {
        self.next
            .iter()
            .map(|(place, next)| {
                let first = self.held.get(place).and_then(|held| held.first().copied());
                (place.0, place.1, first.unwrap_or(*next))
            })
            .collect()
    }
}

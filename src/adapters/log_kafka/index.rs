//! Where the records of a decision are: an index by key in the local file, filled by a reader of its
//! own, and the reading of single records.
//!
//! The reader begins with the first question and then goes on for the life of the log; what it read
//! in earlier lives is in the file. An answer says whether it read up to the end that stood when it
//! was asked.

use super::reading::Place;
use super::records::record_of;
use super::topics::{away, watermarks};
use super::{KafkaLog, Shared, blocking, signed};
use actors::ports::{Commit, EventConsumer, EventLog as _, Found, LogError, Record, Stream};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Name of the reader's positions.
const NAME: &str = "decisions";
/// Records entered in one write.
const POLL_MAX: usize = 1_024;
/// Longest wait for the first of them.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// How far the reader is.
#[derive(Debug, Clone, Default)]
struct Progress {
    next: BTreeMap<Place, u64>,
    /// Polls that brought nothing although everything was read.
    idle: u64,
}

/// The reader of the keys.
pub(super) struct Index {
    progress: watch::Receiver<Progress>,
}

impl Index {
    /// Starts the reader; it ends with the log.
    pub(super) fn start(log: &KafkaLog) -> Self {
        let (told, progress) = watch::channel(Progress::default());
        tokio::spawn(read(Arc::downgrade(&log.shared), told));
        Self { progress }
    }

    /// Waits until a partition is read up to `end`; whether it is.
    async fn has_read(&self, place: Place, end: u64, wait: Duration) -> bool {
        let mut progress = self.progress.clone();
        let idle = progress.borrow().idle;
        // Offsets at the end may belong to no record (marks of transactions): two polls that bring
        // nothing, of which the second began after the question, say as much.
        let is_read = |progress: &Progress| {
            end == 0
                || progress.next.get(&place).is_some_and(|next| *next >= end)
                || progress.idle >= idle + 2
        };
        timeout(wait, progress.wait_for(is_read)).await.is_ok_and(|read| read.is_ok())
    }
}

async fn read(shared: Weak<Shared>, told: watch::Sender<Progress>) {
    loop {
        let Some(log) = shared.upgrade().map(|shared| KafkaLog { shared }) else { return };
        let opened = log.follower(NAME, &Stream::INDEXED, None).await;
        drop(log);
        let failed = match opened {
            Ok(mut consumer) => enter_all(&shared, &mut *consumer, &told).await,
            Err(error) => Err(error),
        };
        match failed {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, "the index of decisions cannot go on, trying again")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Enters what comes until the log is gone.
async fn enter_all(
    shared: &Weak<Shared>,
    consumer: &mut dyn EventConsumer,
    told: &watch::Sender<Progress>,
) -> Result<(), LogError> {
    loop {
        let was_at_end = consumer.is_at_end();
        let records = consumer.poll(POLL_MAX, POLL_WAIT).await?;
        drop(consumer.changes());
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        if records.is_empty() {
            told.send_modify(|progress| progress.idle += u64::from(was_at_end));
            continue;
        }
        let mut next = BTreeMap::new();
        for record in &records {
            next.insert((record.stream, record.partition), record.offset + 1);
        }
        let partitions = u64::from(shared.partitions.get(&Stream::Episodes).copied().unwrap_or(1));
        let newest = shared.config.index_records_max / partitions.max(1);
        blocking(move || shared.local.enter(&records, newest.max(1))).await?;
        let positions = next.iter().map(|(place, next)| (place.0, place.1, *next)).collect();
        consumer.commit(Commit { positions, ..Commit::default() }).await?;
        told.send_modify(|progress| progress.next.extend(next));
    }
}

/// The last `newest` records of a key.
pub(super) async fn find(
    log: &KafkaLog,
    stream: Stream,
    key: &str,
    newest: usize,
) -> Result<Found, LogError> {
    let index = log.shared.index.get_or_init(|| Index::start(log));
    let partition =
        super::records::partition_of(key, log.shared.partitions.get(&stream).copied().unwrap_or(1));
    let shared = Arc::clone(&log.shared);
    let end = blocking(move || {
        let topic = shared.config.topic(stream);
        watermarks(&shared.config, &shared.asking, &topic, partition).map(|(_, end)| end)
    })
    .await?;
    let wait = log.shared.wait();
    let is_complete = index.has_read((stream, partition), end, wait).await;
    let (shared, key) = (Arc::clone(&log.shared), key.to_owned());
    let records = blocking(move || {
        let places = shared.local.places(stream, &key, newest)?;
        if places.is_empty() { Ok(Vec::new()) } else { read_at(&shared, stream, &places) }
    })
    .await?;
    Ok(Found { records, is_complete })
}

/// Reads single records by a client of its own; what is gone is left out. Blocking, for at most the
/// longest wait for a request.
fn read_at(
    shared: &Shared,
    stream: Stream,
    places: &[(u32, u64)],
) -> Result<Vec<Record>, LogError> {
    let config = &shared.config;
    let topic = config.topic(stream);
    let client: BaseConsumer = config
        .consumer("single")
        .map_err(LogError::Refused)?
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "0")
        .create()
        .map_err(|error| LogError::Refused(format!("kafka consumer settings: {error}")))?;
    let deadline = Instant::now() + shared.wait();
    let mut records = Vec::with_capacity(places.len());
    for (partition, offset) in places {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition.cast_signed(), Offset::Offset(signed(*offset)))
            .and_then(|()| client.assign(&list))
            .map_err(|error| away(config, &error))?;
        loop {
            if Instant::now() >= deadline {
                return Err(LogError::Unavailable(format!(
                    "kafka at `{}` gave nothing of {topic}/{partition} at {offset} within {} ms",
                    config.bootstrap, config.request_timeout_ms
                )));
            }
            match client.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    if message.offset() == signed(*offset) {
                        records.extend(record_of(config, &message));
                    }
                    break;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => return Err(away(config, &error)),
            }
        }
    }
    Ok(records)
}

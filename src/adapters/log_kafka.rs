//! The event log on Kafka: `ports::EventLog` over librdkafka, a topic a stream.
//!
//! At least once, with effects that bear repetition: positions and derived state of a partition lie
//! in one local file and move together; whoever gets a partition from another process goes on from
//! the offsets its group committed. Offsets in Kafka say who committed them last, and the group
//! refuses them from a process that it declared dead. Blocking calls run on tokio's blocking
//! threads, and each consumer polls on one of its own.

mod config;
mod consumer;
mod index;
mod local;
mod polling;
mod reading;
mod records;
mod sending;
mod topics;

use actors::ports::{EventConsumer, EventLog, Found, LogError, NewRecord, Record, Stream};
use async_trait::async_trait;
pub use config::KafkaLogConfig;
use consumer::{Consumer, Kind, starts_alone};
use index::Index;
use local::Local;
use polling::Context;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use reading::Reading;
use records::record_of;
use sending::{Sender, Transactions, failed};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use topics::{Partitions, away, watermarks};

/// The local file of a process in its folder.
const LOCAL_FILE: &str = "kafka-consumers.redb";

/// A log on Kafka. Clones share it.
#[derive(Clone)]
pub struct KafkaLog {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<KafkaLogConfig>,
    partitions: Partitions,
    local: Arc<Local>,
    sender: Sender,
    /// Asks for offsets and metadata; is in no group.
    asking: Arc<BaseConsumer>,
    /// Reads where records are, from the first question on.
    index: OnceLock<Index>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.sender.flush(Duration::from_millis(u64::from(self.config.request_timeout_ms)));
    }
}

impl KafkaLog {
    /// Connects, makes or checks the topics, and opens the local file in `folder`, which must
    /// exist; `node` names a new one. One process holds a folder at a time.
    ///
    /// # Errors
    /// Brokers that do not answer, topics the service cannot work with, a folder in use.
    pub async fn open(folder: &Path, node: &str, config: KafkaLogConfig) -> Result<Self, LogError> {
        config.validate().map_err(|reason| LogError::Refused(format!("log.kafka.{reason}")))?;
        let config = Arc::new(config);
        let path = folder.join(LOCAL_FILE);
        let owner = format!("{node}/{:016x}", rand::random::<u64>());
        let local = open_local(path, owner, &config).await?;
        if config.create_topics {
            topics::make(&config).await?;
        }
        let asking: BaseConsumer = config
            .client()
            .map_err(LogError::Refused)?
            .set("isolation.level", "read_committed")
            .create()
            .map_err(|error| LogError::Refused(format!("kafka client settings: {error}")))?;
        let (asking, settings) = (Arc::new(asking), Arc::clone(&config));
        let client = Arc::clone(&asking);
        let partitions = blocking(move || topics::check(&settings, &client)).await?;
        let sender = Sender::new(&config)?;
        let local = Arc::new(local);
        let index = OnceLock::new();
        Ok(Self { shared: Arc::new(Shared { config, partitions, local, sender, asking, index }) })
    }

    fn client(
        &self,
        name: &str,
        streams: &[Stream],
    ) -> Result<(Arc<Reading>, Arc<BaseConsumer<Context>>), LogError> {
        if name.is_empty() || streams.is_empty() {
            return Err(LogError::Refused("a consumer needs a name and a stream".to_owned()));
        }
        let (config, local) = (Arc::clone(&self.shared.config), Arc::clone(&self.shared.local));
        let reading = Arc::new(Reading::new(config, name, streams, local));
        let client: BaseConsumer<Context> = self
            .shared
            .config
            .consumer(name)
            .map_err(LogError::Refused)?
            .set("enable.partition.eof", "true")
            .create_with_context(Context(Arc::clone(&reading)))
            .map_err(|error| LogError::Refused(format!("kafka consumer settings: {error}")))?;
        Ok((reading, Arc::new(client)))
    }

    /// Lets the polling begin; the thread owns the client until the handle is dropped.
    fn begin(
        &self,
        kind: Kind,
        reading: Arc<Reading>,
        client: Arc<BaseConsumer<Context>>,
    ) -> Box<dyn EventConsumer> {
        let shared = &self.shared;
        let transactions = (kind == Kind::Group && shared.config.transactions).then(|| {
            let id = format!("{}.{}.{}", shared.config.namespace, reading.name, shared.local.owner);
            Arc::new(Transactions::new(&shared.config, id))
        });
        let handle = Consumer::new(
            kind,
            Arc::clone(&reading),
            Arc::downgrade(&client),
            shared.sender.clone(),
            transactions,
        );
        tokio::task::spawn_blocking(move || polling::run(&client, &reading));
        Box::new(handle)
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn append(&self, stream: Stream, records: Vec<NewRecord>) -> Result<Vec<u64>, LogError> {
        let records: Vec<_> = records.into_iter().map(|record| (stream, record)).collect();
        self.shared.sender.check_sizes(&records)?;
        send_all(&self.shared.sender, &records).await
    }

    async fn consumer(
        &self,
        name: &str,
        streams: &[Stream],
    ) -> Result<Box<dyn EventConsumer>, LogError> {
        let (reading, client) = self.client(name, streams)?;
        // The other streams' partitions follow those of the first.
        let topic = self.shared.config.topic(streams[0]);
        client.subscribe(&[&topic]).map_err(|error| away(&self.shared.config, &error))?;
        Ok(self.begin(Kind::Group, reading, client))
    }

    async fn follower(
        &self,
        name: &str,
        streams: &[Stream],
        newest: Option<u64>,
    ) -> Result<Box<dyn EventConsumer>, LogError> {
        let (reading, client) = self.client(name, streams)?;
        let partitions = self.shared.partitions.clone();
        let (at, asking) = (Arc::clone(&reading), Arc::clone(&client));
        blocking(move || {
            let starts = starts_alone(&at, &asking, &partitions, newest)?;
            let mut list = TopicPartitionList::new();
            for ((stream, partition), offset) in &starts {
                let offset = Offset::Offset(signed(*offset));
                let topic = at.config.topic(*stream);
                list.add_partition_offset(&topic, partition.cast_signed(), offset)
                    .map_err(|error| LogError::Refused(error.to_string()))?;
            }
            at.begin_alone(starts);
            asking.assign(&list).map_err(|error| away(&at.config, &error))
        })
        .await?;
        Ok(self.begin(Kind::Alone, reading, client))
    }

    async fn tail(
        &self,
        stream: Stream,
        partition: u32,
        newest: u64,
    ) -> Result<Vec<Record>, LogError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || read_tail(&shared, stream, partition, newest)).await
    }

    async fn find(&self, stream: Stream, key: &str, newest: usize) -> Result<Found, LogError> {
        index::find(self, stream, key, newest).await
    }

    async fn ends(&self, stream: Stream) -> Result<Vec<u64>, LogError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let topic = shared.config.topic(stream);
            let count = shared.partitions.get(&stream).copied().unwrap_or(0);
            (0..count)
                .map(|partition| {
                    watermarks(&shared.config, &shared.asking, &topic, partition)
                        .map(|(_, high)| high)
                })
                .collect()
        })
        .await
    }

    fn partition_of(&self, stream: Stream, key: &str) -> u32 {
        let count = self.shared.partitions.get(&stream).copied().unwrap_or(1);
        records::partition_of(key, count)
    }
}

impl Shared {
    fn wait(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.request_timeout_ms))
    }
}

/// Opens the local file; consumers of an earlier log in this process may take a moment to close.
async fn open_local(
    path: PathBuf,
    owner: String,
    config: &KafkaLogConfig,
) -> Result<Local, LogError> {
    let deadline = Instant::now() + Duration::from_millis(u64::from(config.request_timeout_ms));
    loop {
        let (path, owner) = (path.clone(), owner.clone());
        match blocking(move || Local::open(&path, &owner)).await {
            Err(LogError::InUse(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// Reads the last records of one partition by a client of its own. Blocking.
fn read_tail(
    shared: &Shared,
    stream: Stream,
    partition: u32,
    newest: u64,
) -> Result<Vec<Record>, LogError> {
    let (config, wait) = (&shared.config, shared.wait());
    let topic = config.topic(stream);
    let number = partition.cast_signed();
    let (low, high) = watermarks(config, &shared.asking, &topic, partition)?;
    let from = high.saturating_sub(newest).max(low);
    if from >= high {
        return Ok(Vec::new());
    }
    let (from, high) = (signed(from), signed(high));
    let client: BaseConsumer = config
        .consumer("tail")
        .map_err(LogError::Refused)?
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "0")
        .create()
        .map_err(|error| LogError::Refused(format!("kafka consumer settings: {error}")))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, number, Offset::Offset(from))
        .and_then(|()| client.assign(&list))
        .map_err(|error| away(config, &error))?;
    let mut records = Vec::new();
    let mut silent_since = Instant::now();
    while silent_since.elapsed() < wait {
        match client.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Ok(message)) => {
                records.extend(record_of(config, &message));
                if message.offset() + 1 >= high {
                    return Ok(records);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
            Some(Err(error)) => return Err(away(config, &error)),
        }
        silent_since = Instant::now();
    }
    Err(LogError::Unavailable(format!(
        "kafka at `{}` gave nothing of {topic}/{partition} for {} ms",
        config.bootstrap, config.request_timeout_ms
    )))
}

/// An offset as librdkafka has it.
fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// Sends records in order and waits until each is acknowledged; gives their offsets.
async fn send_all(sender: &Sender, records: &[(Stream, NewRecord)]) -> Result<Vec<u64>, LogError> {
    let mut waiting = Vec::with_capacity(records.len());
    for (stream, record) in records {
        waiting.push(sender.send(*stream, record)?);
    }
    let mut offsets = Vec::with_capacity(waiting.len());
    for delivery in waiting {
        match delivery.await {
            Ok(Ok(delivered)) => offsets.push(delivered.offset.unsigned_abs()),
            Ok(Err((error, _))) => return Err(failed(sender.config(), &error)),
            Err(_) => {
                return Err(LogError::Unavailable("the kafka producer has stopped".to_owned()));
            }
        }
    }
    Ok(offsets)
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LogError::Unavailable(format!("the log is shutting down: {error}"))),
    }
}

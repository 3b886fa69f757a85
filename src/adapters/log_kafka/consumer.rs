//! The handle of one consumer: hands on what the polling thread read, and makes progress durable.
//!
//! A commit goes through three stages: its records to Kafka, its resumable offsets to the group
//! (which refuses a process that was declared dead), its positions and state to the local file. A
//! repeated commit goes on at the stage that failed.

use super::config::KafkaLogConfig;
use super::local::Local;
use super::polling::Context;
use super::reading::{Place, Reading};
use super::sending::{Sender, Transactions};
use super::topics::{away, watermarks};
use super::{blocking, send_all};
use actors::ports::{Commit, EventConsumer, LogError, Ownership, Record, Stream};
use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// How partitions come to this consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From the group.
    Group,
    /// All of them.
    Alone,
}

/// How far a commit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Stage {
    Nothing,
    Sent,
    Committed,
}

pub(super) struct Consumer {
    pub(super) kind: Kind,
    pub(super) reading: Arc<Reading>,
    /// The polling thread holds the other end: it closes the consumer, never this handle.
    pub(super) client: Weak<BaseConsumer<Context>>,
    pub(super) sender: Sender,
    /// In the way of transactions, if so configured.
    pub(super) transactions: Option<Arc<Transactions>>,
    /// Next offset of each partition that was handed on.
    polled: BTreeMap<Place, u64>,
    /// Tenures the actor knows of.
    told: BTreeMap<u32, u64>,
    /// Offsets the group knows of this consumer.
    resumed: BTreeMap<Place, u64>,
    /// When the group last said that this consumer is alive.
    confirmed: Option<Instant>,
    /// The commit that failed, and what of it is done.
    begun: (Commit, Stage),
}

impl Consumer {
    pub(super) fn new(
        kind: Kind,
        reading: Arc<Reading>,
        client: Weak<BaseConsumer<Context>>,
        sender: Sender,
        transactions: Option<Arc<Transactions>>,
    ) -> Self {
        Self {
            kind,
            reading,
            client,
            sender,
            transactions,
            polled: BTreeMap::new(),
            told: BTreeMap::new(),
            resumed: BTreeMap::new(),
            confirmed: None,
            begun: (Commit::default(), Stage::Nothing),
        }
    }

    fn client(&self) -> Result<Arc<BaseConsumer<Context>>, LogError> {
        self.client.upgrade().ok_or_else(|| {
            LogError::Unavailable(format!("consumer `{}` has stopped", self.reading.name))
        })
    }

    /// Refuses the work of a partition that is not this consumer's, or was somebody else's since.
    fn check_owned(&self, partition: u32) -> Result<(), LogError> {
        let owned = self.reading.lock().owned.get(&partition).copied();
        if self.kind == Kind::Alone
            || (owned.is_some() && owned == self.told.get(&partition).copied())
        {
            return Ok(());
        }
        let name = &self.reading.name;
        Err(LogError::Fenced(format!("`{name}` does not have partition {partition} any more")))
    }

    fn check_positions(&self, commit: &Commit) -> Result<(), LogError> {
        for (stream, partition, offset) in &commit.positions {
            let place = (*stream, *partition);
            let start = self.reading.lock().starts.get(&place).copied();
            let polled = self.polled.get(&place).copied().or(start);
            if polled.is_none_or(|polled| *offset > polled) {
                return Err(LogError::Refused(format!(
                    "consumer `{}` commits position {offset} of {}/{partition}, but has polled up \
                     to {}",
                    self.reading.name,
                    stream.topic(),
                    polled.map_or("nothing of it".to_owned(), |polled| polled.to_string())
                )));
            }
        }
        Ok(())
    }

    /// The offsets from which somebody without our state would go on, where they moved.
    fn resume_of(&self, commit: &Commit) -> BTreeMap<Place, u64> {
        let positions = commit.positions.iter().chain(&commit.resume);
        let resume: BTreeMap<Place, u64> =
            positions.map(|(stream, partition, offset)| ((*stream, *partition), *offset)).collect();
        resume.into_iter().filter(|(place, at)| self.resumed.get(place) != Some(at)).collect()
    }

    /// Tells the group; it refuses whoever it has declared dead.
    async fn commit_offsets(&mut self, offsets: BTreeMap<Place, u64>) -> Result<(), LogError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let client = self.client()?;
        let list = self.offsets(&offsets)?;
        let config = Arc::clone(&self.reading.config);
        blocking(move || {
            client.commit(&list, CommitMode::Sync).map_err(|error| not_committed(&config, &error))
        })
        .await?;
        self.confirmed = Some(Instant::now());
        self.resumed.extend(offsets);
        Ok(())
    }

    fn offsets(&self, offsets: &BTreeMap<Place, u64>) -> Result<TopicPartitionList, LogError> {
        let refused = |error: &dyn std::fmt::Display| {
            LogError::Refused(format!("offsets of `{}`: {error}", self.reading.name))
        };
        let mut list = TopicPartitionList::new();
        for ((stream, partition), offset) in offsets {
            let topic = self.reading.config.topic(*stream);
            let mut entry = list.add_partition(&topic, partition.cast_signed());
            let offset = i64::try_from(*offset).map_err(|error| refused(&error))?;
            entry.set_offset(Offset::Offset(offset)).map_err(|error| refused(&error))?;
            entry.set_metadata(&self.reading.local.owner);
        }
        Ok(list)
    }

    /// Asks the group whether this consumer is alive, unless it said so a short while ago: one that
    /// slept through its session must not write.
    async fn confirm(&mut self, partition: u32) -> Result<(), LogError> {
        let session = Duration::from_millis(u64::from(self.reading.config.session_timeout_ms));
        if self.confirmed.is_some_and(|at| at.elapsed() < session / 3) {
            return Ok(());
        }
        let known = self.resumed.iter().filter(|((_, number), _)| *number == partition);
        let known: BTreeMap<Place, u64> = known.map(|(place, offset)| (*place, *offset)).collect();
        // Before the first commit the start is as good.
        let known = if known.is_empty() {
            let inner = self.reading.lock();
            let starts = inner.starts.iter().filter(|((_, number), _)| *number == partition);
            starts.map(|(place, offset)| (*place, *offset)).collect()
        } else {
            known
        };
        self.commit_offsets(known).await
    }

    /// Records and offsets of a group's consumer.
    async fn publish(&mut self, commit: &Commit, stage: &mut Stage) -> Result<(), LogError> {
        let resume = self.resume_of(commit);
        if let Some(transactions) = self.transactions.clone()
            && !commit.appends.is_empty()
        {
            let offsets = self.offsets(&resume)?;
            let client = self.client()?;
            let appends = commit.appends.clone();
            blocking(move || transactions.run(&client, &offsets, appends)).await?;
            self.confirmed = Some(Instant::now());
            self.resumed.extend(resume);
            *stage = Stage::Committed;
            return Ok(());
        }
        if *stage < Stage::Sent {
            if !commit.appends.is_empty() {
                self.confirm(commit.partition).await?;
                send_all(&self.sender, &commit.appends).await?;
            }
            *stage = Stage::Sent;
        }
        self.commit_offsets(resume).await?;
        *stage = Stage::Committed;
        Ok(())
    }

    async fn write_local(&self, commit: &Commit) -> Result<(), LogError> {
        if commit.positions.is_empty() && commit.state.is_empty() {
            return Ok(());
        }
        let (local, name) = (Arc::clone(&self.reading.local), self.reading.name.clone());
        let commit = commit.clone();
        blocking(move || Local::write(&local, &name, &commit)).await
    }
}

#[async_trait]
impl EventConsumer for Consumer {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            let arrived = self.reading.arrived.notified();
            {
                let mut inner = self.reading.lock();
                // Records of a partition may only be seen after its change of hands.
                if !inner.changes.is_empty() || max == 0 {
                    return Ok(Vec::new());
                }
                let count = inner.buffer.len().min(max);
                if count > 0 {
                    let records: Vec<Record> = inner.buffer.drain(..count).collect();
                    drop(inner);
                    for record in &records {
                        self.polled.insert((record.stream, record.partition), record.offset + 1);
                    }
                    return Ok(records);
                }
            }
            if tokio::time::timeout_at(deadline, arrived).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    async fn commit(&mut self, commit: Commit) -> Result<(), LogError> {
        self.check_owned(commit.partition)?;
        self.check_positions(&commit)?;
        self.sender.check_sizes(&commit.appends)?;
        let mut stage = if self.begun.0 == commit { self.begun.1 } else { Stage::Nothing };
        let done = match self.kind {
            Kind::Alone => send_all(&self.sender, &commit.appends).await.map(drop),
            Kind::Group if stage < Stage::Committed => self.publish(&commit, &mut stage).await,
            Kind::Group => Ok(()),
        };
        let done = match done {
            Ok(()) => self.write_local(&commit).await,
            Err(error) => Err(error),
        };
        self.begun = match &done {
            Ok(()) => (Commit::default(), Stage::Nothing),
            Err(_) => (commit, stage),
        };
        done
    }

    fn is_at_end(&self) -> bool {
        self.reading.is_at_end()
    }

    fn changes(&mut self) -> Vec<Ownership> {
        let changes = std::mem::take(&mut self.reading.lock().changes);
        for (tenure, change) in &changes {
            if let Ownership::Gained { partition, .. } = change {
                self.told.insert(*partition, *tenure);
                // What was known of an earlier tenure may have been moved by others.
                self.polled.retain(|(_, number), _| number != partition);
                self.resumed.retain(|(_, number), _| number != partition);
            }
        }
        changes.into_iter().map(|(_, change)| change).collect()
    }

    async fn release(&mut self, partition: u32) -> Result<(), LogError> {
        self.reading.release(partition);
        Ok(())
    }

    /// Waits for the first partition of a group's consumer, at most as long as a session.
    async fn state(&mut self) -> Result<BTreeMap<String, Vec<u8>>, LogError> {
        let session = Duration::from_millis(u64::from(self.reading.config.session_timeout_ms));
        let deadline = Instant::now() + session;
        loop {
            let arrived = self.reading.arrived.notified();
            let is_there = self.kind == Kind::Alone || !self.reading.lock().owned.is_empty();
            if is_there || tokio::time::timeout_at(deadline, arrived).await.is_err() {
                break;
            }
        }
        let owned: Vec<u32> = match self.kind {
            Kind::Group => self.reading.lock().owned.keys().copied().collect(),
            Kind::Alone => vec![0],
        };
        let (local, name) = (Arc::clone(&self.reading.local), self.reading.name.clone());
        blocking(move || {
            let mut all = BTreeMap::new();
            for partition in owned {
                all.extend(local.state(&name, partition)?);
            }
            Ok(all)
        })
        .await
    }

    async fn rewind(&mut self) -> Result<(), LogError> {
        let client = self.client()?;
        let reading = Arc::clone(&self.reading);
        let wait = Duration::from_millis(u64::from(reading.config.request_timeout_ms));
        let moved = blocking(move || {
            let starts = reading.lock().starts.clone();
            let mut list = TopicPartitionList::new();
            let mut moved = BTreeMap::new();
            for ((stream, partition), start) in starts {
                let committed = reading.local.position(&reading.name, stream, partition)?;
                let offset = committed.unwrap_or(start);
                let topic = reading.config.topic(stream);
                let at = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
                list.add_partition_offset(&topic, partition.cast_signed(), at)
                    .map_err(|error| LogError::Refused(error.to_string()))?;
                moved.insert((stream, partition), offset);
            }
            client.seek_partitions(list, wait).map_err(|error| away(&reading.config, &error))?;
            reading.lock().buffer.clear();
            Ok::<_, LogError>(moved)
        })
        .await?;
        self.polled = moved.into_iter().collect();
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.reading.stop();
    }
}

/// Offsets that the group did not take. Whether the partition is still ours the next rebalance says;
/// until then another try may succeed.
fn not_committed(config: &KafkaLogConfig, error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::RebalanceInProgress,
        ) => LogError::Unavailable("the group is sharing out its partitions anew".to_owned()),
        _ => away(config, error),
    }
}

/// Positions of streams that nobody shares, by what was committed here, else by the newest.
pub(super) fn starts_alone(
    reading: &Reading,
    client: &BaseConsumer<Context>,
    partitions: &BTreeMap<Stream, u32>,
    newest: Option<u64>,
) -> Result<BTreeMap<Place, u64>, LogError> {
    let mut starts = BTreeMap::new();
    for stream in &reading.streams {
        let topic = reading.config.topic(*stream);
        for partition in 0..partitions.get(stream).copied().unwrap_or(0) {
            let (low, high) = watermarks(&reading.config, client, &topic, partition)?;
            let committed = reading.local.position(&reading.name, *stream, partition)?;
            let from = newest.map_or(low, |newest| high.saturating_sub(newest));
            starts.insert((*stream, partition), committed.unwrap_or(from).clamp(low, high));
        }
    }
    Ok(starts)
}

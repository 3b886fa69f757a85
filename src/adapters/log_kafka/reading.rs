//! What the polling thread and the consumer's handle share: records read ahead, who owns which
//! partition, and the hand-over between them.
//!
//! The group shares out the partitions of the first stream; the other streams' partitions of the
//! same number go along, so that what belongs to a decision meets. Callbacks run on the polling
//! thread, which may wait there: the heartbeat is librdkafka's own thread.

use super::config::KafkaLogConfig;
use super::local::{Local, State};
use super::polling::Context;
use actors::ports::{Ownership, Record, Stream};
use actors::telemetry;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A stream and a partition number.
pub(super) type Place = (Stream, u32);

/// What both sides see under one lock.
#[derive(Default)]
pub(super) struct Inner {
    pub(super) buffer: VecDeque<Record>,
    pub(super) changes: Vec<(u64, Ownership)>,
    /// Owned partition numbers, each with the number of its tenure.
    pub(super) owned: BTreeMap<u32, u64>,
    leaving: BTreeSet<u32>,
    tenures: u64,
    /// Where reading of each partition began.
    pub(super) starts: BTreeMap<Place, u64>,
    /// Ends of partitions still to be seen, by partition number.
    unseen_ends: BTreeMap<u32, usize>,
    pub(super) is_paused: bool,
}

/// The shared part of one consumer.
pub(super) struct Reading {
    pub(super) config: Arc<KafkaLogConfig>,
    pub(super) name: String,
    pub(super) streams: Vec<Stream>,
    pub(super) local: Arc<Local>,
    inner: Mutex<Inner>,
    /// Wakes the handle: records or changes are there.
    pub(super) arrived: Notify,
    released: Condvar,
    stopped: AtomicBool,
}

impl Reading {
    pub(super) fn new(
        config: Arc<KafkaLogConfig>,
        name: &str,
        streams: &[Stream],
        local: Arc<Local>,
    ) -> Self {
        Self {
            config,
            name: name.to_owned(),
            streams: streams.to_vec(),
            local,
            inner: Mutex::default(),
            arrived: Notify::new(),
            released: Condvar::new(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle is gone: leave the group, wait for nobody.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.released.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The work on a leaving partition is over.
    pub(super) fn release(&self, partition: u32) {
        self.lock().leaving.remove(&partition);
        self.released.notify_all();
    }

    /// Partitions read alone, from `starts` on.
    pub(super) fn begin_alone(&self, starts: BTreeMap<Place, u64>) {
        let mut inner = self.lock();
        for (_, partition) in starts.keys() {
            *inner.unseen_ends.entry(*partition).or_default() += 1;
        }
        inner.starts = starts;
    }

    /// Whether all that was there at the opening was read and handed on.
    pub(super) fn is_at_end(&self) -> bool {
        let inner = self.lock();
        inner.unseen_ends.is_empty() && inner.buffer.is_empty()
    }

    pub(super) fn push(&self, record: Record) {
        self.lock().buffer.push_back(record);
        self.arrived.notify_one();
    }

    /// A partition of this number was read to its end. Which stream's is not said: of several the
    /// count decides, which may be early by one batch.
    pub(super) fn reached_end(&self, partition: u32) {
        let mut inner = self.lock();
        if let Some(left) = inner.unseen_ends.get_mut(&partition) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                inner.unseen_ends.remove(&partition);
                drop(inner);
                self.arrived.notify_one();
            }
        }
    }

    /// Stops fetching when too much waits, and goes on when little does.
    pub(super) fn pace(&self, consumer: &BaseConsumer<Context>) {
        let mut inner = self.lock();
        let waiting = inner.buffer.len();
        let pause = !inner.is_paused && waiting >= self.config.queue_high;
        let resume = inner.is_paused && waiting <= self.config.queue_low;
        if !(pause || resume) {
            return;
        }
        inner.is_paused = pause;
        drop(inner);
        self.set_paused(consumer, pause);
    }

    pub(super) fn set_paused(&self, consumer: &BaseConsumer<Context>, pause: bool) {
        let changed = consumer
            .assignment()
            .and_then(|all| if pause { consumer.pause(&all) } else { consumer.resume(&all) });
        if let Err(error) = changed {
            tracing::warn!(%error, consumer = self.name, pause, "cannot change the pace of reading");
        }
        if pause {
            metrics::counter!(telemetry::LOG_PAUSES, "consumer" => self.kind()).increment(1);
        }
    }

    /// The consumer's name without the process in it: a label of metrics.
    pub(super) fn kind(&self) -> String {
        self.name.split('-').next().unwrap_or_default().to_owned()
    }

    fn wait(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.request_timeout_ms))
    }

    fn topics(&self) -> impl Iterator<Item = (Stream, String)> + '_ {
        self.streams.iter().map(|stream| (*stream, self.config.topic(*stream)))
    }

    /// Every stream's partitions of the numbers in `tpl`, without offsets.
    pub(super) fn widened(&self, tpl: &TopicPartitionList) -> (BTreeSet<u32>, TopicPartitionList) {
        let numbers: BTreeSet<u32> = tpl
            .elements()
            .iter()
            .filter_map(|element| u32::try_from(element.partition()).ok())
            .collect();
        let mut all = TopicPartitionList::new();
        for number in &numbers {
            for (_, topic) in self.topics() {
                all.add_partition(&topic, number.cast_signed());
            }
        }
        (numbers, all)
    }

    /// Takes over partitions: finds where to go on, and with which state.
    pub(super) fn gain(
        &self,
        consumer: &BaseConsumer<Context>,
        tpl: &TopicPartitionList,
    ) -> KafkaResult<TopicPartitionList> {
        let (numbers, all) = self.widened(tpl);
        let committed = consumer.committed_offsets(all.clone(), self.wait());
        let committed = committed.inspect_err(|error| {
            tracing::warn!(%error, consumer = self.name, "committed offsets cannot be read");
        });
        let mut assigned = TopicPartitionList::new();
        for number in numbers {
            let mut offsets = BTreeMap::new();
            let mut owner = None;
            for (stream, topic) in self.topics() {
                let found = committed
                    .as_ref()
                    .ok()
                    .and_then(|committed| committed.find_partition(&topic, number.cast_signed()));
                if let Some(found) = found
                    && let Offset::Offset(offset) = found.offset()
                {
                    offsets.insert(stream, u64::try_from(offset).unwrap_or(0));
                    owner = Some(found.metadata().to_owned());
                }
            }
            let is_ours = committed.is_ok() && owner.is_none_or(|owner| owner == self.local.owner);
            let state = self.restore(number, is_ours, &mut offsets);
            let mut inner = self.lock();
            inner.tenures += 1;
            let tenure = inner.tenures;
            inner.owned.insert(number, tenure);
            inner.unseen_ends.insert(number, self.streams.len());
            for (stream, topic) in self.topics() {
                let offset = offsets.get(&stream).copied();
                inner.starts.insert((stream, number), offset.unwrap_or(0));
                let offset = match offset {
                    Some(offset) => Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX)),
                    // What could not be asked librdkafka finds out itself.
                    None if committed.is_err() => Offset::Stored,
                    None => Offset::Beginning,
                };
                assigned.add_partition_offset(&topic, number.cast_signed(), offset)?;
            }
            let gained = Ownership::Gained { partition: number, state };
            inner.changes.push((tenure, gained));
        }
        Ok(assigned)
    }

    /// The local state of a partition that was ours last, moving `offsets` up to its positions; a
    /// partition that somebody else had since starts anew.
    fn restore(
        &self,
        number: u32,
        is_ours: bool,
        offsets: &mut BTreeMap<Stream, u64>,
    ) -> Option<State> {
        let mut read = || {
            if !is_ours {
                self.local.forget(&self.name, &self.streams, number)?;
                return Ok(None);
            }
            for stream in &self.streams {
                if let Some(local) = self.local.position(&self.name, *stream, number)? {
                    let offset = offsets.entry(*stream).or_default();
                    *offset = (*offset).max(local);
                }
            }
            self.local.state(&self.name, number).map(Some)
        };
        read().unwrap_or_else(|error: actors::ports::LogError| {
            tracing::warn!(%error, number, consumer = self.name, "local state cannot be read");
            None
        })
    }

    /// Gives partitions up: tells the handle, and waits for it to finish unless they are lost.
    pub(super) fn leave(&self, numbers: &BTreeSet<u32>, is_lost: bool) {
        let is_lost = is_lost || self.is_stopped();
        let mut inner = self.lock();
        inner.buffer.retain(|record| !numbers.contains(&record.partition));
        for number in numbers {
            inner.unseen_ends.remove(number);
            let Some(tenure) = inner.owned.get(number).copied() else { continue };
            let partition = *number;
            if is_lost {
                inner.changes.push((tenure, Ownership::Lost { partition }));
            } else {
                inner.leaving.insert(partition);
                inner.changes.push((tenure, Ownership::Leaving { partition }));
            }
        }
        self.arrived.notify_one();
        let deadline = Instant::now() + Duration::from_millis(u64::from(self.config.leave_wait_ms));
        while !self.is_stopped() && numbers.iter().any(|number| inner.leaving.contains(number)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.released.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        for number in numbers {
            let Some(tenure) = inner.owned.remove(number) else { continue };
            if inner.leaving.remove(number) {
                self.count_change("overdue");
                let lost = Ownership::Lost { partition: *number };
                inner.changes.push((tenure, lost));
            }
        }
        self.arrived.notify_one();
    }

    fn count_change(&self, change: &'static str) {
        let kind = self.kind();
        metrics::counter!(telemetry::LOG_OWNERSHIP, "consumer" => kind, "change" => change)
            .increment(1);
    }

    #[expect(clippy::cast_precision_loss, reason = "partitions are few")]
    pub(super) fn rebalanced(&self, change: &'static str, numbers: usize) {
        for _ in 0..numbers {
            self.count_change(change);
        }
        let owned = self.lock().owned.len();
        metrics::gauge!(telemetry::LOG_PARTITIONS, "consumer" => self.kind()).set(owned as f64);
        tracing::info!(consumer = self.name, change, numbers, owned, "partitions changed hands");
    }
}

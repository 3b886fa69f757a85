//! The event log in memory: one partition a stream, consumers with positions and derived state.

use super::Knob;
use crate::ports::{
    Commit, EventConsumer, EventLog, Found, LogError, NewRecord, Ownership, Record, StateChange,
    Stream,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

#[derive(Default)]
struct Inner {
    streams: BTreeMap<Stream, Vec<NewRecord>>,
    positions: BTreeMap<(String, Stream), u64>,
    states: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Openings of each consumer name that are not closed: only the newest goes on.
    openings: BTreeMap<String, BTreeSet<u64>>,
    opened: u64,
}

/// The log. Clones share the records, as reopening a log on disk would.
#[derive(Clone)]
pub struct MemoryLog {
    inner: Arc<Mutex<Inner>>,
    appended: watch::Sender<u64>,
    /// Faults of appends.
    pub appends: Arc<Knob>,
    /// Faults of commits.
    pub commits: Arc<Knob>,
    /// Faults of looking records up by their key.
    pub finds: Arc<Knob>,
    /// Whether the index by key has read nothing yet.
    pub is_unread: Arc<AtomicBool>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            appended: watch::channel(0).0,
            appends: Arc::default(),
            commits: Arc::default(),
            finds: Arc::default(),
            is_unread: Arc::default(),
        }
    }
}

impl MemoryLog {
    /// Everything in a stream so far.
    pub fn records(&self, stream: Stream) -> Vec<NewRecord> {
        self.lock().streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Everything in a stream that reads as `T`.
    pub fn read<T: for<'a> serde::Deserialize<'a>>(&self, stream: Stream) -> Vec<T> {
        let records = self.records(stream);
        records.iter().filter_map(|r| serde_json::from_slice(&r.payload).ok()).collect()
    }

    /// The committed position of a consumer.
    pub fn position(&self, consumer: &str, stream: Stream) -> u64 {
        self.lock().positions.get(&(consumer.to_owned(), stream)).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.appended.send_modify(|n| *n += 1);
    }
}

fn push(inner: &mut Inner, stream: Stream, records: Vec<NewRecord>) -> Vec<u64> {
    let kept = inner.streams.entry(stream).or_default();
    let first = kept.len() as u64;
    let offsets = (first..first + records.len() as u64).collect();
    kept.extend(records);
    offsets
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(&self, stream: Stream, records: Vec<NewRecord>) -> Result<Vec<u64>, LogError> {
        self.appends.pass().await.map_err(LogError::Unavailable)?;
        let offsets = push(&mut self.lock(), stream, records);
        self.wake();
        Ok(offsets)
    }

    async fn consumer(
        &self,
        name: &str,
        streams: &[Stream],
    ) -> Result<Box<dyn EventConsumer>, LogError> {
        let opening = {
            let mut inner = self.lock();
            inner.opened += 1;
            let opening = inner.opened;
            inner.openings.entry(name.to_owned()).or_default().insert(opening);
            opening
        };
        let mut consumer = MemoryConsumer {
            log: self.clone(),
            name: name.to_owned(),
            opening,
            streams: streams.to_vec(),
            next: BTreeMap::new(),
            is_told: false,
            was_lost: false,
        };
        consumer.rewind().await?;
        Ok(Box::new(consumer))
    }

    async fn ends(&self, stream: Stream) -> Result<Vec<u64>, LogError> {
        Ok(vec![self.lock().streams.get(&stream).map_or(0, |kept| kept.len() as u64)])
    }

    async fn tail(
        &self,
        stream: Stream,
        partition: u32,
        newest: u64,
    ) -> Result<Vec<Record>, LogError> {
        let all = if partition == 0 { self.records(stream) } else { Vec::new() };
        let first = (all.len() as u64).saturating_sub(newest);
        let numbered = (0_u64..).zip(all).skip_while(|(offset, _)| *offset < first);
        let kept = numbered.map(|(offset, record)| {
            let NewRecord { key, headers, payload } = record;
            Record { stream, partition, offset, key, headers, payload }
        });
        Ok(kept.collect())
    }

    async fn find(&self, stream: Stream, key: &str, newest: usize) -> Result<Found, LogError> {
        self.finds.pass().await.map_err(LogError::Unavailable)?;
        let is_complete = !self.is_unread.load(SeqCst);
        if !is_complete {
            return Ok(Found { records: Vec::new(), is_complete });
        }
        let inner = self.lock();
        let kept = inner.streams.get(&stream).map_or(&[][..], Vec::as_slice);
        let numbered = kept.iter().enumerate().rev().filter(|(_, record)| record.key == key);
        let mut records: Vec<Record> = numbered
            .take(newest)
            .map(|(offset, record)| {
                let NewRecord { key, headers, payload } = record.clone();
                let offset = offset as u64;
                Record { stream, partition: 0, offset, key, headers, payload }
            })
            .collect();
        records.reverse();
        Ok(Found { records, is_complete })
    }

    fn partition_of(&self, _stream: Stream, _key: &str) -> u32 {
        0
    }
}

struct MemoryConsumer {
    log: MemoryLog,
    name: String,
    opening: u64,
    streams: Vec<Stream>,
    next: BTreeMap<Stream, u64>,
    is_told: bool,
    /// Whether another had it since it was told.
    was_lost: bool,
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        if let Some(openings) = self.log.lock().openings.get_mut(&self.name) {
            openings.remove(&self.opening);
        }
        self.log.wake();
    }
}

impl MemoryConsumer {
    fn owns(&self) -> bool {
        let inner = self.log.lock();
        inner.openings.get(&self.name).and_then(BTreeSet::last) == Some(&self.opening)
    }

    fn check_owner(&self) -> Result<(), LogError> {
        if self.owns() {
            return Ok(());
        }
        Err(LogError::InUse(format!("consumer `{}` was opened again", self.name)))
    }

    fn take(&mut self, max: usize) -> Vec<Record> {
        let inner = self.log.lock();
        let mut taken = Vec::new();
        for stream in &self.streams {
            let next = self.next.entry(*stream).or_insert(0);
            let kept = inner.streams.get(stream).map_or(&[][..], Vec::as_slice);
            let from = usize::try_from(*next).unwrap_or(usize::MAX);
            for record in kept.iter().skip(from).take(max - taken.len()) {
                let NewRecord { key, headers, payload } = record.clone();
                let (stream, offset) = (*stream, *next);
                taken.push(Record { stream, partition: 0, offset, key, headers, payload });
                *next += 1;
            }
        }
        taken
    }
}

#[async_trait]
impl EventConsumer for MemoryConsumer {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        let mut appended = self.log.appended.subscribe();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let owned = self.check_owner();
            self.was_lost |= owned.is_err();
            owned?;
            if self.was_lost {
                // To be told of first: all that the other wrote is to be read.
                return Err(LogError::InUse(format!("consumer `{}` was away", self.name)));
            }
            let taken = self.take(max);
            let is_late = tokio::time::Instant::now() >= deadline;
            if !taken.is_empty() || max == 0 || is_late {
                return Ok(taken);
            }
            // Running into the deadline is the empty reply of the next round.
            let _ = tokio::time::timeout_at(deadline, appended.changed()).await;
        }
    }

    async fn commit(&mut self, commit: Commit) -> Result<(), LogError> {
        self.log.commits.pass().await.map_err(LogError::Unavailable)?;
        self.check_owner()?;
        for (stream, partition, position) in &commit.positions {
            let polled = self.next.get(stream).copied().unwrap_or(0);
            if *partition != 0 || *position > polled {
                let place = format!("{stream:?}/{partition} at {position}");
                return Err(LogError::Refused(format!("position {place} was never polled")));
            }
        }
        let mut inner = self.log.lock();
        for (stream, _, position) in commit.positions {
            inner.positions.insert((self.name.clone(), stream), position);
        }
        let state = inner.states.entry(self.name.clone()).or_default();
        for change in commit.state {
            match change {
                StateChange::Put { key, value } => drop(state.insert(key, value)),
                StateChange::Delete { key } => drop(state.remove(&key)),
            }
        }
        for (stream, record) in commit.appends {
            push(&mut inner, stream, vec![record]);
        }
        drop(inner);
        self.log.wake();
        Ok(())
    }

    fn changes(&mut self) -> Vec<Ownership> {
        if self.was_lost && self.is_told {
            self.is_told = false;
            return vec![Ownership::Lost { partition: 0 }];
        }
        if self.is_told || !self.owns() {
            return Vec::new();
        }
        self.is_told = true;
        if std::mem::take(&mut self.was_lost) {
            let Self { log, name, streams, next, .. } = self;
            next.extend(streams.iter().map(|stream| (*stream, log.position(name, *stream))));
        }
        let state = self.log.lock().states.get(&self.name).cloned().unwrap_or_default();
        vec![Ownership::Gained { partition: 0, state: Some(state) }]
    }

    async fn release(&mut self, _partition: u32) -> Result<(), LogError> {
        Ok(())
    }

    async fn state(&mut self) -> Result<BTreeMap<String, Vec<u8>>, LogError> {
        Ok(self.log.lock().states.get(&self.name).cloned().unwrap_or_default())
    }

    async fn rewind(&mut self) -> Result<(), LogError> {
        for stream in self.streams.clone() {
            self.next.insert(stream, self.log.position(&self.name, stream));
        }
        Ok(())
    }
}

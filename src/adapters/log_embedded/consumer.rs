//! One reader of the embedded log: polls, waits, commits.

use super::apply::{Owner, Work, taken_over};
use super::store::{BOUNDS, Ends, KEYS, POSITIONS, RECORDS, STATE, Stored, code_of, index_of};
use super::{Shared, blocking};
use actors::ports::{Commit, EventConsumer, Found, LogError, Ownership, Record, Stream};
use async_trait::async_trait;
use redb::ReadTransaction;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A stream and the next offset to read from it.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    stream: Stream,
    next: u64,
}

pub(super) struct Consumer {
    shared: Arc<Shared>,
    owner: Owner,
    cursors: Vec<Cursor>,
    /// The cursor a poll begins with; moves on, so that no stream starves the others.
    first: usize,
    ends: watch::Receiver<Ends>,
    /// The one partition with its state, until it is told of.
    gained: Option<Ownership>,
}

impl Consumer {
    pub(super) fn new(
        shared: Arc<Shared>,
        owner: Owner,
        streams: &[Stream],
        (positions, state): (Vec<u64>, BTreeMap<String, Vec<u8>>),
    ) -> Self {
        let cursors =
            streams.iter().zip(positions).map(|(&stream, next)| Cursor { stream, next }).collect();
        let ends = shared.ends.subscribe();
        let gained = Some(Ownership::Gained { partition: 0, state: Some(state) });
        Self { shared, owner, cursors, first: 0, ends, gained }
    }

    fn check_owner(&self) -> Result<(), LogError> {
        if self.shared.is_owner(&self.owner) { Ok(()) } else { Err(taken_over(&self.owner.name)) }
    }

    /// Up to `max` records that are there now.
    async fn read(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        let ends = *self.ends.borrow_and_update();
        if self.cursors.iter().all(|cursor| cursor.next >= ends[index_of(cursor.stream)]) {
            return Ok(Vec::new());
        }
        let mut order = self.cursors.clone();
        order.rotate_left(self.first);
        self.first = (self.first + 1) % self.cursors.len();
        let shared = Arc::clone(&self.shared);
        let records = blocking(move || {
            let bytes_max = shared.config.poll_bytes_max;
            shared.store.read(|transaction| read_records(transaction, &order, max, bytes_max))
        })
        .await?;
        for record in &records {
            for cursor in self.cursors.iter_mut().filter(|c| c.stream == record.stream) {
                cursor.next = record.offset + 1;
            }
        }
        Ok(records)
    }
}

#[async_trait]
impl EventConsumer for Consumer {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            self.check_owner()?;
            let records = self.read(max).await?;
            if !records.is_empty() {
                return Ok(records);
            }
            // `read` marked the ends as seen, so a write since then wakes this at once.
            match tokio::time::timeout_at(deadline, self.ends.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(Vec::new()),
            }
        }
    }

    async fn commit(&mut self, commit: Commit) -> Result<(), LogError> {
        self.shared.check_sizes(commit.appends.iter().map(|(_, record)| record))?;
        for (stream, _, offset) in &commit.positions {
            let polled = self.cursors.iter().find(|c| c.stream == *stream).map(|c| c.next);
            if polled.is_none_or(|polled| *offset > polled) {
                return Err(LogError::Refused(format!(
                    "consumer `{}` commits position {offset} of {}, but has polled up to {}",
                    self.owner.name,
                    stream.topic(),
                    polled.map_or("nothing of it".to_owned(), |polled| polled.to_string())
                )));
            }
        }
        let owner = Some(self.owner.clone());
        self.shared.write(Work::Commit { owner, commit }).await.map(drop)
    }

    fn changes(&mut self) -> Vec<Ownership> {
        self.gained.take().into_iter().collect()
    }

    async fn release(&mut self, _partition: u32) -> Result<(), LogError> {
        Ok(())
    }

    async fn state(&mut self) -> Result<BTreeMap<String, Vec<u8>>, LogError> {
        self.check_owner()?;
        state_of(&self.shared, &self.owner.name).await
    }

    async fn rewind(&mut self) -> Result<(), LogError> {
        self.check_owner()?;
        let shared = Arc::clone(&self.shared);
        let name = self.owner.name.clone();
        let mut cursors = self.cursors.clone();
        self.cursors = blocking(move || {
            let positions = shared.store.read(|transaction| {
                let positions = transaction.open_table(POSITIONS)?;
                let read = |cursor: &Cursor| -> Result<u64, redb::Error> {
                    let key = (name.as_str(), code_of(cursor.stream));
                    Ok(positions.get(key)?.map_or(0, |position| position.value()))
                };
                cursors.iter().map(read).collect::<Result<Vec<u64>, redb::Error>>()
            })?;
            for (cursor, next) in cursors.iter_mut().zip(positions) {
                cursor.next = next;
            }
            Ok(cursors)
        })
        .await?;
        Ok(())
    }
}

/// The derived state of a consumer name.
pub(super) async fn state_of(
    shared: &Arc<Shared>,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, LogError> {
    let (shared, name) = (Arc::clone(shared), name.to_owned());
    blocking(move || shared.store.read(|transaction| read_state(transaction, &name))).await
}

/// The last `newest` records of a stream.
pub(super) async fn tail_of(
    shared: &Arc<Shared>,
    stream: Stream,
    newest: u64,
) -> Result<Vec<Record>, LogError> {
    let end = shared.ends.borrow()[index_of(stream)];
    let cursor = [Cursor { stream, next: end.saturating_sub(newest) }];
    let max = usize::try_from(newest).unwrap_or(usize::MAX);
    let shared = Arc::clone(shared);
    blocking(move || {
        shared.store.read(|transaction| read_records(transaction, &cursor, max, usize::MAX))
    })
    .await
}

fn read_records(
    transaction: &ReadTransaction,
    cursors: &[Cursor],
    max: usize,
    bytes_max: usize,
) -> Result<Vec<Record>, redb::Error> {
    let table = transaction.open_table(RECORDS)?;
    let bounds = transaction.open_table(BOUNDS)?;
    let mut records = Vec::new();
    let mut bytes = 0;
    for cursor in cursors {
        let code = code_of(cursor.stream);
        let (start, end) = bounds.get(code)?.map_or((0, 0), |bounds| bounds.value());
        // Records before `start` fell to retention while this consumer was not registered.
        let from = cursor.next.max(start);
        if from >= end {
            continue;
        }
        for entry in table.range((code, from)..(code, end))? {
            if records.len() >= max || bytes >= bytes_max {
                return Ok(records);
            }
            let (key, value) = entry?;
            bytes += value.value().2.len();
            records.push(record_of(cursor.stream, key.value().1, value.value())?);
        }
    }
    Ok(records)
}

fn record_of(
    stream: Stream,
    offset: u64,
    (key, headers, payload): Stored<'_>,
) -> Result<Record, redb::Error> {
    let headers = serde_json::from_slice(headers)
        .map_err(|error| redb::Error::Corrupted(format!("headers: {error}")))?;
    let (key, payload) = (key.to_owned(), payload.to_vec());
    Ok(Record { stream, partition: 0, offset, key, headers, payload })
}

/// The last `newest` records of a key, oldest first. The index is written with the records, so it
/// is always complete.
pub(super) async fn find_in(
    shared: &Arc<Shared>,
    stream: Stream,
    key: &str,
    newest: usize,
) -> Result<Found, LogError> {
    let (shared, key, code) = (Arc::clone(shared), key.to_owned(), code_of(stream));
    blocking(move || {
        shared.store.read(|transaction| {
            let keys = transaction.open_table(KEYS)?;
            let table = transaction.open_table(RECORDS)?;
            let all = (code, key.as_str(), 0)..=(code, key.as_str(), u64::MAX);
            let mut records = Vec::new();
            for entry in keys.range(all)?.rev().take(newest) {
                let offset = entry?.0.value().2;
                if let Some(record) = table.get((code, offset))? {
                    records.push(record_of(stream, offset, record.value())?);
                }
            }
            records.reverse();
            Ok(Found { records, is_complete: true })
        })
    })
    .await
}

fn read_state(
    transaction: &ReadTransaction,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
    let table = transaction.open_table(STATE)?;
    let mut state = BTreeMap::new();
    for entry in table.range((name, "")..)? {
        let (key, value) = entry?;
        let (owner, key) = key.value();
        if owner != name {
            break;
        }
        state.insert(key.to_owned(), value.value().to_vec());
    }
    Ok(state)
}

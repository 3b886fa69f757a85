//! What one write transaction does: commits, registrations, retention.
//!
//! Each piece of work is checked before it changes anything, so a refused one leaves the others of
//! its batch alone. Blocking; knows redb.

use super::store::{BOUNDS, Ends, KEYS, POSITIONS, RECORDS, STATE, Stored, code_of, ends_of};
use actors::ports::{Commit, LogError, NewRecord, StateChange, Stream};
use redb::{ReadableTable, Table, WriteTransaction};
use std::collections::BTreeMap;

/// Records removed by retention in one write at most: a bound on its duration.
const TRIM_MAX: u64 = 1_024;

/// A consumer's claim on its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) generation: u64,
}

/// One piece of work.
pub(super) enum Work {
    /// Appends, and a consumer's progress if there is an owner.
    Commit { owner: Option<Owner>, commit: Commit },
    /// Enters a consumer, so that retention waits for it.
    Register { owner: Owner, streams: Vec<Stream> },
    /// Removes a consumer.
    Forget { name: String },
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Done {
    /// Offsets of the appended records, in order.
    pub(super) offsets: Vec<u64>,
    /// Positions of a registered consumer, in the order of its streams.
    pub(super) positions: Vec<u64>,
}

struct Tables<'txn> {
    records: Table<'txn, (u8, u64), Stored<'static>>,
    keys: Table<'txn, (u8, &'static str, u64), ()>,
    bounds: Table<'txn, u8, (u64, u64)>,
    positions: Table<'txn, (&'static str, u8), u64>,
    state: Table<'txn, (&'static str, &'static str), &'static [u8]>,
}

/// Applies every piece of work, then retention; gives a result for each and the new ends.
pub(super) fn apply_all(
    transaction: &WriteTransaction,
    works: &[Work],
    retention: &BTreeMap<Stream, u64>,
    is_owner: &dyn Fn(&Owner) -> bool,
) -> Result<(Vec<Result<Done, LogError>>, Ends), redb::Error> {
    let mut tables = Tables {
        records: transaction.open_table(RECORDS)?,
        keys: transaction.open_table(KEYS)?,
        bounds: transaction.open_table(BOUNDS)?,
        positions: transaction.open_table(POSITIONS)?,
        state: transaction.open_table(STATE)?,
    };
    let mut results = Vec::with_capacity(works.len());
    for work in works {
        results.push(tables.apply(work, is_owner)?);
    }
    for (stream, keep) in retention {
        tables.trim(*stream, *keep)?;
    }
    let ends = ends_of(&tables.bounds)?;
    Ok((results, ends))
}

impl Tables<'_> {
    fn apply(
        &mut self,
        work: &Work,
        is_owner: &dyn Fn(&Owner) -> bool,
    ) -> Result<Result<Done, LogError>, redb::Error> {
        match work {
            Work::Commit { owner, commit } => {
                if let Some(owner) = owner
                    && !is_owner(owner)
                {
                    return Ok(Err(taken_over(&owner.name)));
                }
                self.commit(owner.as_ref(), commit)
            }
            Work::Register { owner, streams } => {
                if !is_owner(owner) {
                    return Ok(Err(taken_over(&owner.name)));
                }
                self.register(&owner.name, streams).map(Ok)
            }
            Work::Forget { name } => self.forget(name).map(Ok),
        }
    }

    fn commit(
        &mut self,
        owner: Option<&Owner>,
        commit: &Commit,
    ) -> Result<Result<Done, LogError>, redb::Error> {
        for (stream, partition, offset) in &commit.positions {
            let (_, end) = self.bounds_of(*stream)?;
            if *partition != 0 || *offset > end {
                return Ok(Err(LogError::Refused(format!(
                    "position {offset} of {}/{partition}: the end is {end} of partition 0",
                    stream.topic()
                ))));
            }
        }
        if let Some(Owner { name, .. }) = owner {
            for (stream, _, offset) in &commit.positions {
                self.positions.insert((name.as_str(), code_of(*stream)), offset)?;
            }
            for change in &commit.state {
                match change {
                    StateChange::Put { key, value } => {
                        drop(self.state.insert((name.as_str(), key.as_str()), value.as_slice())?)
                    }
                    StateChange::Delete { key } => {
                        drop(self.state.remove((name.as_str(), key.as_str()))?);
                    }
                }
            }
        }
        let mut done = Done::default();
        for (stream, record) in &commit.appends {
            done.offsets.push(self.append(*stream, record)?);
        }
        Ok(Ok(done))
    }

    fn append(&mut self, stream: Stream, record: &NewRecord) -> Result<u64, redb::Error> {
        let (start, end) = self.bounds_of(stream)?;
        let headers = serde_json::to_vec(&record.headers)
            .map_err(|error| redb::Error::Corrupted(format!("headers: {error}")))?;
        let value = (record.key.as_str(), headers.as_slice(), record.payload.as_slice());
        self.records.insert((code_of(stream), end), value)?;
        if Stream::INDEXED.contains(&stream) {
            self.keys.insert((code_of(stream), record.key.as_str(), end), ())?;
        }
        self.bounds.insert(code_of(stream), (start, end + 1))?;
        Ok(end)
    }

    /// Enters the streams a consumer has not had before, at the first kept record.
    fn register(&mut self, name: &str, streams: &[Stream]) -> Result<Done, redb::Error> {
        let mut done = Done::default();
        for stream in streams {
            let key = (name, code_of(*stream));
            let (start, _) = self.bounds_of(*stream)?;
            let committed = self.positions.get(key)?.map(|position| position.value());
            if committed.is_none() {
                self.positions.insert(key, start)?;
            }
            done.positions.push(committed.unwrap_or(start).max(start));
        }
        Ok(done)
    }

    fn forget(&mut self, name: &str) -> Result<Done, redb::Error> {
        for stream in Stream::ALL {
            self.positions.remove((name, code_of(stream)))?;
        }
        let mut keys = Vec::new();
        for entry in self.state.range((name, "")..)? {
            let (key, _) = entry?;
            let (owner, key) = key.value();
            if owner != name {
                break;
            }
            keys.push(key.to_owned());
        }
        for key in keys {
            self.state.remove((name, key.as_str()))?;
        }
        Ok(Done::default())
    }

    /// Removes the oldest records of a stream beyond `keep` that every consumer has passed.
    fn trim(&mut self, stream: Stream, keep: u64) -> Result<(), redb::Error> {
        let (start, end) = self.bounds_of(stream)?;
        let mut until = end.saturating_sub(keep);
        if until <= start {
            return Ok(());
        }
        for entry in self.positions.iter()? {
            let (key, position) = entry?;
            if key.value().1 == code_of(stream) {
                until = until.min(position.value());
            }
        }
        let until = until.min(start + TRIM_MAX);
        for offset in start..until {
            let removed = self.records.remove((code_of(stream), offset))?;
            if let Some(record) = removed
                && Stream::INDEXED.contains(&stream)
            {
                self.keys.remove((code_of(stream), record.value().0, offset))?;
            }
        }
        if until > start {
            self.bounds.insert(code_of(stream), (until, end))?;
        }
        Ok(())
    }

    fn bounds_of(&self, stream: Stream) -> Result<(u64, u64), redb::Error> {
        Ok(self.bounds.get(code_of(stream))?.map_or((0, 0), |bounds| bounds.value()))
    }
}

/// The error of a consumer whose name has a newer owner.
pub(super) fn taken_over(name: &str) -> LogError {
    LogError::InUse(format!(
        "consumer `{name}` was opened again or forgotten; only its newest opening goes on"
    ))
}

//! What a process keeps beside Kafka: its consumers' positions and derived state by partition, in
//! one file, so that both move in one atomic durable write.
//!
//! Everything here blocks. Knows no broker.

use crate::adapters::database_file::{DatabaseFile, Settings};
use actors::ports::{Commit, LogError, Record, StateChange, Stream};
use redb::{ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::path::Path;

/// `(consumer, stream, partition)` → next offset.
const POSITIONS: TableDefinition<'_, (&str, &str, u32), u64> = TableDefinition::new("positions");
/// `(consumer, partition, key)` → value.
const STATE: TableDefinition<'_, (&str, u32, &str), &[u8]> = TableDefinition::new("state");
/// `(stream, key, partition, offset)` of the newest records of [`Stream::INDEXED`].
const KEYS: TableDefinition<'_, (&str, &str, u32, u64), ()> = TableDefinition::new("keys");
/// `(stream, partition, offset)` → key: the same, in the order in which they are forgotten.
const PLACES: TableDefinition<'_, (&str, u32, u64), &str> = TableDefinition::new("places");
/// Facts of the file itself.
const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");

/// Version of the tables above.
const FORMAT: &str = "1";
/// Memory for cached pages, bytes.
const CACHE_BYTES: usize = 32 << 20;

pub(super) type State = BTreeMap<String, Vec<u8>>;

/// The file.
pub(super) struct Local {
    file: DatabaseFile,
    /// Names this file: whoever holds it is the process that its state belongs to.
    pub(super) owner: String,
}

impl Local {
    /// Opens or creates `path`; a new file takes the name `owner`.
    pub(super) fn open(path: &Path, owner: &str) -> Result<Self, LogError> {
        let place = path.display().to_string();
        let path = path.to_owned();
        let settings = Settings::new(CACHE_BYTES, false);
        let file = DatabaseFile::new(place, Box::new(move || settings.builder().create(&path)));
        let owner = file.write(|transaction| {
            transaction.open_table(POSITIONS)?;
            transaction.open_table(STATE)?;
            transaction.open_table(KEYS)?;
            transaction.open_table(PLACES)?;
            let mut about = transaction.open_table(ABOUT)?;
            let format = about.get("format")?.map(|format| format.value().to_owned());
            match format.as_deref() {
                None => drop(about.insert("format", FORMAT)?),
                Some(FORMAT) => {}
                Some(other) => {
                    return Err(redb::Error::Corrupted(format!(
                        "written with table format {other}, this build reads {FORMAT}"
                    )));
                }
            }
            let known = about.get("owner")?.map(|owner| owner.value().to_owned());
            if let Some(known) = known {
                return Ok(known);
            }
            about.insert("owner", owner)?;
            Ok(owner.to_owned())
        })?;
        Ok(Self { file, owner })
    }

    /// Writes positions and state of one commit: all of it, or nothing.
    pub(super) fn write(&self, consumer: &str, commit: &Commit) -> Result<(), LogError> {
        self.file.write(|transaction| {
            let mut positions = transaction.open_table(POSITIONS)?;
            for (stream, partition, next) in &commit.positions {
                positions.insert((consumer, stream.topic(), *partition), next)?;
            }
            let mut state = transaction.open_table(STATE)?;
            for change in &commit.state {
                match change {
                    StateChange::Put { key, value } => {
                        let key = (consumer, commit.partition, key.as_str());
                        drop(state.insert(key, value.as_slice())?);
                    }
                    StateChange::Delete { key } => {
                        drop(state.remove((consumer, commit.partition, key.as_str()))?);
                    }
                }
            }
            Ok(())
        })
    }

    /// Enters where the keys of records are; of each partition the last `newest` offsets are kept.
    pub(super) fn enter(&self, records: &[Record], newest: u64) -> Result<(), LogError> {
        self.file.write(|transaction| {
            let mut keys = transaction.open_table(KEYS)?;
            let mut places = transaction.open_table(PLACES)?;
            let mut ends = BTreeMap::new();
            for record in records {
                let (topic, partition) = (record.stream.topic(), record.partition);
                keys.insert((topic, record.key.as_str(), partition, record.offset), ())?;
                places.insert((topic, partition, record.offset), record.key.as_str())?;
                ends.insert((topic, partition), record.offset + 1);
            }
            for ((topic, partition), end) in ends {
                let over = (topic, partition, 0)..(topic, partition, end.saturating_sub(newest));
                for entry in places.extract_from_if(over, |_, _| true)? {
                    let (place, key) = entry?;
                    keys.remove((topic, key.value(), partition, place.value().2))?;
                }
            }
            Ok(())
        })
    }

    /// Partitions and offsets of the last `newest` records of a key, oldest first.
    pub(super) fn places(
        &self,
        stream: Stream,
        key: &str,
        newest: usize,
    ) -> Result<Vec<(u32, u64)>, LogError> {
        self.file.read(|transaction| {
            let keys = transaction.open_table(KEYS)?;
            let topic = stream.topic();
            let all = (topic, key, 0, 0)..=(topic, key, u32::MAX, u64::MAX);
            let mut found = Vec::new();
            for entry in keys.range(all)?.rev().take(newest) {
                let (_, _, partition, offset) = entry?.0.value();
                found.push((partition, offset));
            }
            found.reverse();
            Ok(found)
        })
    }

    /// The position of one partition, if there is one.
    pub(super) fn position(
        &self,
        consumer: &str,
        stream: Stream,
        partition: u32,
    ) -> Result<Option<u64>, LogError> {
        self.file.read(|transaction| {
            let positions = transaction.open_table(POSITIONS)?;
            let found = positions.get((consumer, stream.topic(), partition))?;
            Ok(found.map(|position| position.value()))
        })
    }

    /// The state of one partition.
    pub(super) fn state(&self, consumer: &str, partition: u32) -> Result<State, LogError> {
        self.file.read(|transaction| {
            let table = transaction.open_table(STATE)?;
            let mut state = State::new();
            for entry in table.range((consumer, partition, "")..)? {
                let (key, value) = entry?;
                let (owner, number, key) = key.value();
                if owner != consumer || number != partition {
                    break;
                }
                state.insert(key.to_owned(), value.value().to_vec());
            }
            Ok(state)
        })
    }

    /// Forgets a partition: somebody else had it since.
    pub(super) fn forget(
        &self,
        consumer: &str,
        streams: &[Stream],
        partition: u32,
    ) -> Result<(), LogError> {
        let keys: Vec<String> = self.state(consumer, partition)?.into_keys().collect();
        self.file.write(|transaction| {
            let mut positions = transaction.open_table(POSITIONS)?;
            for stream in streams {
                positions.remove((consumer, stream.topic(), partition))?;
            }
            let mut state = transaction.open_table(STATE)?;
            for key in &keys {
                state.remove((consumer, partition, key.as_str()))?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn put(key: &str) -> StateChange {
        StateChange::Put { key: key.to_owned(), value: key.as_bytes().to_vec() }
    }

    #[test]
    fn partitions_and_consumers_have_each_their_own_and_survive_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let local = Local::open(&path, "first").unwrap();
        for (consumer, partition) in [("judge", 0), ("judge", 1), ("judgement", 0)] {
            let positions = vec![(Stream::Episodes, partition, 7 + u64::from(partition))];
            let state = vec![put(&format!("{consumer}{partition}")), put("both")];
            let commit = Commit { partition, positions, state, ..Commit::default() };
            local.write(consumer, &commit).unwrap();
        }
        drop(local);
        let local = Local::open(&path, "second").unwrap();
        assert_eq!(local.owner, "first", "the file keeps its name");
        assert_eq!(local.position("judge", Stream::Episodes, 1).unwrap(), Some(8));
        assert_eq!(local.position("judge", Stream::Feedback, 1).unwrap(), None);
        let keys = |consumer, partition| {
            let state = local.state(consumer, partition).unwrap();
            state.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(keys("judge", 0), ["both", "judge0"]);
        assert_eq!(keys("judgement", 0), ["both", "judgement0"]);
        local.forget("judge", &[Stream::Episodes], 0).unwrap();
        assert_eq!(keys("judge", 0), [""; 0]);
        assert_eq!(local.position("judge", Stream::Episodes, 0).unwrap(), None);
        assert_eq!(keys("judge", 1), ["both", "judge1"]);
    }

    #[test]
    fn keys_are_found_as_long_as_their_records_are_among_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::open(&folder.path().join("state.redb"), "node").unwrap();
        let record = |stream, offset, key: &str| Record {
            stream,
            partition: 3,
            offset,
            key: key.to_owned(),
            headers: BTreeMap::new(),
            payload: Vec::new(),
        };
        let of = |key: &str, newest| local.places(Stream::Rewards, key, newest).unwrap();
        let keys = ["a", "b", "a", "a"];
        let records: Vec<Record> =
            (0..).zip(keys).map(|(n, key)| record(Stream::Rewards, n, key)).collect();
        local.enter(&records, 10).unwrap();
        local.enter(&[record(Stream::Episodes, 7, "a")], 10).unwrap();
        assert_eq!(of("a", 9), [(3, 0), (3, 2), (3, 3)]);
        assert_eq!(of("a", 2), [(3, 2), (3, 3)]);
        assert_eq!(of("ab", 9), []);
        local.enter(&[record(Stream::Rewards, 4, "c")], 2).unwrap();
        assert_eq!((of("a", 9), of("b", 9), of("c", 9)), (vec![(3, 3)], vec![], vec![(3, 4)]));
        assert_eq!(local.places(Stream::Episodes, "a", 9).unwrap(), [(3, 7)]);
    }

    #[test]
    fn two_processes_cannot_hold_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let _held = Local::open(&path, "one").unwrap();
        let error = Local::open(&path, "two").map(drop).unwrap_err();
        assert!(matches!(error, LogError::InUse(_)), "{error}");
    }
}

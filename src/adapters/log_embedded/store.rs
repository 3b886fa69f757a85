//! The tables of the log, in one file.
//!
//! Everything here blocks. Knows redb; does not know consumers or waiting.

use crate::adapters::database_file::{DatabaseFile, Open};
use actors::ports::{LogError, Stream};
use redb::{ReadableTable, TableDefinition};
use std::ops::Deref;

/// A stored record: `(key, headers as JSON, payload)`.
pub(super) type Stored<'a> = (&'a str, &'a [u8], &'a [u8]);

/// `(stream, offset)` → record.
pub(super) const RECORDS: TableDefinition<'_, (u8, u64), Stored<'_>> =
    TableDefinition::new("records");
/// Stream → `(first kept offset, next offset)`.
pub(super) const BOUNDS: TableDefinition<'_, u8, (u64, u64)> = TableDefinition::new("bounds");
/// `(consumer, stream)` → next offset.
pub(super) const POSITIONS: TableDefinition<'_, (&str, u8), u64> =
    TableDefinition::new("positions");
/// `(consumer, key)` → value.
pub(super) const STATE: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("state");
/// `(stream, key, offset)` of each record kept of [`Stream::INDEXED`]: where a decision's are.
pub(super) const KEYS: TableDefinition<'_, (u8, &str, u64), ()> = TableDefinition::new("keys");
/// Facts of the file itself.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// Version of the tables above.
const FORMAT: u64 = 1;

/// Next offset of each stream, by [`index_of`].
pub(super) type Ends = [u64; Stream::ALL.len()];

/// The number a stream has in the file; never changed once written.
pub(super) fn code_of(stream: Stream) -> u8 {
    match stream {
        Stream::Queries => 0,
        Stream::Answers => 1,
        Stream::Episodes => 2,
        Stream::Feedback => 3,
        Stream::Rewards => 4,
        Stream::Policies => 5,
        Stream::Deadletter => 6,
        Stream::Shadows => 7,
    }
}

/// Position of a stream in [`Ends`].
pub(super) fn index_of(stream: Stream) -> usize {
    usize::from(code_of(stream))
}

/// The tables in their file.
pub(super) struct Store(DatabaseFile);

impl Deref for Store {
    type Target = DatabaseFile;

    fn deref(&self) -> &DatabaseFile {
        &self.0
    }
}

impl Store {
    /// Opens or creates the tables and reads the ends of all streams.
    pub(super) fn open(place: String, open: Open) -> Result<(Self, Ends), LogError> {
        let store = Self(DatabaseFile::new(place, open));
        let ends = store.write(|transaction| {
            let mut about = transaction.open_table(ABOUT)?;
            let format = about.get("format")?.map(|format| format.value());
            match format {
                None => drop(about.insert("format", FORMAT)?),
                Some(FORMAT) => {}
                Some(other) => {
                    return Err(redb::Error::Corrupted(format!(
                        "written with table format {other}, this build reads {FORMAT}"
                    )));
                }
            }
            let records = transaction.open_table(RECORDS)?;
            let mut keys = transaction.open_table(KEYS)?;
            // A file of before there was an index gets one: all its records are read once.
            if about.insert("keys", 1)?.is_none() {
                for code in Stream::INDEXED.map(code_of) {
                    for entry in records.range((code, 0)..=(code, u64::MAX))? {
                        let (place, record) = entry?;
                        keys.insert((code, record.value().0, place.value().1), ())?;
                    }
                }
            }
            transaction.open_table(POSITIONS)?;
            transaction.open_table(STATE)?;
            ends_of(&transaction.open_table(BOUNDS)?)
        })?;
        Ok((store, ends))
    }
}

/// Next offsets of all streams.
pub(super) fn ends_of(bounds: &impl ReadableTable<u8, (u64, u64)>) -> Result<Ends, redb::Error> {
    let mut ends = Ends::default();
    for stream in Stream::ALL {
        ends[index_of(stream)] = bounds.get(code_of(stream))?.map_or(0, |entry| entry.value().1);
    }
    Ok(ends)
}

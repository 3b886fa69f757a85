//! The database file: tables, opening, reopening after an input or output error, error words.
//!
//! Everything here blocks. Knows redb; does not know consumers or waiting.

use super::EmbeddedLogConfig;
use actors::ports::{LogError, Stream};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use std::io::ErrorKind;
use std::sync::{PoisonError, RwLock};

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
/// Facts of the file itself.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// Version of the tables above.
const FORMAT: u64 = 1;

/// Next offset of each stream, by [`index_of`].
pub(super) type Ends = [u64; Stream::ALL.len()];

/// Opens the database; called again after an input or output error.
pub(super) type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

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
    }
}

/// Position of a stream in [`Ends`].
pub(super) fn index_of(stream: Stream) -> usize {
    usize::from(code_of(stream))
}

/// What a database is opened with.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    cache_bytes: usize,
    verify_on_open: bool,
}

impl Settings {
    pub(super) fn of(config: &EmbeddedLogConfig) -> Self {
        Self { cache_bytes: config.cache_bytes, verify_on_open: config.verify_on_open }
    }

    pub(super) fn builder(self) -> redb::Builder {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        builder.set_check_integrity_on_open(self.verify_on_open);
        builder
    }
}

/// The open database. `None` after an input or output error: redb refuses further work then, and
/// the next call opens the file again.
pub(super) struct Store {
    place: String,
    open: Open,
    database: RwLock<Option<Database>>,
}

impl Store {
    /// Opens or creates the tables and reads the ends of all streams.
    pub(super) fn open(place: String, open: Open) -> Result<(Self, Ends), LogError> {
        let store = Self { place, open, database: RwLock::new(None) };
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
            transaction.open_table(RECORDS)?;
            transaction.open_table(POSITIONS)?;
            transaction.open_table(STATE)?;
            ends_of(&transaction.open_table(BOUNDS)?)
        })?;
        Ok((store, ends))
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Runs `work` in one read transaction; reopens once if an earlier error closed the database.
    pub(super) fn read<T>(
        &self,
        work: impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, LogError> {
        let attempt = || {
            self.with_database(|database| {
                let transaction = database.begin_read()?;
                work(&transaction)
            })
        };
        match attempt() {
            Ok(value) => Ok(value),
            Err(error) if is_closing(&error) => {
                self.close();
                attempt().map_err(|error| self.failed(error))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Runs `work` in one durable write transaction: all of it, or nothing.
    pub(super) fn write<T>(
        &self,
        work: impl Fn(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, LogError> {
        self.with_database(|database| {
            let transaction = database.begin_write()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .map_err(|error| self.failed(error))
    }

    /// Drops the database; the next call opens it again.
    pub(super) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn with_database<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return work(database);
        }
        drop(database);
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = match &mut *database {
            Some(database) => database,
            closed => closed.insert((self.open)()?),
        };
        work(database)
    }

    fn failed(&self, error: redb::Error) -> LogError {
        if is_closing(&error) {
            self.close();
        }
        let text = format!("{}: {error}", self.place);
        match error {
            redb::Error::Io(error) => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    LogError::Full(format!("{text}; free space on its disk"))
                }
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => LogError::Damaged(text),
                _ => LogError::Unavailable(text),
            },
            redb::Error::DatabaseAlreadyOpen => LogError::InUse(format!(
                "`{}` is open in another process; stop that one or use another file",
                self.place
            )),
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TypeDefinitionChanged { .. } => LogError::Damaged(text),
            redb::Error::ValueTooLarge(_) => LogError::Refused(text),
            _ => LogError::Unavailable(text),
        }
    }
}

/// After these redb does nothing more until it is opened again.
fn is_closing(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Io(_)
            | redb::Error::PreviousIo
            | redb::Error::LockPoisoned(_)
            | redb::Error::DatabaseClosed
    )
}

/// The same error for each caller of a shared write.
pub(super) fn repeated(error: &LogError) -> LogError {
    match error {
        LogError::Full(text) => LogError::Full(text.clone()),
        LogError::Unavailable(text) => LogError::Unavailable(text.clone()),
        LogError::Damaged(text) => LogError::Damaged(text.clone()),
        LogError::InUse(text) => LogError::InUse(text.clone()),
        LogError::Refused(text) => LogError::Refused(text.clone()),
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

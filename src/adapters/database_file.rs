//! One redb file that survives its own errors: opened again after an input or output error, since
//! redb refuses further work then, with errors in the words of the log.
//!
//! Everything here blocks. Knows no table.

use actors::ports::LogError;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};
use std::io::ErrorKind;
use std::sync::{PoisonError, RwLock};

/// Opens the database; called again after an input or output error.
pub(in crate::adapters) type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// What a database is opened with.
#[derive(Clone, Copy)]
pub(in crate::adapters) struct Settings {
    cache_bytes: usize,
    verify_on_open: bool,
}

impl Settings {
    pub(in crate::adapters) fn new(cache_bytes: usize, verify_on_open: bool) -> Self {
        Self { cache_bytes, verify_on_open }
    }

    pub(in crate::adapters) fn builder(self) -> redb::Builder {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        builder.set_check_integrity_on_open(self.verify_on_open);
        builder
    }
}

/// The open database. `None` after an input or output error: redb refuses further work then, and
/// the next call opens the file again.
pub(in crate::adapters) struct DatabaseFile {
    place: String,
    open: Open,
    database: RwLock<Option<Database>>,
}

impl DatabaseFile {
    /// Opens the file on the first use.
    pub(in crate::adapters) fn new(place: String, open: Open) -> Self {
        Self { place, open, database: RwLock::new(None) }
    }

    pub(in crate::adapters) fn place(&self) -> &str {
        &self.place
    }

    /// Runs `work` in one read transaction; reopens once if an earlier error closed the database.
    pub(in crate::adapters) fn read<T>(
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
    pub(in crate::adapters) fn write<T>(
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
    pub(in crate::adapters) fn close(&self) {
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
pub(in crate::adapters) fn repeated(error: &LogError) -> LogError {
    match error {
        LogError::Full(text) => LogError::Full(text.clone()),
        LogError::Unavailable(text) => LogError::Unavailable(text.clone()),
        LogError::Damaged(text) => LogError::Damaged(text.clone()),
        LogError::InUse(text) => LogError::InUse(text.clone()),
        LogError::Refused(text) => LogError::Refused(text.clone()),
        LogError::Fenced(text) => LogError::Fenced(text.clone()),
    }
}

//! What an index is known to hold: a table of passages in a small database file beside it.
//!
//! Every write is durable when it returns. One file may serve several indexes, each under its own
//! name. Knows no index.

use actors::types::DocumentId;
use redb::{Database, ReadableDatabase as _, TableDefinition};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `(index, passage)` → `(digest, whether it stands there whole, chunks)`.
type Row<'a> = (&'a [u8], u8, u32);
const PASSAGES: TableDefinition<'_, (&str, &str), Row<'_>> = TableDefinition::new("passages");

/// The manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {action} the manifest `{path}`: {reason}; where it is damaged, remove it and index \
     everything again"
)]
pub struct ManifestError {
    action: &'static str,
    path: PathBuf,
    reason: String,
}

/// What the index holds of one passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// SHA-256 of passage and cutting; `None` while it is on its way.
    pub digest: Option<[u8; 32]>,
    /// Whether it may stand there under its own id.
    pub is_whole: bool,
    /// How many chunks `id#0`, `id#1`, … may stand there.
    pub chunks: u32,
}

impl Entry {
    /// A passage in so many chunks, or whole.
    pub fn of(digest: [u8; 32], chunks: Option<usize>) -> Self {
        Self {
            digest: Some(digest),
            is_whole: chunks.is_none(),
            chunks: u32::try_from(chunks.unwrap_or(0)).unwrap_or(u32::MAX),
        }
    }

    /// On the way from this entry to another: the pieces of either may be there.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            digest: None,
            is_whole: self.is_whole || other.is_whole,
            chunks: self.chunks.max(other.chunks),
        }
    }

    /// The ids in the index.
    pub fn pieces(&self, id: &str) -> impl Iterator<Item = DocumentId> {
        let whole = self.is_whole.then(|| DocumentId(id.to_owned()));
        let id = id.to_owned();
        whole.into_iter().chain((0..self.chunks).map(move |n| DocumentId(format!("{id}#{n}"))))
    }
}

/// The manifest of one index.
#[derive(Clone)]
pub struct Manifest {
    database: Arc<Database>,
    path: PathBuf,
    index: String,
}

impl Manifest {
    /// Opens or creates the file; `index` names the index within it.
    ///
    /// # Errors
    /// The file is damaged, held by another process, or cannot be written.
    pub async fn open(path: &Path, index: &str) -> Result<Self, ManifestError> {
        let (path, index) = (path.to_owned(), index.to_owned());
        let failed = {
            let path = path.clone();
            move |error: redb::Error| ManifestError {
                action: "open",
                path,
                reason: match error {
                    redb::Error::DatabaseAlreadyOpen => "another process has it open".to_owned(),
                    error => error.to_string(),
                },
            }
        };
        let place = path.clone();
        let open = move || {
            let database = Database::create(&place)?;
            let transaction = database.begin_write()?;
            transaction.open_table(PASSAGES)?;
            transaction.commit()?;
            Ok::<_, redb::Error>(database)
        };
        let database = match tokio::task::spawn_blocking(open).await {
            Ok(database) => database.map_err(failed)?,
            Err(error) => {
                return Err(ManifestError { action: "open", path, reason: error.to_string() });
            }
        };
        Ok(Self { database: Arc::new(database), path, index })
    }

    /// Everything that is known of the index.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn entries(&self) -> Result<HashMap<String, Entry>, ManifestError> {
        self.run("read", |database, index| {
            let table = database.begin_read()?.open_table(PASSAGES)?;
            let mut entries = HashMap::new();
            for row in table.range((index, "")..)? {
                let (key, row) = row?;
                let (of, id) = key.value();
                if of != index {
                    break;
                }
                let (digest, whole, chunks) = row.value();
                let entry = Entry { digest: digest.try_into().ok(), is_whole: whole == 1, chunks };
                entries.insert(id.to_owned(), entry);
            }
            Ok(entries)
        })
        .await
    }

    /// Enters or replaces entries, all or none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn mark(&self, entries: Vec<(String, Entry)>) -> Result<(), ManifestError> {
        self.run("write", move |database, index| {
            let transaction = database.begin_write()?;
            let mut table = transaction.open_table(PASSAGES)?;
            for (id, entry) in &entries {
                let digest = entry.digest.as_ref().map_or(&[][..], |digest| &digest[..]);
                table.insert(
                    (index, id.as_str()),
                    (digest, u8::from(entry.is_whole), entry.chunks),
                )?;
            }
            drop(table);
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Drops entries, all or none; unknown ones are ignored.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn forget(&self, ids: Vec<String>) -> Result<(), ManifestError> {
        self.run("write", move |database, index| {
            let transaction = database.begin_write()?;
            let mut table = transaction.open_table(PASSAGES)?;
            for id in &ids {
                table.remove((index, id.as_str()))?;
            }
            drop(table);
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Database, &str) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, ManifestError> {
        let failed = |reason: String| ManifestError { action, path: self.path.clone(), reason };
        let (database, index) = (Arc::clone(&self.database), self.index.clone());
        match tokio::task::spawn_blocking(move || work(&database, &index)).await {
            Ok(result) => result.map_err(|error| failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

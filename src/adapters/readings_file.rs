//! Values of a reader in one redb file, under names of 32 bytes.
//!
//! For work on question files, where the same pairs are read by many runs. One process at a time;
//! what a killed process had put is there. Grows with what is read: about 1.6 KB a pair at width 384.

use super::database_file::{DatabaseFile, Settings};
use actors::ports::LogError;
use redb::TableDefinition;
use std::path::Path;

const READINGS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("readings");
/// Page cache of the file.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The file.
pub struct ReadingsFile(DatabaseFile);

impl std::fmt::Debug for ReadingsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ReadingsFile").field(&self.0.place()).finish()
    }
}

impl ReadingsFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It cannot be made, is no such file, or is open in another process.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let (place, path) = (path.display().to_string(), path.to_owned());
        let settings = Settings::new(CACHE_BYTES, false);
        let open = Box::new(move || settings.builder().create(&path));
        let file = DatabaseFile::new(place, open);
        // Also makes the table, so that a read never meets a file without it.
        file.write(|transaction| {
            transaction.open_table(READINGS)?;
            Ok(())
        })?;
        Ok(Self(file))
    }
}

impl ReadingsFile {
    /// The value of each name, in order; `None` where there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, names: &[[u8; 32]]) -> Result<Vec<Option<Vec<u8>>>, LogError> {
        self.0.read(|transaction| {
            let table = transaction.open_table(READINGS)?;
            names.iter().map(|name| Ok(table.get(name)?.map(|v| v.value().to_vec()))).collect()
        })
    }

    /// Keeps all values or none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, entries: &[([u8; 32], Vec<u8>)]) -> Result<(), LogError> {
        self.0.write(|transaction| {
            let mut table = transaction.open_table(READINGS)?;
            for (name, value) in entries {
                table.insert(name, value.as_slice())?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_was_put_is_there_after_the_file_was_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readings.redb");
        let file = ReadingsFile::open(&path).unwrap();
        file.put(&[([1; 32], b"one".to_vec()), ([2; 32], Vec::new())]).unwrap();
        drop(file);
        let file = ReadingsFile::open(&path).unwrap();
        let found = file.get(&[[2; 32], [3; 32], [1; 32]]).unwrap();
        assert_eq!(found, [Some(Vec::new()), None, Some(b"one".to_vec())]);
        let second = ReadingsFile::open(&path).unwrap_err().to_string();
        assert!(second.contains("open in another process"), "{second}");
        std::fs::write(folder.path().join("other"), b"no database at all").unwrap();
        assert!(ReadingsFile::open(&folder.path().join("other")).is_err());
    }
}

//! The file of an account: held by one process, replaced whole.
//!
//! Knows no account.

use super::BudgetError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Locks the file's neighbour (the file itself is replaced at each write) and reads the file.
pub(super) fn take(path: &Path) -> Result<(File, Option<Vec<u8>>), BudgetError> {
    let shown = || path.display().to_string();
    let unusable = |source| BudgetError::Unusable { path: shown(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(unusable)?;
    }
    let lock = File::create(path.with_extension("lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(BudgetError::InUse { path: shown() }),
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    match std::fs::read(path) {
        Ok(bytes) => Ok((lock, Some(bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((lock, None)),
        Err(error) => Err(unusable(error)),
    }
}

/// Replaces the file whole or not at all, and durably.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

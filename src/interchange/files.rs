//! Files of the round trip: JSON lines read with their places, folders that are whole or absent.
//!
//! Knows bytes and JSON; does not know what the lines mean.

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Longest line accepted, bytes: a bound on memory for a file that is not JSON lines at all.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Why a file was refused; nothing of it is used then.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what belongs there.
    #[error("{path}:{line}: expected {expected}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What belongs there.
        expected: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file has no line.
    #[error("`{path}` is empty; expected one JSON object a line, each {expected}")]
    Empty {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// The place is taken.
    #[error("`{0}` exists; give another --out, or remove it")]
    Exists(PathBuf),
}

impl FileError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Reads one value a line, blank lines left out; `take` gets the line's number, from 1, and says
/// what is wrong with a value that parses.
///
/// # Errors
/// The first line that is no such value, with its place; a file without any.
pub(super) fn read_lines<T: DeserializeOwned>(
    path: &Path,
    expected: &'static str,
    mut take: impl FnMut(u64, T) -> Result<(), String>,
) -> Result<(), FileError> {
    let failed = FileError::io("read", path);
    let mut source = BufReader::new(File::open(path).map_err(&failed)?);
    let (mut line, mut values, mut buffer) = (0, 0_u64, Vec::new());
    loop {
        buffer.clear();
        line += 1;
        let wrong =
            |reason: String| FileError::Line { path: path.to_owned(), line, expected, reason };
        let read = source
            .by_ref()
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut buffer)
            .map_err(&failed)?;
        if read == 0 {
            break;
        }
        if buffer.len() as u64 > LINE_BYTES_MAX {
            return Err(wrong(format!("the line is longer than {LINE_BYTES_MAX} bytes")));
        }
        if buffer.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let value = serde_json::from_slice(&buffer).map_err(|error| wrong(cause(&error)))?;
        take(line, value).map_err(wrong)?;
        values += 1;
    }
    if values == 0 {
        return Err(FileError::Empty { path: path.to_owned(), expected });
    }
    Ok(())
}

/// The parser's words with its column, without its own line number, which is always 1 here.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let words = text.split(" at line ").next().unwrap_or(&text);
    if error.column() == 0 {
        words.to_owned()
    } else {
        format!("{words} at column {}", error.column())
    }
}

/// Writes one value a line beside the place and renames; returns the SHA-256 of the bytes.
pub(super) fn write_lines<T: serde::Serialize>(
    path: &Path,
    values: impl IntoIterator<Item = T>,
) -> Result<String, FileError> {
    let beside = sibling(path);
    let failed = FileError::io("write", &beside);
    let mut hash = Sha256::new();
    let mut file = BufWriter::new(File::create(&beside).map_err(&failed)?);
    for value in values {
        let mut line = serde_json::to_vec(&value).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        hash.update(&line);
        file.write_all(&line).map_err(&failed)?;
    }
    let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(&failed)?;
    std::fs::rename(&beside, path).map_err(FileError::io("rename to", path))?;
    Ok(hex(&hash.finalize()))
}

/// Writes one JSON document beside the place and renames.
pub(super) fn write_document(path: &Path, value: &impl serde::Serialize) -> Result<(), FileError> {
    let beside = sibling(path);
    let failed = FileError::io("write", &beside);
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| failed(e.into()))?;
    text.push(b'\n');
    std::fs::write(&beside, text).map_err(&failed)?;
    std::fs::rename(&beside, path).map_err(FileError::io("rename to", path))
}

fn sibling(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A folder under a temporary name until [`Self::keep`]; without it nothing is left behind.
pub(super) struct NewFolder {
    place: PathBuf,
    beside: PathBuf,
    is_kept: bool,
}

impl NewFolder {
    /// Starts one for a place that is free.
    pub(super) fn begin(place: &Path) -> Result<Self, FileError> {
        if place.exists() {
            return Err(FileError::Exists(place.to_owned()));
        }
        let beside = sibling(place);
        if beside.exists() {
            // Left by a run that was killed: nobody else writes under this name.
            std::fs::remove_dir_all(&beside).map_err(FileError::io("clear", &beside))?;
        }
        std::fs::create_dir_all(&beside).map_err(FileError::io("make", &beside))?;
        Ok(Self { place: place.to_owned(), beside, is_kept: false })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.beside
    }

    /// Gives the folder its name.
    pub(super) fn keep(mut self) -> Result<(), FileError> {
        std::fs::rename(&self.beside, &self.place)
            .map_err(FileError::io("rename to", &self.place))?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.is_kept {
            // The reason for leaving is what the caller reports.
            let _ = std::fs::remove_dir_all(&self.beside);
        }
    }
}

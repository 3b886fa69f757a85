//! What can be wrong with a file of questions or passages, always with the place.

use std::fmt;
use std::sync::Arc;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as named by the caller.
    pub path: Arc<str>,
    /// The line, from 1.
    pub line: u64,
}

impl Place {
    pub(super) fn new(path: &str, line: u64) -> Self {
        Self { path: path.into(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}

/// Why a file was refused. Nothing of it is loaded then.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file cannot be opened or read, or its gzip data is broken.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bytes of a line are not UTF-8.
    #[error("{place}: byte {byte} of the line is not UTF-8; convert the file to UTF-8")]
    Encoding {
        /// Where.
        place: Place,
        /// First bad byte of the line, from 1.
        byte: usize,
    },
    /// A line is longer than the bound.
    #[error("{place}: the line is longer than {limit} bytes; expected one JSON object a line")]
    TooLong {
        /// Where.
        place: Place,
        /// The bound.
        limit: usize,
    },
    /// A line is no JSON object, or a JSON file is broken.
    #[error("{place}: expected {expected}: {reason}")]
    Json {
        /// Where.
        place: Place,
        /// What belongs there.
        expected: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// A field is missing or of the wrong kind.
    #[error("{place}: field `{field}`: expected {expected}, found {found}")]
    Field {
        /// Where.
        place: Place,
        /// The field.
        field: String,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Two lines have one id.
    #[error("{what} id `{id}` stands twice: {first} and {second}; remove one of them")]
    Duplicate {
        /// `question` or `passage`.
        what: &'static str,
        /// The id.
        id: String,
        /// Where it came first.
        first: Place,
        /// Where it came again.
        second: Place,
    },
    /// No line at all.
    #[error("no {what} found in {paths}; expected one JSON object a line")]
    Empty {
        /// `question` or `passage`.
        what: &'static str,
        /// The files.
        paths: String,
    },
}

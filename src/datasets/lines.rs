//! A file as numbered JSON objects, one a line, gzip or plain.
//!
//! Knows bytes, UTF-8 and JSON; does not know which fields belong there.

use super::error::{DatasetError, Place};
use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read};

/// Longest line accepted, bytes: a bound on memory for a file that is not JSON lines at all.
const LINE_BYTES_MAX: usize = 16 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Unpacks gzip (all members) where the first bytes say so.
pub(super) fn unpacked<'a>(
    name: &str,
    source: impl Read + 'a,
) -> Result<Box<dyn BufRead + 'a>, DatasetError> {
    let mut source = BufReader::with_capacity(1 << 16, source);
    let head = source.fill_buf().map_err(|source| read_error(name, source))?;
    if head.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(source))));
    }
    Ok(Box::new(source))
}

pub(super) fn read_error(name: &str, source: std::io::Error) -> DatasetError {
    DatasetError::Read { path: name.to_owned(), source }
}

/// One line: where it stands and its fields.
pub(super) type Line = (Place, Map<String, Value>);

/// The lines of one source.
pub(super) struct Lines<'a> {
    place: Place,
    source: Box<dyn BufRead + 'a>,
    buffer: Vec<u8>,
}

impl<'a> Lines<'a> {
    /// Starts before the first line.
    pub(super) fn new(name: &str, source: impl Read + 'a) -> Result<Self, DatasetError> {
        let source = unpacked(name, source)?;
        Ok(Self { place: Place::new(name, 0), source, buffer: Vec::new() })
    }

    /// The next line that is not blank, as an object; `None` at the end.
    pub(super) fn next_object(&mut self) -> Result<Option<Line>, DatasetError> {
        while self.next_line()? {
            let text = std::str::from_utf8(&self.buffer).map_err(|e| DatasetError::Encoding {
                place: self.place.clone(),
                byte: e.valid_up_to() + 1,
            })?;
            if text.trim().is_empty() {
                continue;
            }
            return match serde_json::from_str::<Value>(text) {
                Ok(Value::Object(object)) => Ok(Some((self.place.clone(), object))),
                Ok(other) => Err(self.not_an_object(format!("found {}", kind_of(&other)))),
                Err(error) => Err(self.not_an_object(format!(
                    "{} at column {}",
                    cause(&error),
                    error.column()
                ))),
            };
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<bool, DatasetError> {
        self.buffer.clear();
        self.place.line += 1;
        // One byte above the bound tells a line of exactly the bound from a longer one.
        let mut bounded = self.source.by_ref().take(LINE_BYTES_MAX as u64 + 1);
        let read = bounded
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| read_error(&self.place.path, source))?;
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(DatasetError::TooLong { place: self.place.clone(), limit: LINE_BYTES_MAX });
        }
        if self.place.line == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(read > 0)
    }

    fn not_an_object(&self, reason: String) -> DatasetError {
        DatasetError::Json { place: self.place.clone(), expected: "a JSON object", reason }
    }
}

/// What a JSON value is, in words.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The parser's words without its own line number, which is always 1 here.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

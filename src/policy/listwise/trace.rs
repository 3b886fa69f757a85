//! A published list-wise run, replayed: prompts and replies of a language model as rank_llm keeps
//! them.
//!
//! The file is a series of JSON objects `{prompt, response}` with commas between them, gzip or not;
//! the windows of one query follow each other in the order they were ranked. A replayed window is
//! checked against the prompt it was recorded with: a loop that makes other windows is told, so a
//! replay without failures proves that windows and repair are those of the run.

use super::{WindowError, WindowRanker, permutation_of};
use actors::types::Document;
use async_trait::async_trait;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Letters of a passage that are compared, without spaces and signs.
const COMPARED: usize = 40;
/// First bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Largest trace, bytes unpacked.
const BYTES_MAX: u64 = 1 << 30;

/// Why a trace cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read the trace {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no trace.
    #[error("{path}: entry {entry} is not `{{prompt, response}}` of a list-wise window: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Entry, from 1.
        entry: usize,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Entry {
    prompt: String,
    response: String,
}

/// One recorded window.
#[derive(Debug)]
struct Recorded {
    /// The start of each passage: letters and digits in lower case.
    passages: Vec<String>,
    reply: String,
}

/// A run as a [`WindowRanker`]. Each window is given once, in the order of the run.
#[derive(Debug)]
pub struct Trace {
    windows: Mutex<HashMap<String, VecDeque<Recorded>>>,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or the first entry that is none.
    pub fn load(path: &Path) -> Result<Self, TraceError> {
        let unreadable = |source| TraceError::Unreadable { path: path.to_path_buf(), source };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let mut text = String::new();
        let read = if bytes.starts_with(&GZIP) {
            MultiGzDecoder::new(&bytes[..]).take(BYTES_MAX).read_to_string(&mut text)
        } else {
            (&bytes[..]).take(BYTES_MAX).read_to_string(&mut text)
        };
        read.map_err(unreadable)?;
        Self::parse(&text).map_err(|(entry, reason)| TraceError::Malformed {
            path: path.to_path_buf(),
            entry,
            reason,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']');
        let mut windows: HashMap<String, VecDeque<Recorded>> = HashMap::new();
        let mut rest = text.trim_start_matches(is_between);
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Entry>();
            let entry = match stream.next() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => return Err((number, error.to_string())),
                None => break,
            };
            rest = rest[stream.byte_offset()..].trim_start_matches(is_between);
            let (query, passages) =
                read_prompt(&entry.prompt).map_err(|reason| (number, reason.to_owned()))?;
            let recorded = Recorded { passages, reply: entry.response };
            windows.entry(query).or_default().push_back(recorded);
        }
        if windows.is_empty() {
            return Err((1, "there is none".to_owned()));
        }
        Ok(Self { windows: Mutex::new(windows) })
    }

    /// Windows that were not asked for yet.
    pub fn left(&self) -> usize {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.values().map(VecDeque::len).sum()
    }
}

/// The query of a prompt and the starts of its passages.
fn read_prompt(prompt: &str) -> Result<(String, Vec<String>), &'static str> {
    let no_query = "the prompt has no `Search Query: …` after its passages";
    let (body, tail) = prompt.rsplit_once("\nSearch Query: ").ok_or(no_query)?;
    let (query, _) = tail.split_once(".\nRank the ").ok_or(no_query)?;
    let mut passages = Vec::new();
    let mut rest = body;
    // Passages are numbered from 1, each at the start of a line; a number within a passage is not
    // the one that comes next.
    while let Some(at) = rest.find(&format!("\n[{}] ", passages.len() + 1)) {
        rest = &rest[at + 1..];
        let text = rest.split_once("] ").map_or("", |(_, text)| text);
        passages.push(start_of(text));
    }
    if passages.is_empty() {
        Err("the prompt has no passage `[1] …`")
    } else {
        Ok((query.to_owned(), passages))
    }
}

/// The first letters and digits of a text, in lower case: what survives a repair of its encoding.
fn start_of(text: &str) -> String {
    let kept = text.chars().filter(char::is_ascii_alphanumeric).take(COMPARED);
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether two starts of texts are those of one text, up to some letters that a repair of its
/// encoding brought in (`ﬁ` that becomes `fi`): three quarters of the shorter one's trigrams are in
/// the other. What is shorter than a trigram must begin the other.
fn is_alike(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let trigrams: Vec<&[u8]> = short.as_bytes().windows(3).collect();
    if trigrams.is_empty() {
        return long.starts_with(short);
    }
    let known: HashSet<&[u8]> = long.as_bytes().windows(3).collect();
    let shared = trigrams.iter().filter(|trigram| known.contains(*trigram)).count();
    4 * shared >= 3 * trigrams.len()
}

#[async_trait]
impl WindowRanker for Trace {
    async fn rank(&self, query: &str, window: &[&Document]) -> Result<Vec<usize>, WindowError> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = windows.get_mut(query).and_then(VecDeque::pop_front);
        let recorded = recorded.ok_or_else(|| {
            WindowError::Refused("the trace has no further window of this query".to_owned())
        })?;
        let is_same = |(document, recorded): (&&Document, &String)| {
            is_alike(&start_of(&document.text), recorded)
        };
        let other = window.iter().zip(&recorded.passages).position(|pair| !is_same(pair));
        if recorded.passages.len() != window.len() || other.is_some() {
            return Err(WindowError::Refused(format!(
                "the trace was recorded with {} other documents than these {}, from place {}",
                recorded.passages.len(),
                window.len(),
                other.unwrap_or(window.len().min(recorded.passages.len()))
            )));
        }
        let said = permutation_of(&recorded.reply);
        if said.is_empty() { Err(WindowError::NoPermutation) } else { Ok(said) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_alike_up_to_a_repair_of_their_encoding() {
        let alike = |a: &str, b: &str| is_alike(&start_of(a), &start_of(b));
        assert!(alike(
            "Principles of artiﬁcial ventilation",
            "Principles of artificial ventilation"
        ));
        assert!(alike("Don't you know", "dont you know"));
        assert!(!alike("Principles of artificial ventilation", "The river ends in the sea"));
        assert!(alike("ab", "Abc def"));
        assert!(!alike("ab", "xab"));
        assert!(alike("", "anything"), "a text without letters tells nothing");
    }
}

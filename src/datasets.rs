//! Questions and passages from files: what `--questions` and `--passages` name.
//!
//! Owns the file formats, their errors and the stable splits by id. Does not know the index, the
//! policy or any metric. A file loads whole or not at all.
//!
//! - JSON lines, questions: `question` (or `query`, `text`), `answers` (or `answer`; a list or one
//!   string), `id` (or `_id`), and more. Without an id the question gets one from its own text
//!   ([`derived_id`]); the same text again is then the same question and is skipped.
//! - JSON lines, passages: `pid` (or `id`, `_id`), `title`, `text`.
//! - SQuAD JSON (`.json`): every question with its paragraph as the positive; every paragraph.
//! - A folder in the layout of BEIR: `corpus.jsonl` for passages, `queries.jsonl` for questions.
//! - TREC runs and judgements ([`load_run`], [`load_qrels`]).
//!
//! gzip is recognised by its first bytes, whatever the file is called.

mod error;
mod fields;
mod labels;
mod lines;
mod realtimeqa;
mod select;
mod split;
mod squad;
mod trec;

pub use error::{DatasetError, Place};
pub use labels::VERDICTS;
pub use realtimeqa::{Dated, load_realtimeqa};
pub use select::{Half, Selection, Split, select};
pub use split::{bucket, reader_half};
pub use trec::{Qrels, Run, load_qrels, load_run};

use crate::rewards::{ANSWER_TYPE, LABEL, LABELS, LONG, UNANSWERABLE};
use crate::text;
use actors::types::{Document, DocumentId, Query, QueryId};
use fields::Fields;
use lines::Lines;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// One question of a dataset with what is known of its answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Question {
    /// Unique over all loaded files; [`derived_id`] where the file gives none.
    pub id: String,
    /// The set it comes from (`dataset`, or `domain` in the bundled set); may be empty.
    pub dataset: String,
    /// The passage pool its ids refer to; may be empty.
    pub group: String,
    /// The text; never empty.
    pub question: String,
    /// Gold answers, any of which is right.
    pub answers: Vec<String>,
    /// `short`, `long` or `label`; `short` where the file says nothing.
    pub answer_type: String,
    /// Passage ids in retrieval order, perhaps only a few.
    pub candidates: Vec<DocumentId>,
    /// Passages known to hold the answer.
    pub positives: Vec<DocumentId>,
    /// Questions with the same cluster ask for the same fact; a split keeps them together.
    pub cluster: Option<String>,
    /// `single`, `two_passage`, `unanswerable`, …; free.
    pub kind: Option<String>,
    /// Everything else the file says.
    pub meta: Map<String, Value>,
}

impl Question {
    /// Whether it is known to have no answer, which is not the same as no answer being known.
    pub fn is_unanswerable(&self) -> bool {
        self.answers.is_empty() && self.kind.as_deref() == Some("unanswerable")
    }

    /// What a split should be made by: the cluster, or the id where there is none.
    pub fn split_key(&self) -> &str {
        self.cluster.as_deref().unwrap_or(&self.id)
    }

    /// The query an application would send, with the gold answers as references, and in its
    /// metadata what kind of answer is wanted. Candidates are left to the index.
    pub fn to_query(&self) -> Query {
        let mut metadata = BTreeMap::new();
        if !self.dataset.is_empty() {
            metadata.insert("dataset".to_owned(), self.dataset.clone());
        }
        if [LONG, LABEL].contains(&self.answer_type.as_str()) {
            metadata.insert(ANSWER_TYPE.to_owned(), self.answer_type.clone());
        }
        if let Some(labels) = labels::of(self) {
            metadata.insert(LABELS.to_owned(), labels);
        }
        if self.is_unanswerable() {
            metadata.insert(UNANSWERABLE.to_owned(), "true".to_owned());
        }
        Query {
            id: QueryId(self.id.clone()),
            text: self.question.clone(),
            references: self.answers.clone(),
            metadata,
            ..Query::default()
        }
    }
}

/// The id of a question that has none: `q-` and the first 16 hexadecimal digits of the SHA-256 of
/// its text, normalised as the metrics do ([`text::normalise`]); of the text as it stands where
/// nothing is left of it.
pub fn derived_id(question: &str) -> String {
    let normalised = text::normalise(question);
    let named = if normalised.is_empty() { question } else { &normalised };
    let digest = Sha256::digest(named.as_bytes());
    let head = digest.iter().take(8).fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    format!("q-{head:016x}")
}

/// Loads every question of some files, in order; at least one, and no given id twice.
pub fn load_questions<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Question>, DatasetError> {
    let mut set = Unique::new("question");
    for path in paths {
        let path = file_in(path.as_ref(), "queries.jsonl");
        read_questions_into(&name_of(&path), open(&path)?, &mut set)?;
    }
    set.finish(paths).map(labels::known)
}

/// Loads every passage of some files, in order; at least one, and no id twice.
pub fn load_passages<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Document>, DatasetError> {
    let mut set = Unique::new("passage");
    for path in paths {
        let path = file_in(path.as_ref(), "corpus.jsonl");
        read_passages_into(&name_of(&path), open(&path)?, &mut set)?;
    }
    set.finish(paths)
}

/// Loads every line of a file as a `T`: at least one, and no id twice. `of` says what a line is, in
/// errors (`probe`) and in full; `name` checks an item and gives its id, or says what is wrong.
///
/// # Errors
/// A file that cannot be read or has no line, a line that is no `T` or is refused by `name`.
pub fn load_lines<T: serde::de::DeserializeOwned>(
    path: &Path,
    (what, expected): (&'static str, &'static str),
    name: impl Fn(&mut T) -> Result<String, String>,
) -> Result<Vec<T>, DatasetError> {
    let mut set = Unique::new(what);
    let mut lines = Lines::new(&name_of(&path), open(&path)?)?;
    while let Some((place, object)) = lines.next_object()? {
        let wrong = |reason: String| DatasetError::Json { place: place.clone(), expected, reason };
        let mut item: T =
            serde_json::from_value(Value::Object(object)).map_err(|e| wrong(e.to_string()))?;
        let id = name(&mut item).map_err(wrong)?;
        set.push(id, place, item)?;
    }
    set.finish(&[path])
}

/// Reads questions from bytes at hand (a bundled file); `name` stands in errors for the path.
pub fn read_questions(name: &str, bytes: &[u8]) -> Result<Vec<Question>, DatasetError> {
    let mut set = Unique::new("question");
    read_questions_into(name, bytes, &mut set)?;
    set.finish(&[name]).map(labels::known)
}

/// Reads passages from bytes at hand (a bundled file); `name` stands in errors for the path.
pub fn read_passages(name: &str, bytes: &[u8]) -> Result<Vec<Document>, DatasetError> {
    let mut set = Unique::new("passage");
    read_passages_into(name, bytes, &mut set)?;
    set.finish(&[name])
}

fn read_questions_into(
    name: &str,
    source: impl Read,
    set: &mut Unique<Question>,
) -> Result<(), DatasetError> {
    if squad::is_named_so(name) {
        for (line, question) in squad::questions(name, source)? {
            set.push(question.id.clone(), Place::new(name, line), question)?;
        }
        return Ok(());
    }
    let mut lines = Lines::new(name, source)?;
    while let Some((place, object)) = lines.next_object()? {
        let (question, is_named) = question_of(Fields::new(&place, object))?;
        if is_named {
            set.push(question.id.clone(), place, question)?;
        } else {
            set.push_unnamed(question.id.clone(), place, question)?;
        }
    }
    Ok(())
}

fn read_passages_into(
    name: &str,
    source: impl Read,
    set: &mut Unique<Document>,
) -> Result<(), DatasetError> {
    if squad::is_named_so(name) {
        for (line, document) in squad::passages(name, source)? {
            set.push(document.id.0.clone(), Place::new(name, line), document)?;
        }
        return Ok(());
    }
    let mut lines = Lines::new(name, source)?;
    while let Some((place, object)) = lines.next_object()? {
        let document = document_of(Fields::new(&place, object))?;
        set.push(document.id.0.clone(), place, document)?;
    }
    Ok(())
}

/// The question of a line, and whether the line itself names it.
fn question_of(mut fields: Fields<'_>) -> Result<(Question, bool), DatasetError> {
    let given = fields.given_text(&["id", "_id"])?;
    let (is_named, asked) = (given.is_some(), fields.text(&["question", "query", "text"])?);
    let mut question = Question {
        id: given.unwrap_or_else(|| derived_id(&asked)),
        question: asked,
        dataset: fields.optional_text(&["dataset", "domain"])?.unwrap_or_default(),
        group: fields.optional_text(&["group"])?.unwrap_or_default(),
        answers: fields.texts(&["answers", "answer"])?,
        answer_type: fields.optional_text(&["answer_type"])?.unwrap_or_else(|| "short".to_owned()),
        candidates: ids(fields.texts(&["candidates"])?),
        positives: ids(fields.texts(&["positives"])?),
        cluster: fields.optional_text(&["cluster"])?,
        kind: fields.optional_text(&["kind"])?,
        meta: fields.optional_object("meta")?,
    };
    for (name, value) in fields.rest() {
        question.meta.entry(name).or_insert(value);
    }
    Ok((question, is_named))
}

fn document_of(mut fields: Fields<'_>) -> Result<Document, DatasetError> {
    let id = DocumentId(fields.text(&["pid", "id", "_id"])?);
    let title = fields.optional_text(&["title"])?.unwrap_or_default();
    // Some public corpora hold passages that are a title only; an empty one is a mistake.
    let text = match fields.optional_text(&["text"])? {
        Some(text) if !(text.trim().is_empty() && title.trim().is_empty()) => text,
        Some(_) => return Err(fields.wrong("text", "a non-empty string", "an empty one")),
        None => return Err(fields.wrong("text", "a non-empty string", "nothing")),
    };
    let metadata = metadata_of(&mut fields)?;
    Ok(Document { id, title, text, metadata })
}

/// Pairs to filter by; a number or a truth value means the same as its text.
fn metadata_of(fields: &mut Fields<'_>) -> Result<BTreeMap<String, String>, DatasetError> {
    let mut metadata = BTreeMap::new();
    for (key, value) in fields.optional_object("metadata")? {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            // What is not there, or is a list or an object, cannot be filtered by: BEIR's are such.
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        metadata.insert(key, text);
    }
    Ok(metadata)
}

fn ids(texts: Vec<String>) -> Vec<DocumentId> {
    texts.into_iter().map(DocumentId).collect()
}

fn name_of(path: &impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// The file itself; of a folder the file of this name in it, or its gzip.
fn file_in(path: &Path, name: &str) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let packed = path.join(format!("{name}.gz"));
    if packed.is_file() { packed } else { path.join(name) }
}

fn open(path: &impl AsRef<Path>) -> Result<std::fs::File, DatasetError> {
    std::fs::File::open(path).map_err(|source| DatasetError::Read { path: name_of(path), source })
}

/// Items in order, each id once.
struct Unique<T> {
    what: &'static str,
    items: Vec<T>,
    /// Where each id stands, and whether the file gave it (or it was derived).
    places: HashMap<String, (Place, bool)>,
    /// Items without an id of their own that were there already.
    skipped: u64,
}

impl<T> Unique<T> {
    fn new(what: &'static str) -> Self {
        Self { what, items: Vec::new(), places: HashMap::new(), skipped: 0 }
    }

    /// Takes an item under the id that its file gives.
    fn push(&mut self, id: String, place: Place, item: T) -> Result<(), DatasetError> {
        self.insert(id, (place, true), item)
    }

    /// Takes an item under an id made of its content; one that is there already is skipped.
    fn push_unnamed(&mut self, id: String, place: Place, item: T) -> Result<(), DatasetError> {
        if matches!(self.places.get(&id), Some((_, false))) {
            self.skipped += 1;
            return Ok(());
        }
        self.insert(id, (place, false), item)
    }

    fn insert(
        &mut self,
        id: String,
        (place, is_named): (Place, bool),
        item: T,
    ) -> Result<(), DatasetError> {
        if let Some((first, _)) = self.places.get(&id) {
            let first = first.clone();
            return Err(DatasetError::Duplicate { what: self.what, id, first, second: place });
        }
        self.places.insert(id, (place, is_named));
        self.items.push(item);
        Ok(())
    }

    fn finish<P: AsRef<Path>>(self, paths: &[P]) -> Result<Vec<T>, DatasetError> {
        if self.items.is_empty() {
            let paths = paths.iter().map(name_of).collect::<Vec<_>>().join(", ");
            return Err(DatasetError::Empty { what: self.what, paths });
        }
        if self.skipped > 0 {
            let (what, skipped) = (self.what, self.skipped);
            tracing::warn!(what, skipped, "lines without an id say what was said before");
        }
        Ok(self.items)
    }
}

#[cfg(test)]
mod tests;

//! SQuAD 1.1 and 2.0 JSON: one document with articles, paragraphs and their questions.
//!
//! A paragraph has no id in the file, so it gets one from its content: the same paragraph has the
//! same id in every file.

use super::Question;
use super::error::{DatasetError, Place};
use super::lines::{read_error, unpacked};
use actors::types::{Document, DocumentId, PolicySnapshot};
use serde::Deserialize;
use std::collections::HashSet;
use std::io::Read;

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    #[serde(default)]
    title: String,
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    #[serde(default)]
    qas: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    question: String,
    #[serde(default)]
    answers: Vec<Span>,
    #[serde(default)]
    is_impossible: bool,
}

#[derive(Deserialize)]
struct Span {
    text: String,
}

/// Whether a file is read as SQuAD JSON: `.json` or `.json.gz`.
pub(super) fn is_named_so(name: &str) -> bool {
    name.ends_with(".json") || name.ends_with(".json.gz")
}

/// Every question; the number beside each is its ordinal, as SQuAD files have no useful lines.
pub(super) fn questions(
    name: &str,
    source: impl Read,
) -> Result<Vec<(u64, Question)>, DatasetError> {
    let mut questions = Vec::new();
    for article in parse(name, source)?.data {
        for paragraph in article.paragraphs {
            let positive = document(&article.title, &paragraph.context).id;
            for entry in paragraph.qas {
                let ordinal = questions.len() as u64 + 1;
                questions.push((ordinal, question_of(entry, &positive)));
            }
        }
    }
    Ok(questions)
}

/// Every paragraph once, in order.
pub(super) fn passages(
    name: &str,
    source: impl Read,
) -> Result<Vec<(u64, Document)>, DatasetError> {
    let mut seen = HashSet::new();
    let mut passages = Vec::new();
    for article in parse(name, source)?.data {
        for paragraph in article.paragraphs {
            let document = document(&article.title, &paragraph.context);
            if seen.insert(document.id.clone()) {
                passages.push((seen.len() as u64, document));
            }
        }
    }
    Ok(passages)
}

fn question_of(entry: Entry, positive: &DocumentId) -> Question {
    let mut answers: Vec<String> = Vec::new();
    for span in entry.answers {
        if !answers.contains(&span.text) {
            answers.push(span.text);
        }
    }
    if entry.is_impossible {
        // SQuAD 2.0 leaves plausible but wrong spans elsewhere; the gold list is empty.
        answers.clear();
    }
    Question {
        id: entry.id,
        dataset: "squad".to_owned(),
        question: entry.question,
        answers,
        answer_type: "short".to_owned(),
        positives: if entry.is_impossible { Vec::new() } else { vec![positive.clone()] },
        kind: entry.is_impossible.then(|| "unanswerable".to_owned()),
        ..Question::default()
    }
}

fn document(title: &str, text: &str) -> Document {
    let digest = PolicySnapshot::digest_of(format!("{title}\n{text}").as_bytes());
    let id = digest.as_str().chars().take(12).collect::<String>();
    Document {
        id: DocumentId(id),
        title: title.replace('_', " "),
        text: text.to_owned(),
        ..Document::default()
    }
}

fn parse(name: &str, source: impl Read) -> Result<File, DatasetError> {
    let mut bytes = Vec::new();
    unpacked(name, source)?.read_to_end(&mut bytes).map_err(|e| read_error(name, e))?;
    serde_json::from_slice(&bytes).map_err(|error| DatasetError::Json {
        place: Place::new(name, error.line() as u64),
        expected: "SQuAD JSON (`data`, `paragraphs`, `context`)",
        reason: error.to_string(),
    })
}

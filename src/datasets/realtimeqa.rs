//! RealTimeQA: dated news questions, each with what a web search found at the time.
//!
//! A line has `question_date`, `question_sentence`, `choices`, `answer` (indices into
//! the choices) and `gcs_docs` with `url`, `title` and `text`. Source: Kasai et al. 2023, "RealTime
//! QA: What's the Answer Right Now?"

use super::error::{DatasetError, Place};
use super::fields::Fields;
use super::lines::{Lines, kind_of};
use super::{Question, Unique, derived_id, name_of, open};
use actors::types::{Document, DocumentId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A question with its own candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Dated {
    /// The question; its answers are the texts of the right choices. Its id is made of date and
    /// text: the set's own ids come twice for different questions.
    pub question: Question,
    /// When it was asked, as `YYYY/MM/DD`.
    pub date: String,
    /// What the search found, best first; pages without a text are left out.
    pub documents: Vec<Document>,
}

/// Loads every question of some files, by date, those of one day in the order of the files. A
/// question that comes again on its day is skipped.
///
/// # Errors
/// A file that cannot be read, a line that is none, or an answer that is no choice.
pub fn load_realtimeqa<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Dated>, DatasetError> {
    let mut set = Unique::new("question");
    for path in paths {
        let mut lines = Lines::new(&name_of(path), open(path)?)?;
        while let Some((place, object)) = lines.next_object()? {
            let dated = dated_of(&place, Fields::new(&place, object))?;
            set.push_unnamed(dated.question.id.clone(), place, dated)?;
        }
    }
    let mut all = set.finish(paths)?;
    all.sort_by(|a, b| a.date.cmp(&b.date));
    Ok(all)
}

fn dated_of(place: &Place, mut fields: Fields<'_>) -> Result<Dated, DatasetError> {
    // The set writes its days in two ways, which would not sort together.
    let date = fields.text(&["question_date"])?.replace('-', "/");
    let question = fields.text(&["question_sentence"])?;
    let id = derived_id(&format!("{date} {question}"));
    let choices = fields.texts(&["choices"])?;
    let mut answers = Vec::new();
    for index in fields.texts(&["answer"])? {
        let choice = index.parse().ok().and_then(|index: usize| choices.get(index));
        let Some(choice) = choice else {
            return Err(fields.wrong("answer", "the index of a choice", &index));
        };
        answers.push(choice.clone());
    }
    let mut rest = fields.rest();
    let documents = match rest.remove("gcs_docs") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(pages)) => pages_of(place, &id, pages)?,
        Some(other) => {
            return Err(DatasetError::Field {
                place: place.clone(),
                field: "gcs_docs".to_owned(),
                expected: "a list of pages",
                found: kind_of(&other).to_owned(),
            });
        }
    };
    let question = Question {
        id,
        question,
        answers,
        dataset: "realtimeqa".to_owned(),
        answer_type: "short".to_owned(),
        ..Question::default()
    };
    Ok(Dated { question, date, documents })
}

fn pages_of(place: &Place, id: &str, pages: Vec<Value>) -> Result<Vec<Document>, DatasetError> {
    let mut documents = Vec::with_capacity(pages.len());
    for (rank, page) in pages.into_iter().enumerate() {
        let Value::Object(page) = page else {
            return Err(DatasetError::Field {
                place: place.clone(),
                field: format!("gcs_docs[{rank}]"),
                expected: "an object",
                found: kind_of(&page).to_owned(),
            });
        };
        let mut fields = Fields::new(place, page);
        let text = fields.optional_text(&["text"])?.unwrap_or_default();
        if text.trim().is_empty() {
            continue;
        }
        documents.push(Document {
            id: DocumentId(format!("{id}-{rank}")),
            title: fields.optional_text(&["title"])?.unwrap_or_default(),
            text,
            metadata: BTreeMap::new(),
        });
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn load(lines: &[String]) -> Result<Vec<Dated>, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("news.jsonl");
        std::fs::write(&path, lines.join("\n")).unwrap();
        load_realtimeqa(&[path])
    }

    fn line(question: &str, date: &str, answer: &str) -> String {
        let page = r#"{"url":"u","title":"T","text":" "},{"title":"News","text":"Bob won."}"#;
        format!(r#"{{"question_id":"1","question_date":"{date}","question_sentence":"{question}","#)
            + &format!(r#""choices":["Ann","Bob"],"answer":["{answer}"],"gcs_docs":[{page}]}}"#)
    }

    #[test]
    fn questions_come_by_date_with_the_text_of_the_right_choice() {
        let later = line("Who won?", "2023/02/01", "1");
        let all = load(&[later.clone(), line("Who won?", "2023/01/08", "0"), later]).unwrap();
        assert_eq!(all.len(), 2, "the same question on the same day is one");
        assert_eq!(all[0].question.answers, ["Ann"]);
        assert_eq!((all[1].question.answers[0].as_str(), &*all[1].date), ("Bob", "2023/02/01"));
        // The page without a text is gone; what stays keeps its rank in its name.
        assert_eq!(all[0].documents.len(), 1);
        assert!(all[0].documents[0].id.as_str().ends_with("-1"));
        assert_ne!(all[0].question.id, all[1].question.id);
    }

    #[test]
    fn an_answer_that_is_no_choice_is_told_with_its_place() {
        let lines = [line("Who?", "2023/01/08", "0"), line("What?", "2023/01/08", "7")];
        let error = load(&lines).unwrap_err().to_string();
        assert!(error.contains("news.jsonl:2") && error.contains("`answer`"), "{error}");
    }
}

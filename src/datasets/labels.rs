//! Which labels a question chooses from.
//!
//! A file names only the right label of a question. What there is to choose from is the same for
//! every question of a data set, so that it tells nothing of the right one.

use super::Question;
use crate::rewards::{LABEL, LABELS};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Labels of fact verification as the files spell them: those of FEVER, and that of claims with
/// evidence on both sides (Climate-FEVER).
pub const VERDICTS: [&str; 4] = ["SUPPORTS", "REFUTES", "NOT_ENOUGH_INFO", "DISPUTED"];
/// What every set of verdicts holds, however few questions were loaded.
const LEAST: [&str; 2] = ["SUPPORTS", "REFUTES"];

/// The labels of a question, separated by commas; `None` where it wants none.
pub(super) fn of(question: &Question) -> Option<String> {
    if question.answer_type != LABEL {
        return None;
    }
    match question.meta.get(LABELS) {
        Some(Value::String(labels)) => Some(labels.clone()),
        Some(Value::Array(labels)) => {
            let labels: Vec<&str> = labels.iter().filter_map(Value::as_str).collect();
            Some(labels.join(","))
        }
        _ => Some(VERDICTS.join(",")),
    }
}

/// Gives each question that wants a label, and whose file names none to choose from, those of its
/// data set: the right labels of all its questions, verdicts in their usual order first.
pub(super) fn known(mut questions: Vec<Question>) -> Vec<Question> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for question in questions.iter().filter(|q| q.answer_type == LABEL) {
        let labels = found.entry(question.dataset.clone()).or_default();
        labels.extend(question.answers.iter().filter(|a| !a.contains(',')).cloned());
    }
    for labels in found.values_mut() {
        if labels.iter().all(|label| VERDICTS.contains(&label.as_str())) {
            labels.extend(LEAST.map(str::to_owned));
        }
    }
    for question in questions.iter_mut().filter(|q| q.answer_type == LABEL) {
        let Some(labels) = found.get(&question.dataset) else { continue };
        let rank = |label: &String| VERDICTS.iter().position(|v| v == label).unwrap_or(usize::MAX);
        let mut labels: Vec<&String> = labels.iter().collect();
        labels.sort_by_key(|label| (rank(label), (*label).clone()));
        let labels: Vec<&str> = labels.into_iter().map(String::as_str).collect();
        let labels = Value::String(labels.join(","));
        question.meta.entry(LABELS).or_insert(labels);
    }
    questions
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use crate::datasets::read_questions;
    use crate::rewards::{ANSWER_TYPE, LABELS};

    fn line(id: &str, dataset: &str, kind: &str, answer: &str) -> String {
        format!(
            "{{\"id\":\"{id}\",\"dataset\":\"{dataset}\",\"question\":\"q {id}\",\
             \"answer_type\":\"{kind}\",\"answers\":[\"{answer}\"]}}\n"
        )
    }

    #[test]
    fn a_query_names_its_answer_type_and_the_labels_of_its_whole_data_set() {
        let text = [
            line("1", "fever", "label", "REFUTES"),
            line("2", "climate", "label", "DISPUTED"),
            line("3", "climate", "label", "SUPPORTS"),
            line("4", "pubmed", "label", "yes"),
            line("5", "pubmed", "label", "no"),
            line("6", "nq", "short", "Paris"),
            line("7", "eli5", "long", "Because."),
        ];
        let questions = read_questions("q.jsonl", text.concat().as_bytes()).unwrap();
        let metadata: Vec<_> = questions.iter().map(|q| q.to_query().metadata).collect();
        let of = |n: usize, key: &str| metadata[n].get(key).map(String::as_str);
        assert_eq!(of(0, LABELS), Some("SUPPORTS,REFUTES"), "one question tells nothing");
        assert_eq!(of(1, LABELS), Some("SUPPORTS,REFUTES,DISPUTED"));
        assert_eq!(of(1, LABELS), of(2, LABELS));
        assert_eq!(of(3, LABELS), Some("no,yes"));
        assert_eq!((of(0, ANSWER_TYPE), of(6, ANSWER_TYPE)), (Some("label"), Some("long")));
        assert_eq!((of(5, ANSWER_TYPE), of(5, LABELS), of(6, LABELS)), (None, None, None));
    }

    #[test]
    fn labels_that_the_file_gives_are_left_as_they_are() {
        let text = "{\"question\":\"q\",\"answer_type\":\"label\",\"answers\":[\"a\"],\
                    \"meta\":{\"labels\":[\"a\",\"b\",\"c\"]}}";
        let questions = read_questions("q.jsonl", text.as_bytes()).unwrap();
        assert_eq!(questions[0].to_query().metadata[LABELS], "a,b,c");
    }
}

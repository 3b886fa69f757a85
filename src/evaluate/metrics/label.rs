//! Accuracy of labels: questions whose answer is one of a few words (SUPPORTS, REFUTES, …).

use crate::datasets::Question;
use crate::rewards::normalise;

/// Key of a question's `meta` that names the labels there are: a list, or text with commas.
const LABELS: &str = "labels";

/// The labels a question says there are; empty where it does not say.
pub fn labels_of(question: &Question) -> Vec<String> {
    let own = |text: &str| text.trim().to_owned();
    match question.meta.get(LABELS) {
        Some(serde_json::Value::Array(all)) => {
            all.iter().filter_map(|v| v.as_str().map(own)).collect()
        }
        Some(serde_json::Value::String(text)) => text.split(',').map(own).collect(),
        _ => Vec::new(),
    }
}

/// 1 if the label is right, else 0.
///
/// The label of an answer is the answer itself, normalised as SQuAD does. Where the labels are
/// known and the answer is none of them, it is the one of them that stands in it as words, if
/// exactly one does (`The claim is refuted by …` names none, `It SUPPORTS the claim` names one).
pub fn label_accuracy(answer: &str, references: &[String], labels: &[String]) -> f64 {
    let answer = normalise(answer);
    let labels: Vec<String> = labels.iter().map(|label| normalise(label)).collect();
    let right: Vec<String> = references.iter().map(|reference| normalise(reference)).collect();
    let mut given = answer.as_str();
    if !labels.contains(&answer) {
        let padded = format!(" {answer} ");
        let stands = |label: &&String| !label.is_empty() && padded.contains(&format!(" {label} "));
        let mut named = labels.iter().filter(stands);
        if let (Some(only), None) = (named.next(), named.next()) {
            given = only;
        }
    }
    f64::from(u8::from(right.iter().any(|label| label == given)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, right: &str, expected: f64) {
        let labels = ["SUPPORTS", "REFUTES", "NOT ENOUGH INFO"].map(str::to_owned);
        let found = label_accuracy(answer, &[right.to_owned()], &labels);
        assert!((found - expected).abs() < 1e-12, "{answer:?} against {right}: {found}");
    }

    #[test]
    fn a_label_is_found_alone_or_as_the_only_one_in_a_sentence() {
        check("supports.", "SUPPORTS", 1.0);
        check("It REFUTES the claim", "REFUTES", 1.0);
        check("There is not enough info.", "NOT ENOUGH INFO", 1.0);
        check("refuted", "REFUTES", 0.0);
        check("SUPPORTS or REFUTES", "SUPPORTS", 0.0);
        check("", "SUPPORTS", 0.0);
    }

    #[test]
    fn without_known_labels_the_whole_answer_is_the_label() {
        let right = ["yes".to_owned()];
        assert!((label_accuracy("Yes!", &right, &[]) - 1.0).abs() < 1e-12);
        assert!(label_accuracy("yes it is", &right, &[]).abs() < 1e-12);
    }

    #[test]
    fn labels_are_read_from_a_list_or_from_text() {
        let mut question = Question::default();
        assert!(labels_of(&question).is_empty());
        question.meta.insert(LABELS.to_owned(), serde_json::json!(["yes", "no"]));
        assert_eq!(labels_of(&question), ["yes", "no"]);
        question.meta.insert(LABELS.to_owned(), serde_json::json!("yes, no"));
        assert_eq!(labels_of(&question), ["yes", "no"]);
    }
}

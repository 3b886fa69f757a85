//! Token F1 after SQuAD's normalisation.

use super::text::words;
use std::collections::BTreeMap;

/// Harmonic mean of precision and recall of the answer's words against the best reference, in
/// [0, 1]; words count as often as both sides have them. Where either side has no words: 1 if both
/// have none, else 0. Without references: 1 if the answer has no words, else 0.
///
/// Source: the official SQuAD 2.0 evaluation script, `compute_f1` and its maximum.
pub fn token_f1(answer: &str, references: &[String]) -> f64 {
    let answer = words(answer);
    if references.is_empty() {
        return f64::from(u8::from(answer.is_empty()));
    }
    references.iter().map(|reference| f1(&answer, &words(reference))).fold(0.0, f64::max)
}

fn f1(answer: &[String], reference: &[String]) -> f64 {
    if answer.is_empty() || reference.is_empty() {
        return f64::from(u8::from(answer.is_empty() && reference.is_empty()));
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for word in reference {
        *counts.entry(word).or_default() += 1;
    }
    let mut shared = 0_u32;
    for word in answer {
        if let Some(count) = counts.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    if shared == 0 {
        return 0.0;
    }
    let shared = f64::from(shared);
    let precision = shared / answer.len() as f64;
    let recall = shared / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, references: &[&str], expected: f64) {
        let references: Vec<String> = references.iter().map(|r| (*r).to_owned()).collect();
        let found = token_f1(answer, &references);
        assert!((found - expected).abs() < 1e-12, "{answer:?} against {references:?}: {found}");
    }

    #[test]
    fn f1_equals_numbers_worked_by_hand() {
        // Shared 2 of 3 and of 2: precision 2/3, recall 1, F1 0.8.
        check("new york city", &["New York"], 0.8);
        // The article falls away: precision 1/2, recall 1/3, F1 0.4.
        check("the red house", &["red brick wall"], 0.4);
        // Words count as often as both have them: shared 2, precision 2/3, recall 2/2.
        check("ha ha ha", &["ha ha"], 0.8);
        // The best reference counts, not the mean.
        check("Paris", &["Lyon", "Paris France"], 2.0 / 3.0);
        check("Rome", &["Paris"], 0.0);
    }

    #[test]
    fn empty_sides_are_right_only_together() {
        check("", &["Paris"], 0.0);
        check("the", &["a"], 1.0);
        check("", &[], 1.0);
        check("Paris", &[], 0.0);
    }
}

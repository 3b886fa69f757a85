//! Exact match after SQuAD's normalisation.

use super::text::normalise;

/// 1 if the answer equals any reference after normalisation, else 0. Without references: 1 if the
/// answer is empty (the question is known to have none), else 0.
///
/// Source: the official SQuAD 2.0 evaluation script, `compute_exact` and its maximum.
pub fn exact_match(answer: &str, references: &[String]) -> f64 {
    let answer = normalise(answer);
    let is_right = if references.is_empty() {
        answer.is_empty()
    } else {
        references.iter().any(|reference| normalise(reference) == answer)
    };
    f64::from(u8::from(is_right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, references: &[&str], expected: f64) {
        let references: Vec<String> = references.iter().map(|r| (*r).to_owned()).collect();
        let found = exact_match(answer, &references);
        assert!((found - expected).abs() < 1e-12, "{answer:?} against {references:?}: {found}");
    }

    #[test]
    fn any_reference_may_match_and_case_articles_and_marks_do_not_count() {
        check("the Beatles", &["Stones", "Beatles!"], 1.0);
        check("Beatles band", &["Beatles"], 0.0);
        check("", &["Beatles"], 0.0);
        // As in the script: both sides normalise to nothing.
        check("The", &["a"], 1.0);
    }

    #[test]
    fn a_question_without_answer_wants_an_empty_one() {
        check("", &[], 1.0);
        check(" . ", &[], 1.0);
        check("Beatles", &[], 0.0);
    }
}

//! ROUGE-L: the longest common subsequence of words.

/// Most words of either side that are compared: a bound on the quadratic cost.
const WORDS_MAX: usize = 4_096;

/// F1 of the longest common subsequence against the best reference, in [0, 1]; 0 where either side
/// has no words. Without references: 1 if the answer has no words, else 0.
///
/// Words are lower-case runs of ASCII letters and digits, unstemmed, and the F-measure has beta 1.
/// Source: the `rouge-score` package, `rougeL` with `use_stemmer=False`.
pub fn rouge_l(answer: &str, references: &[String]) -> f64 {
    let answer = words(answer);
    if references.is_empty() {
        return f64::from(u8::from(answer.is_empty()));
    }
    references.iter().map(|reference| f_measure(&answer, &words(reference))).fold(0.0, f64::max)
}

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let runs = lower.split(|c: char| !c.is_ascii_alphanumeric());
    runs.filter(|run| !run.is_empty()).take(WORDS_MAX).map(str::to_owned).collect()
}

fn f_measure(answer: &[String], reference: &[String]) -> f64 {
    let common = longest_common(answer, reference);
    if common == 0 {
        return 0.0;
    }
    let common = f64::from(common);
    let precision = common / answer.len() as f64;
    let recall = common / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

/// Length of the longest common subsequence; one row of the usual table is kept.
fn longest_common(left: &[String], right: &[String]) -> u32 {
    let mut row = vec![0_u32; right.len() + 1];
    for a in left {
        let mut diagonal = 0;
        for (column, b) in right.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if a == b { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, references: &[&str], expected: f64) {
        let references: Vec<String> = references.iter().map(|r| (*r).to_owned()).collect();
        let found = rouge_l(answer, &references);
        assert!((found - expected).abs() < 1e-12, "{answer:?} against {references:?}: {found}");
    }

    #[test]
    fn rouge_equals_numbers_worked_by_hand() {
        // The example of the ROUGE paper: "police killed the gunman" against two candidates.
        check("police kill the gunman", &["police killed the gunman"], 0.75);
        check("the gunman kill police", &["police killed the gunman"], 0.5);
        // Subsequence "testing two" of 3 and 2 words: precision 2/3, recall 1.
        check("testing one two", &["testing, two"], 0.8);
        // Case, marks and articles: articles stay, unlike in SQuAD's measure.
        check("The CAT.", &["the cat"], 1.0);
        check("the", &["cat", "the"], 1.0);
        check("dog", &["cat"], 0.0);
    }

    #[test]
    fn empty_sides_score_nothing_unless_no_answer_is_right() {
        check("", &["cat"], 0.0);
        check("", &[], 1.0);
        check("cat", &[], 0.0);
    }

    #[test]
    fn very_long_texts_are_bounded() {
        let long = "word ".repeat(100_000);
        check(&long, &[&long], 1.0);
    }
}

//! Text as the question-answering metrics see it: SQuAD's normalisation and token overlap.
//!
//! Shared by the reward terms and the policy's features, so that both mean the same by "same answer".

use std::collections::HashMap;

/// Lower case, without ASCII punctuation and English articles, single spaces.
///
/// Source: the SQuAD 1.1 evaluation script's `normalize_answer`, same order of steps.
pub fn normalise(text: &str) -> String {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = bare.split_whitespace().filter(|w| !matches!(*w, "a" | "an" | "the"));
    words.collect::<Vec<_>>().join(" ")
}

/// F1 of two bags of tokens, in [0, 1]; 0 when either is empty or none is shared.
pub fn token_f1(prediction: &[&str], reference: &[&str]) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for token in reference {
        *left.entry(token).or_default() += 1;
    }
    let mut common = 0usize;
    for token in prediction {
        if let Some(count) = left.get_mut(token).filter(|c| **c > 0) {
            *count -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    let precision = common as f64 / prediction.len() as f64;
    let recall = common as f64 / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation_follows_the_squad_script() {
        assert_eq!(normalise("The  Eiffel-Tower, a landmark!"), "eiffeltower landmark");
        assert_eq!(normalise("An apple."), "apple");
        assert_eq!(normalise("the"), "");
        // The script removes articles as whole words after punctuation is gone.
        assert_eq!(normalise("\"A\" team"), "team");
    }

    #[test]
    fn token_f1_by_hand() {
        assert_eq!(token_f1(&["x", "y"], &["x", "y"]), 1.0);
        // One of two and one of three: P 1/2, R 1/3, F1 0.4.
        assert!((token_f1(&["x", "q"], &["x", "y", "z"]) - 0.4).abs() < 1e-12);
        // A repeated token counts as often as the reference has it.
        assert!((token_f1(&["x", "x"], &["x"]) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(token_f1(&[], &["x"]), 0.0);
    }
}

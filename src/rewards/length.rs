//! The length term.

/// 1 / (1 + words of the answer), in (0, 1]: shorter answers earn more.
///
/// Words are runs between white space. Source: DynamicRAG's length reward.
pub fn length(answer: &str) -> f64 {
    1.0 / (1.0 + answer.split_whitespace().count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_term_falls_with_the_number_of_words() {
        for (answer, expected) in [("", 1.0), ("Paris", 0.5), ("  in  Paris \n France ", 0.25)] {
            assert!((length(answer) - expected).abs() < 1e-12, "{answer:?}");
        }
    }
}

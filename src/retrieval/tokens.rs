//! How text becomes terms: the same for passages and queries, and for every index.
//!
//! Knows no index.

/// Longest term kept, bytes; longer runs are not words and would only fill the dictionary.
const TERM_BYTES_MAX: usize = 256;

/// Lower-case runs of letters and digits, in order.
pub fn tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|run| !run.is_empty() && run.len() <= TERM_BYTES_MAX)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_into_lower_case_runs() {
        let cases: [(&str, &[&str]); 6] = [
            ("The U.S. won 3-1!", &["the", "u", "s", "won", "3", "1"]),
            ("Röntgen's  X-rays", &["röntgen", "s", "x", "rays"]),
            ("ΑΒΓ 東京 snake_case", &["αβγ", "東京", "snake", "case"]),
            ("İstanbul", &["i", "stanbul"]),
            ("", &[]),
            ("… — ?", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(tokens(text), expected, "{text:?}");
        }
        assert!(tokens(&"x".repeat(1_000)).is_empty());
    }
}

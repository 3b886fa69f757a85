//! Text as the scorers compare it.

/// SQuAD's normalisation: lower case, no ASCII punctuation, no English article, single spaces.
///
/// Source: the official SQuAD evaluation script, `normalize_answer`.
pub fn normalise(text: &str) -> String {
    words(text).join(" ")
}

/// The words of [`normalise`].
pub(super) fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let kept: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    without_articles(&kept).split_whitespace().map(str::to_owned).collect()
}

/// Replaces `a`, `an` and `the` between word boundaries by a space.
///
/// A boundary, as in the script's `\b`, lies between a word character (letter, digit, underscore)
/// and any other; underscores are gone by now. Curly quotes are not ASCII punctuation, so `‘the’`
/// holds an article although it is one piece between spaces.
fn without_articles(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_alphanumeric() {
            word.push(c);
            continue;
        }
        if matches!(word.as_str(), "a" | "an" | "the") {
            kept.push(' ');
        } else {
            kept.push_str(&word);
        }
        word.clear();
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_normalised_as_the_squad_script_does() {
        let cases = [
            ("The Eiffel Tower!", "eiffel tower"),
            ("  an   apple\ta day\n", "apple day"),
            ("theatre, Athens", "theatre athens"),
            ("U.S.A.", "usa"),
            ("1,000.5", "10005"),
            ("well-known", "wellknown"),
            ("the", ""),
            ("A", ""),
            ("Beyoncé’s the’s", "beyoncé’s ’s"),
            ("‘the’ end", "‘ ’ end"),
            ("snake_case", "snakecase"),
            ("Münster UND", "münster und"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(normalise(text), expected, "{text:?}");
        }
    }
}

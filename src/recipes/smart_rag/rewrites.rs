//! The texts that a question is searched with, other than the proposals of a model.

/// English words that carry no content in a question.
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "the", "of", "in", "on", "at", "to", "from", "by", "for", "with", "and", "or", "as",
    "is", "was", "were", "are", "be", "been", "do", "does", "did", "has", "have", "had", "who",
    "whom", "whose", "what", "when", "where", "which", "why", "how", "many", "much", "it", "its",
    "that", "this", "there", "please", "name", "tell", "me", "can", "could", "will", "would",
];

/// The content words of a question in their order; `None` where all or none of its words are such:
/// the search would be the one as asked, or empty.
pub(super) fn keywords(question: &str) -> Option<String> {
    let words: Vec<&str> = question.split_whitespace().collect();
    let content: Vec<&str> = words
        .iter()
        .map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation()))
        .filter(|word| !word.is_empty())
        .filter(|word| !FUNCTION_WORDS.contains(&word.to_lowercase().as_str()))
        .collect();
    (!content.is_empty() && content.len() < words.len()).then(|| content.join(" "))
}

/// The question with title and answer of the best document so far: what the first hop found is
/// looked up in the second.
pub(super) fn bridge(question: &str, title: &str, answer: &str) -> String {
    let parts = [question, title, answer].map(str::trim);
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_drop_function_words_and_marks_and_nothing_else() {
        let found = keywords("Who is the author of \"Dune\", please?");
        assert_eq!(found.as_deref(), Some("author Dune"));
        assert_eq!(keywords("what is it"), None);
        assert_eq!(keywords("Dune author"), None);
        assert_eq!(keywords(""), None);
    }

    #[test]
    fn a_bridge_is_the_question_with_what_was_found() {
        assert_eq!(bridge("who leads it", "Acme", "Ann"), "who leads it Acme Ann");
        assert_eq!(bridge("who leads it", "", " "), "who leads it");
    }
}

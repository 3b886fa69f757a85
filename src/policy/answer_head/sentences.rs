//! Sentences around spans: the long form of an extractive answer.
//!
//! Knows no score: which passages count, and in which order, is the caller's.

use super::groups::answer_key;
use std::collections::HashSet;

/// Most sentences looked at in one passage.
const SENTENCES_MAX: usize = 64;

/// Sentences of a text, trimmed, in order: a sentence ends at `.`, `!` or `?`, closing quotes and
/// brackets included, before white space that no lower-case letter follows; or at a line's end.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut is_over = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let end = at + c.len_utf8();
        is_over = matches!(c, '.' | '!' | '?' | '…')
            || (is_over && matches!(c, '"' | '\'' | ')' | ']' | '”' | '’'));
        let is_end = c == '\n' || (is_over && next.is_none_or(char::is_whitespace));
        if is_end && (c == '\n' || !goes_on(&text[end..])) {
            push(&mut found, &text[start..end]);
            start = end;
        }
    }
    push(&mut found, &text[start..]);
    found
}

/// Whether what follows a full stop continues its sentence ("approx. five").
fn goes_on(rest: &str) -> bool {
    rest.trim_start().chars().next().is_some_and(char::is_lowercase)
}

fn push<'a>(found: &mut Vec<&'a str>, sentence: &'a str) {
    let sentence = sentence.trim();
    if !sentence.is_empty() && found.len() < SENTENCES_MAX {
        found.push(sentence);
    }
}

/// Sentences of the passages around their spans, at most `words_max` words in all.
///
/// passages: text and span of each, the policy's order. First the sentence of every span, then by
/// turns the ones after and before it, one passage after the other, as long as whole sentences fit;
/// what says the same as a sentence taken is left out. The text has them passage by passage, each in
/// its own order. The first sentence of all is cut where it alone is too long, so that there is an
/// answer. Returns the text, and which passages it rests on.
pub(super) fn around_spans(passages: &[(&str, &str)], words_max: usize) -> (String, Vec<usize>) {
    let split: Vec<Vec<&str>> = passages.iter().map(|(text, _)| sentences(text)).collect();
    let homes: Vec<usize> = passages
        .iter()
        .zip(&split)
        .map(|((_, span), sentences)| {
            sentences.iter().position(|s| !span.is_empty() && s.contains(span)).unwrap_or(0)
        })
        .collect();
    let mut taken: Vec<(usize, usize)> = Vec::new();
    let mut said: HashSet<String> = HashSet::new();
    let mut left = words_max;
    for distance in 0..2 * SENTENCES_MAX {
        for (passage, sentences) in split.iter().enumerate() {
            let Some(at) = at_distance(homes[passage], distance) else { continue };
            let Some(sentence) = sentences.get(at) else { continue };
            let words = sentence.split_whitespace().count();
            let is_first = taken.is_empty();
            if (words <= left || is_first) && said.insert(answer_key(sentence)) {
                taken.push((passage, at));
                left = left.saturating_sub(words);
            }
        }
        if left == 0 {
            break;
        }
    }
    taken.sort_unstable();
    let words = taken.iter().flat_map(|&(p, s)| split[p][s].split_whitespace()).take(words_max);
    let text = words.collect::<Vec<_>>().join(" ");
    let mut cites: Vec<usize> = taken.into_iter().map(|(passage, _)| passage).collect();
    cites.dedup();
    (text, cites)
}

/// 0, +1, −1, +2, −2, … from home; `None` before the start.
fn at_distance(home: usize, distance: usize) -> Option<usize> {
    let step = distance.div_ceil(2);
    if distance % 2 == 1 { Some(home + step) } else { home.checked_sub(step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_the_ends_of_sentences() {
        let text = "He said \"no.\" Then approx. five left! Why?\nA list: 3.5 m. U.S. troops";
        let expected =
            ["He said \"no.\"", "Then approx. five left!", "Why?", "A list: 3.5 m.", "U.S. troops"];
        assert_eq!(sentences(text), expected);
        assert!(sentences("").is_empty());
        assert_eq!(sentences(" one "), ["one"]);
        assert_eq!(sentences(&"A. ".repeat(500)).len(), SENTENCES_MAX);
    }

    #[test]
    fn the_sentence_of_every_span_comes_before_any_neighbour() {
        let first = "Zero zero. One one. Two two.";
        let second = "Three three. Four four.";
        let given = [(first, "One"), (second, "Four")];
        assert_eq!(around_spans(&given, 4), ("One one. Four four.".to_owned(), vec![0, 1]));
        // The next sentence, then the one before, passage by passage.
        let (six, cites) = around_spans(&given, 6);
        assert_eq!((six.as_str(), cites.len()), ("One one. Two two. Four four.", 2));
        let (all, _) = around_spans(&given, 100);
        assert_eq!(all, "Zero zero. One one. Two two. Three three. Four four.");
    }

    #[test]
    fn repeats_are_said_once_and_only_what_is_said_is_cited() {
        let given = [("One one.", "One"), ("ONE, one!", "ONE"), ("Two.", "")];
        assert_eq!(around_spans(&given, 100), ("One one. Two.".to_owned(), vec![0, 2]));
        assert_eq!(around_spans(&[], 100), (String::new(), vec![]));
    }

    #[test]
    fn a_first_sentence_beyond_the_bound_is_cut() {
        let (text, cites) = around_spans(&[("one two three four", "two")], 3);
        assert_eq!((text.as_str(), cites), ("one two three", vec![0]));
    }
}

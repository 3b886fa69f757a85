//! Long passages as overlapping chunks of a given number of tokens, with stable ids.
//!
//! Knows a tokenizer and no model. The text of a chunk is a piece of the passage's own text, cut
//! between words; nothing of the text is lost.

use actors::types::{Document, DocumentId, PolicySnapshot};
use tokenizers::Tokenizer;

/// Why passages cannot be cut.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The sizes make no progress.
    #[error("cannot cut into chunks of {tokens} tokens with {overlap} of overlap: {expected}")]
    Sizes {
        /// Tokens in a chunk.
        tokens: usize,
        /// Tokens shared with the next.
        overlap: usize,
        /// What is expected.
        expected: &'static str,
    },
    /// The tokenizer failed.
    #[error("cannot cut passage `{id}`: the tokenizer failed: {reason}")]
    Tokenizer {
        /// The passage.
        id: DocumentId,
        /// Why.
        reason: String,
    },
}

/// Cuts passages.
#[derive(Debug)]
pub struct Chunker {
    tokenizer: Tokenizer,
    tokens: usize,
    overlap: usize,
    fingerprint: String,
}

impl Chunker {
    /// Chunks of at most `tokens` ≥ 1 tokens of text, each sharing `overlap` < `tokens` with the one
    /// before, a little more or less where a word ends.
    ///
    /// # Errors
    /// Sizes out of these bounds, or a tokenizer that cannot be kept from cutting itself.
    pub fn new(
        mut tokenizer: Tokenizer,
        tokens: usize,
        overlap: usize,
    ) -> Result<Self, ChunkError> {
        let wrong = |expected| Err(ChunkError::Sizes { tokens, overlap, expected });
        if tokens == 0 {
            return wrong("a chunk needs a token at least");
        }
        if overlap >= tokens {
            return wrong("the overlap must be smaller than the chunk");
        }
        tokenizer.with_padding(None);
        if tokenizer.with_truncation(None).is_err() {
            return wrong("a tokenizer without truncation");
        }
        let Ok(json) = tokenizer.to_string(false) else {
            return wrong("a tokenizer that can be written as JSON");
        };
        let words = PolicySnapshot::digest_of(json.as_bytes());
        let fingerprint = format!("{tokens} tokens, {overlap} overlap, {words}");
        Ok(Self { tokenizer, tokens, overlap, fingerprint })
    }

    /// Names sizes and tokenizer: equal ones cut a text alike.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The chunks of a passage in order, `id#0`, `id#1`, …, each with its title. A passage that fits
    /// is one chunk.
    ///
    /// # Errors
    /// The tokenizer failed on the text.
    pub fn cut(&self, document: &Document) -> Result<Vec<Document>, ChunkError> {
        let text = document.text.as_str();
        let encoding = self.tokenizer.encode(text, false).map_err(|error| {
            ChunkError::Tokenizer { id: document.id.clone(), reason: error.to_string() }
        })?;
        // Byte offsets of each token; signs that a tokenizer drops lie between them.
        let (offsets, words) = (encoding.get_offsets(), encoding.get_word_ids());
        let starts_word = |at: &usize| match (words.get(*at), words.get(at.wrapping_sub(1))) {
            (Some(Some(word)), Some(Some(before))) => word != before,
            _ => true,
        };
        let mut frame = document.clone();
        frame.text.clear();
        let mut chunks = Vec::new();
        let mut first = 0;
        loop {
            // A word longer than a chunk is cut.
            let furthest = (first + self.tokens).min(offsets.len());
            let end = (first + 1..=furthest).rev().find(starts_word).unwrap_or(furthest);
            // The first chunk starts with the text and the last ends with it.
            let from = if first == 0 { 0 } else { offsets[first].0 };
            let to = if end == offsets.len() { text.len() } else { offsets[end].0 };
            let piece = &text[text.floor_char_boundary(from)..text.floor_char_boundary(to)];
            chunks.push(Document {
                id: DocumentId(format!("{}#{}", document.id, chunks.len())),
                text: piece.trim().to_owned(),
                ..frame.clone()
            });
            if end == offsets.len() {
                return Ok(chunks);
            }
            // Back by the overlap and on to the start of that word, else forward to the next one.
            let back = end.saturating_sub(self.overlap);
            let before = (first + 1..=back).rev().find(starts_word);
            first = before.or_else(|| (back.max(first + 1)..=end).find(starts_word)).unwrap_or(end);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    /// One token a word.
    fn words() -> Tokenizer {
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": { "[UNK]": 0 }, "unk_token": "[UNK]" }
        });
        Tokenizer::from_bytes(json.to_string()).unwrap()
    }

    fn passage(text: &str) -> Document {
        Document {
            id: "p".into(),
            title: "T".to_owned(),
            text: text.to_owned(),
            ..Document::default()
        }
    }

    fn cut(text: &str, tokens: usize, overlap: usize) -> Vec<(String, String)> {
        let chunker = Chunker::new(words(), tokens, overlap).unwrap();
        let chunks = chunker.cut(&passage(text)).unwrap();
        assert!(chunks.iter().all(|chunk| chunk.title == "T"));
        chunks.into_iter().map(|chunk| (chunk.id.0, chunk.text)).collect()
    }

    #[test]
    fn chunks_overlap_by_the_tokens_asked_for_and_count_from_zero() {
        let pair = |id: &str, text: &str| (id.to_owned(), text.to_owned());
        let expected = [pair("p#0", "a b c"), pair("p#1", "c d é"), pair("p#2", "é f")];
        assert_eq!(cut("a b c d é f", 3, 1), expected);
        assert_eq!(cut(" a b\n", 3, 1), [pair("p#0", "a b")]);
        assert_eq!(cut("", 3, 1), [pair("p#0", "")]);
        assert_eq!(cut("a b c", 3, 2), [pair("p#0", "a b c")], "no chunk of overlap alone");
    }

    /// One token a letter.
    fn letters() -> Tokenizer {
        let vocabulary: std::collections::BTreeMap<String, u32> =
            std::iter::once("[UNK]".to_owned())
                .chain(('a'..='z').flat_map(|c| [c.to_string(), format!("##{c}")]))
                .zip(0..)
                .collect();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": null, "decoder": null,
            "model": {
                "type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]",
                "continuing_subword_prefix": "##", "max_input_chars_per_word": 100
            }
        });
        Tokenizer::from_bytes(json.to_string()).unwrap()
    }

    #[test]
    fn words_are_cut_only_where_they_are_longer_than_a_chunk() {
        let cut = |text: &str, tokens, overlap| {
            let chunker = Chunker::new(letters(), tokens, overlap).unwrap();
            let chunks = chunker.cut(&passage(text)).unwrap();
            chunks.into_iter().map(|chunk| chunk.text).collect::<Vec<_>>()
        };
        assert_eq!(cut("abc de fgh", 5, 0), ["abc de", "fgh"]);
        assert_eq!(cut("abc de fgh", 4, 0), ["abc", "de", "fgh"]);
        assert_eq!(cut("abc de fgh", 5, 1), ["abc de", "de fgh"], "whole words overlap");
        assert_eq!(cut("abcdefg hi", 3, 0), ["abc", "def", "g hi"]);
        assert_eq!(cut("ab cd ef", 3, 2), ["ab", "cd", "ef"], "no room for an overlap");
    }

    #[test]
    fn sizes_that_make_no_progress_are_refused() {
        for (tokens, overlap) in [(0, 0), (5, 5), (5, 9)] {
            assert!(Chunker::new(words(), tokens, overlap).is_err(), "{tokens} {overlap}");
        }
    }

    proptest! {
        #[test]
        fn without_overlap_the_chunks_together_hold_every_word_in_order(
            text in "[a-zäß ]{0,60}",
            tokens in 1..6_usize,
        ) {
            let chunks = cut(&text, tokens, 0);
            let joined = chunks.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ");
            let words: Vec<&str> = joined.split_whitespace().collect();
            prop_assert_eq!(words, text.split_whitespace().collect::<Vec<_>>());
            prop_assert!(chunks.iter().all(|(_, text)| text.split_whitespace().count() <= tokens));
        }
    }
}

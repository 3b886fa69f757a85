//! Long passages as overlapping chunks of a given number of tokens, with stable ids.
//!
//! Knows a tokenizer and no model. The text of a chunk is a piece of the passage's own text, cut
//! between tokens; nothing of the text is lost.

use actors::types::{Document, DocumentId};
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
}

impl Chunker {
    /// Chunks of at most `tokens` ≥ 1 tokens of text, each sharing `overlap` < `tokens` with the one
    /// before.
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
        Ok(Self { tokenizer, tokens, overlap })
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
        let offsets = encoding.get_offsets();
        let mut frame = document.clone();
        frame.text.clear();
        let mut chunks = Vec::new();
        let mut first = 0;
        loop {
            let end = (first + self.tokens).min(offsets.len());
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
            first = end - self.overlap;
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
        Document { id: "p".into(), title: "T".to_owned(), text: text.to_owned() }
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

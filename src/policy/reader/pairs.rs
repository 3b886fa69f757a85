//! A question and a document as one token sequence, with the way back to the text.
//!
//! Layout: `[CLS] question [SEP] title. text [SEP]`, token types 0 and 1, only the passage is cut to
//! fit. Knows no model.

use super::spans::Span;
use super::{ReaderArgs, ReaderError};
use crate::policy::encoder::{EncoderConfig, Sequence};
use actors::types::Document;
use std::borrow::Cow;
use std::collections::HashMap;
use tokenizers::Tokenizer;

/// `[CLS]`, `[SEP]`, `[SEP]`.
const SPECIALS: usize = 3;
/// Bytes of passage tokenised for each token that fits: ample for prose (four to six), and a bound
/// on the work that a book-sized document can cause.
const BYTES_PER_TOKEN: usize = 32;

/// One encoded pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Ids and types.
    pub sequence: Sequence,
    /// Position of the first passage token in the sequence.
    pub passage_start: usize,
    /// Bytes of each passage token in the passage text (see [`passage_text`]).
    pub offsets: Vec<(usize, usize)>,
}

impl Pair {
    /// The answer as the document spells it.
    pub fn text(&self, document: &Document, span: Span) -> String {
        let text = passage_text(document);
        let first = self.offsets.get(span.first).map_or(0, |offset| offset.0);
        let last = self.offsets.get(span.last).map_or(0, |offset| offset.1);
        text.get(first..last).unwrap_or_default().to_owned()
    }
}

/// What is read of a document: `title. text`, or the text alone where there is no title.
pub fn passage_text(document: &Document) -> Cow<'_, str> {
    if document.title.is_empty() {
        return Cow::Borrowed(&document.text);
    }
    Cow::Owned(format!("{}. {}", document.title, document.text))
}

/// Turns pairs into sequences.
#[derive(Debug)]
pub struct PairEncoder {
    tokenizer: Tokenizer,
    cls: u32,
    sep: u32,
    max_tokens: usize,
    max_question_tokens: usize,
    max_question_bytes: usize,
}

impl PairEncoder {
    /// Checks that the limits leave room for a passage and the model has that many positions.
    pub fn new(
        tokenizer: Tokenizer,
        config: &EncoderConfig,
        args: &ReaderArgs,
    ) -> Result<Self, ReaderError> {
        let wrong = |name, value, expected| Err(ReaderError::Argument { name, value, expected });
        let limit = config.max_position_embeddings;
        if args.max_tokens > limit {
            let expected = format!("at most {limit}, the model's positions");
            return wrong("max_tokens", args.max_tokens, expected);
        }
        let room = args.max_tokens.saturating_sub(SPECIALS + 1);
        if args.max_question_tokens == 0 || args.max_question_tokens > room {
            let expected = format!("1 to {room}, so that max_tokens leaves room for a passage");
            return wrong("max_question_tokens", args.max_question_tokens, expected);
        }
        let special = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| ReaderError::Tokenizer(format!("it has no `{token}` token")))
        };
        Ok(Self {
            cls: special("[CLS]")?,
            sep: special("[SEP]")?,
            tokenizer,
            max_tokens: args.max_tokens,
            max_question_tokens: args.max_question_tokens,
            max_question_bytes: args.max_question_bytes,
        })
    }

    /// Encodes pairs in order; a question that repeats is tokenised once.
    pub fn encode_all(&self, pairs: &[(&str, &Document)]) -> Result<Vec<Pair>, ReaderError> {
        let mut questions: HashMap<&str, Vec<u32>> = HashMap::new();
        let mut encoded = Vec::with_capacity(pairs.len());
        for (question, document) in pairs {
            if !questions.contains_key(question) {
                questions.insert(question, self.question(question)?);
            }
            let Some(ids) = questions.get(question) else { continue };
            encoded.push(self.pair(ids, document)?);
        }
        Ok(encoded)
    }

    fn question(&self, question: &str) -> Result<Vec<u32>, ReaderError> {
        let limit = self.max_question_bytes;
        if question.len() > limit {
            return Err(ReaderError::QuestionTooLong { bytes: question.len(), limit });
        }
        let mut ids = self.tokenise(question)?.get_ids().to_vec();
        if ids.is_empty() {
            return Err(ReaderError::EmptyQuestion);
        }
        ids.truncate(self.max_question_tokens);
        Ok(ids)
    }

    fn pair(&self, question: &[u32], document: &Document) -> Result<Pair, ReaderError> {
        let text = passage_text(document);
        let head = &text[..text.floor_char_boundary(self.max_tokens * BYTES_PER_TOKEN)];
        let encoding = self.tokenise(head)?;
        let room = self.max_tokens.saturating_sub(question.len() + SPECIALS);
        let kept = encoding.len().min(room);
        let passage_start = question.len() + 2;
        let mut ids = Vec::with_capacity(passage_start + kept + 1);
        ids.push(self.cls);
        ids.extend_from_slice(question);
        ids.push(self.sep);
        ids.extend_from_slice(&encoding.get_ids()[..kept]);
        ids.push(self.sep);
        let types = (0..ids.len()).map(|at| u32::from(at >= passage_start)).collect();
        Ok(Pair {
            sequence: Sequence { ids, types },
            passage_start,
            offsets: encoding.get_offsets()[..kept].to_vec(),
        })
    }

    fn tokenise(&self, text: &str) -> Result<tokenizers::Encoding, ReaderError> {
        self.tokenizer
            .encode(text, false)
            .map_err(|error| ReaderError::Tokenizer(error.to_string()))
    }
}

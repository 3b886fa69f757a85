//! monoT5's input: `Query: {q} Document: {d} Relevant:` and the end of the sequence.
//!
//! Every part is tokenised on its own and put together as tokens. Words of SentencePiece begin with
//! their space, so the ids are those of the whole text; and what is cut is the document alone, for a
//! model that does not see `Relevant:` was never asked. Knows no weights.

use super::{MonoT5Args, MonoT5Error};
use crate::policy::reader::passage_text;
use actors::types::Document;
use tokenizers::Tokenizer;

/// Bytes of text tokenised for each token that is kept: ample for prose, and a bound on the work
/// that a book-sized document can cause.
const BYTES_PER_TOKEN: usize = 32;
/// Tokens that a document must have room for.
const ROOM: usize = 1;

/// Turns texts into ids.
#[derive(Debug)]
pub struct InputEncoder {
    tokenizer: Tokenizer,
    /// `Document:`
    before: Vec<u32>,
    /// `Relevant:` and the end.
    pub(super) after: Vec<u32>,
    max_tokens: usize,
    max_query_tokens: usize,
}

impl InputEncoder {
    /// `eos`: the id that ends a sequence.
    ///
    /// # Errors
    /// Limits that leave no room for a document.
    pub fn new(mut tokenizer: Tokenizer, eos: u32, args: &MonoT5Args) -> Result<Self, MonoT5Error> {
        tokenizer.with_padding(None);
        let failed = |error: tokenizers::Error| MonoT5Error::Tokenizer(error.to_string());
        tokenizer.with_truncation(None).map_err(failed)?;
        let mut made = Self {
            tokenizer,
            before: Vec::new(),
            after: Vec::new(),
            max_tokens: args.max_tokens,
            max_query_tokens: args.max_query_tokens,
        };
        made.before = made.ids("Document:")?;
        made.after = made.ids("Relevant:")?;
        made.after.push(eos);
        let fixed = made.ids("Query:")?.len() + made.before.len() + made.after.len();
        let (name, value) = ("max_query_tokens", args.max_query_tokens);
        if value == 0 {
            let expected = "a number above 0".to_owned();
            return Err(MonoT5Error::Argument { name, value, expected });
        }
        let least = fixed + args.max_query_tokens + ROOM;
        if args.max_tokens < least {
            let (name, value) = ("max_tokens", args.max_tokens);
            let expected = format!("{least} at least, with max_query_tokens as they are");
            return Err(MonoT5Error::Argument { name, value, expected });
        }
        Ok(made)
    }

    /// Ids of each document's input, in order; none longer than the limit, each with its end.
    ///
    /// # Errors
    /// A query without a token, or a tokenizer that fails.
    pub fn encode(
        &self,
        query: &str,
        documents: &[&Document],
    ) -> Result<Vec<Vec<u32>>, MonoT5Error> {
        let lead = self.ids("Query:")?.len();
        let query = head(query.trim(), self.max_query_tokens);
        let mut start = self.ids(&format!("Query: {query}"))?;
        if query.is_empty() || start.len() <= lead {
            return Err(MonoT5Error::EmptyQuery);
        }
        start.truncate(lead + self.max_query_tokens);
        start.extend(&self.before);
        let room = self.max_tokens.saturating_sub(start.len() + self.after.len());
        let mut inputs = Vec::with_capacity(documents.len());
        for document in documents {
            let text = passage_text(document);
            let mut ids = start.clone();
            ids.extend(self.ids(head(&text, room))?.into_iter().take(room));
            ids.extend(&self.after);
            inputs.push(ids);
        }
        Ok(inputs)
    }

    /// Ids of a part, without what a tokenizer puts at the end of a text.
    fn ids(&self, text: &str) -> Result<Vec<u32>, MonoT5Error> {
        let encoding = self.tokenizer.encode(text, false);
        let encoding = encoding.map_err(|error| MonoT5Error::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The start of a text, far more than so many tokens.
fn head(text: &str, tokens: usize) -> &str {
    &text[..text.floor_char_boundary(tokens.saturating_mul(BYTES_PER_TOKEN))]
}

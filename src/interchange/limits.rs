//! Lengths of exported examples: how they are counted, and what gives way.
//!
//! Passages are cut, all to one length where it must be; the instruction and the query never are. A
//! selection loses whole names from its end, an answer whole tokens. Counts leave out what a chat
//! template adds. Knows no file.

use super::selection::format_selection;
use super::wording::{Passage, Prompt, Role};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Times that a prompt is built anew until it fits: joining texts may add tokens at the seams.
const ROUNDS_MAX: usize = 16;

/// Why lengths cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The tokenizer cannot be loaded.
    #[error("cannot load the tokenizer `{path}`: {reason}; expected a tokenizer.json")]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It fails on a text.
    #[error("cannot tokenise a text to measure it: {0}")]
    Tokenise(String),
}

/// What a token is.
#[derive(Debug)]
pub enum Tokens {
    /// A run of letters between white space: a stand-in where no tokenizer is given; a word of
    /// English is about 1.3 tokens of a language model.
    Words,
    /// What the tokenizer of the model to be trained makes of a text.
    Tokenizer(Box<Tokenizer>),
}

impl Tokens {
    /// Loads a `tokenizer.json`, by its path or by the folder that holds it.
    ///
    /// # Errors
    /// The file cannot be read or is no tokenizer.
    pub fn load(path: &Path) -> Result<Self, LimitError> {
        let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
        let failed = |reason: String| LimitError::Load { path: path.clone(), reason };
        let mut tokenizer = Tokenizer::from_file(&path).map_err(|e| failed(e.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| failed(e.to_string()))?;
        Ok(Self::Tokenizer(Box::new(tokenizer)))
    }

    /// `words` or `tokenizer`.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Tokenizer(_) => "tokens",
        }
    }

    /// Length of a text, specials left out.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn count(&self, text: &str) -> Result<usize, LimitError> {
        match self {
            Self::Words => Ok(text.split_whitespace().count()),
            Self::Tokenizer(tokenizer) => Ok(encode(tokenizer, text)?.len()),
        }
    }

    /// The start of a text that is at most `tokens` long.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn cut<'a>(&self, text: &'a str, tokens: usize) -> Result<&'a str, LimitError> {
        let end = match self {
            Self::Words => {
                let last = text.split_whitespace().take(tokens).last();
                // Every word is a slice of `text`, so its place is the distance of the two starts.
                last.map_or(0, |word| word.as_ptr() as usize - text.as_ptr() as usize + word.len())
            }
            Self::Tokenizer(tokenizer) => {
                let encoding = encode(tokenizer, text)?;
                if encoding.len() <= tokens {
                    return Ok(text.trim_end());
                }
                let last = tokens.checked_sub(1).and_then(|at| encoding.get_offsets().get(at));
                last.map_or(0, |(_, end)| *end)
            }
        };
        Ok(text.get(..text.floor_char_boundary(end)).unwrap_or_default().trim_end())
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<tokenizers::Encoding, LimitError> {
    tokenizer.encode(text, false).map_err(|error| LimitError::Tokenise(error.to_string()))
}

/// Longest prompt and completion, in [`Tokens`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// System and user turn together, ≥ 1.
    pub max_prompt_tokens: usize,
    /// Selection or answer, ≥ 1.
    pub max_completion_tokens: usize,
}

impl Default for Limits {
    /// A context of 8,192 tokens, DynamicRAG's, with its 200 tokens of answer set aside.
    fn default() -> Self {
        Self { max_prompt_tokens: 7_992, max_completion_tokens: 200 }
    }
}

/// What fits, and whether something had to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted<T> {
    /// What is left.
    pub value: T,
    /// Whether it is less than was asked for.
    pub is_cut: bool,
}

impl Limits {
    /// A prompt that is short enough; `None` where its instruction, query and one token a passage
    /// are not.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn prompt(
        &self,
        tokens: &Tokens,
        (role, query): (Role, &str),
        passages: &[Passage<'_>],
    ) -> Result<Option<Fitted<Prompt>>, LimitError> {
        let max = self.max_prompt_tokens;
        let whole = Prompt::new(role, query, passages);
        if length(tokens, &whole)? <= max {
            return Ok(Some(Fitted { value: whole, is_cut: false }));
        }
        let bare: Vec<Passage<'_>> =
            passages.iter().map(|p| Passage { title: p.title, text: "" }).collect();
        let fixed = length(tokens, &Prompt::new(role, query, &bare))?;
        let mut lengths = Vec::with_capacity(passages.len());
        for passage in passages {
            lengths.push(tokens.count(passage.text)?);
        }
        let mut room = max.saturating_sub(fixed);
        for _ in 0..ROUNDS_MAX {
            let cap = common_length(&lengths, room);
            if cap == 0 {
                return Ok(None);
            }
            let mut cut = Vec::with_capacity(passages.len());
            for passage in passages {
                let text = tokens.cut(passage.text, cap)?;
                cut.push(Passage { title: passage.title, text });
            }
            let prompt = Prompt::new(role, query, &cut);
            let over = length(tokens, &prompt)?.saturating_sub(max);
            if over == 0 {
                return Ok(Some(Fitted { value: prompt, is_cut: true }));
            }
            // At least one token a passage less, so that the common length falls.
            room = room.saturating_sub(over.max(passages.len()));
        }
        Ok(None)
    }

    /// A selection that is short enough, by leaving off its end; `None` where not even one name of
    /// several is.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn selection(
        &self,
        tokens: &Tokens,
        order: &[u32],
    ) -> Result<Option<Fitted<String>>, LimitError> {
        for kept in (order.len().min(1)..=order.len()).rev() {
            let text = format_selection(&order[..kept]);
            if tokens.count(&text)? <= self.max_completion_tokens {
                return Ok(Some(Fitted { value: text, is_cut: kept < order.len() }));
            }
        }
        Ok(None)
    }

    /// An answer that is short enough; `None` where nothing is left of it.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn answer(
        &self,
        tokens: &Tokens,
        answer: &str,
    ) -> Result<Option<Fitted<String>>, LimitError> {
        let whole = answer.trim();
        let text = tokens.cut(whole, self.max_completion_tokens)?;
        let is_cut = text.len() < whole.len();
        Ok((!text.is_empty()).then(|| Fitted { value: text.to_owned(), is_cut }))
    }
}

/// Length of all that is before the completion.
fn length(tokens: &Tokens, prompt: &Prompt) -> Result<usize, LimitError> {
    tokens.count(&prompt.flat())
}

/// The largest length c such that texts of these lengths, each cut to c, take `room` in all.
fn common_length(lengths: &[usize], room: usize) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let mut room = room;
    for (at, length) in sorted.iter().enumerate() {
        let share = room / (sorted.len() - at);
        if *length > share {
            return share;
        }
        room -= length;
    }
    sorted.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::policy::fixture::write_tiny_model;
    use proptest::prelude::*;

    fn limits(max_prompt_tokens: usize, max_completion_tokens: usize) -> Limits {
        Limits { max_prompt_tokens, max_completion_tokens }
    }

    #[test]
    fn the_longest_texts_give_way_first() {
        // 2 + 4 + 4 = 10: the short one stays whole, the others share what is left.
        assert_eq!(common_length(&[2, 9, 9], 10), 4);
        assert_eq!(common_length(&[9, 2, 9], 11), 4);
        assert_eq!(common_length(&[3, 3], 100), 3);
        assert_eq!(common_length(&[5, 5], 1), 0);
        assert_eq!(common_length(&[], 5), 0);
    }

    #[test]
    fn passages_are_cut_and_the_instruction_is_not() {
        let long = "word ".repeat(50);
        let passages =
            [Passage { title: "a", text: &long }, Passage { title: "b", text: "three words only" }];
        let task = (Role::Reranker, "which of them is it?");
        let whole = Prompt::new(task.0, task.1, &passages);
        let all = length(&Tokens::Words, &whole).unwrap();
        let fitted = limits(all - 20, 10).prompt(&Tokens::Words, task, &passages).unwrap().unwrap();
        assert!(fitted.is_cut);
        assert_eq!(length(&Tokens::Words, &fitted.value).unwrap(), all - 20);
        assert_eq!(fitted.value.instruction, whole.instruction);
        assert!(fitted.value.input.ends_with("three words only"), "{}", fitted.value.input);
        let fitted = limits(all, 10).prompt(&Tokens::Words, task, &passages).unwrap().unwrap();
        assert_eq!((fitted.value, fitted.is_cut), (whole, false));
        assert_eq!(limits(20, 10).prompt(&Tokens::Words, task, &passages).unwrap(), None);
    }

    #[test]
    fn a_selection_loses_whole_names_and_an_answer_its_end() {
        let two = limits(100, 2);
        let cut = two.selection(&Tokens::Words, &[4, 2, 0]).unwrap().unwrap();
        assert_eq!((cut.value.as_str(), cut.is_cut), ("[5], [3]", true));
        let none = two.selection(&Tokens::Words, &[]).unwrap().unwrap();
        assert_eq!((none.value.as_str(), none.is_cut), ("None", false));
        assert_eq!(limits(1, 0).selection(&Tokens::Words, &[4]).unwrap(), None);
        let cut = two.answer(&Tokens::Words, " the White Nile ").unwrap().unwrap();
        assert_eq!((cut.value.as_str(), cut.is_cut), ("the White", true));
        assert_eq!(two.answer(&Tokens::Words, "  ").unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn what_is_cut_by_a_tokenizer_is_a_start_of_the_text_and_short_enough(
            text in "[a-zé ,.]{0,60}", most in 0_usize..30,
        ) {
            let folder = tempfile::tempdir().unwrap();
            write_tiny_model(folder.path(), 1).unwrap();
            let tokens = Tokens::load(folder.path()).unwrap();
            let cut = tokens.cut(&text, most).unwrap();
            prop_assert!(text.starts_with(cut));
            prop_assert!(tokens.count(cut).unwrap() <= most);
        }
    }
}

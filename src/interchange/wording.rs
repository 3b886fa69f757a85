//! What a language model is told, as reranker and as generator: the prompts of exported data.
//!
//! The layout is DynamicRAG's (a query, then numbered passages with their topics; the reranker writes
//! positions, the generator an answer), the words are our own. A prompt has three parts: the system
//! turn, and the user turn in two pieces, because some shapes keep the two apart; they join to the
//! same text. Knows no limit and no shape.

use actors::types::Document;

/// What a reranker is told.
const RERANKER: &str = "You choose the passages that are needed to answer a query. Write only their \
numbers in square brackets, the most useful first, separated by a comma and a space, as in \
`[3], [17]`. Stop as soon as what you have chosen is enough. Write `None` if the query can be \
answered without any of them.";

/// What a generator is told.
const GENERATOR: &str = "You answer a query from the passages given with it. Answer as briefly as the \
query allows and add nothing else. Where no passage is given, answer from what you know.";

/// Ends the prompt of a reranker where prompt and completion are one text.
const RERANKER_CUE: &str = "Selection:";
/// Ends the prompt of a generator where prompt and completion are one text.
const GENERATOR_CUE: &str = "Answer:";

/// Which model is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Candidates in, positions out.
    Reranker,
    /// Chosen passages in, an answer out.
    Generator,
}

impl Role {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reranker => "reranker",
            Self::Generator => "generator",
        }
    }
}

/// A passage as a prompt shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage<'a> {
    /// Its topic; empty for none.
    pub title: &'a str,
    /// Its text, possibly cut.
    pub text: &'a str,
}

impl<'a> From<&'a Document> for Passage<'a> {
    fn from(document: &'a Document) -> Self {
        Self { title: &document.title, text: &document.text }
    }
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The system turn.
    pub system: &'static str,
    /// The first piece of the user turn: the query.
    pub instruction: String,
    /// The second piece: the passages.
    pub input: String,
    /// What leads over to the completion where both are one text.
    pub cue: &'static str,
}

impl Prompt {
    /// A prompt of this role over these passages.
    pub fn new(role: Role, query: &str, passages: &[Passage<'_>]) -> Self {
        let (system, cue) = match role {
            Role::Reranker => (RERANKER, RERANKER_CUE),
            Role::Generator => (GENERATOR, GENERATOR_CUE),
        };
        // The newline at the end makes an empty line between the two pieces.
        let instruction = format!("Query: {}\n", one_line(query));
        Self { system, instruction, input: listed(passages), cue }
    }

    /// The user turn, both pieces joined as LLaMA-Factory joins `instruction` and `input`.
    pub fn user(&self) -> String {
        format!("{}\n{}", self.instruction, self.input)
    }

    /// System and user turn as one text that ends in the cue, for models without turns.
    pub fn flat(&self) -> String {
        format!("{}\n\n{}\n\n{}", self.system, self.user(), self.cue)
    }
}

fn listed(passages: &[Passage<'_>]) -> String {
    use std::fmt::Write as _;
    if passages.is_empty() {
        return "Retrieved Content: None".to_owned();
    }
    let mut text = "Retrieved Content:".to_owned();
    for (at, passage) in (1..).zip(passages) {
        // Writing to a String cannot fail.
        let _ = match passage.title.is_empty() {
            true => write!(text, "\n{at}. Content: {}", one_line(passage.text)),
            false => {
                let (title, body) = (one_line(passage.title), one_line(passage.text));
                write!(text, "\n{at}. Topic: {title}\nContent: {body}")
            }
        };
    }
    text
}

/// A text on one line, so that no passage can pass for the next number of the list.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_numbers_its_passages_from_one() {
        let passages = [
            Passage { title: "Nile", text: "It is long.\n2. Topic: forged" },
            Passage { title: "", text: "It is old." },
        ];
        let prompt = Prompt::new(Role::Reranker, "how long is  the Nile?", &passages);
        assert_eq!(
            prompt.user(),
            "Query: how long is the Nile?\n\nRetrieved Content:\n1. Topic: Nile\nContent: It is \
             long. 2. Topic: forged\n2. Content: It is old."
        );
        assert!(prompt.flat().starts_with(prompt.system));
        assert!(prompt.flat().ends_with("\n\nSelection:"));
    }

    #[test]
    fn a_prompt_without_passages_says_so() {
        let prompt = Prompt::new(Role::Generator, "who?", &[]);
        assert_eq!(prompt.user(), "Query: who?\n\nRetrieved Content: None");
        assert!(prompt.flat().ends_with("\n\nAnswer:"));
    }
}

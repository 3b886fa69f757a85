//! What an answer was worth: one scorer a file, and their weighted sum.
//!
//! Pure functions of text and counts. Knows no port, model or store. An answer to a question that
//! is known to have none is right when it is empty: see [`UNANSWERABLE`].

mod blend;
mod cost;
mod evidence;
mod exact_match;
mod length;
mod rouge_l;
mod similarity;
mod text;
mod token_f1;

pub use blend::{Blend, BlendError, Subject};
pub use cost::{Prices, context_cost, document_cost, retrieval_cost};
pub use evidence::{Evidence, Given, mean};
pub use exact_match::exact_match;
pub use length::length;
pub use rouge_l::rouge_l;
pub use similarity::{HashedNgrams, Match, TokenVectors, greedy_match, similarity};
pub use text::normalise;
pub use token_f1::token_f1;

use actors::types::{Feedback, Query};

/// Key of the query's metadata that says, with the value `true`, that the question is known to have
/// no answer: references are empty on purpose then, and the right answer is the empty text.
pub const UNANSWERABLE: &str = "unanswerable";

/// Key of the query's metadata that says what kind of answer is wanted: [`LONG`], [`LABEL`], or a
/// few words where it is absent.
pub const ANSWER_TYPE: &str = "answer_type";
/// Value of [`ANSWER_TYPE`]: a paragraph (ELI5, ASQA).
pub const LONG: &str = "long";
/// Value of [`ANSWER_TYPE`]: one of the labels of [`LABELS`] (FEVER).
pub const LABEL: &str = "label";
/// Key of the query's metadata with the labels to choose from, separated by commas.
pub const LABELS: &str = "labels";

/// Whether a query is marked as having no answer.
pub fn is_unanswerable(query: &Query) -> bool {
    query.metadata.get(UNANSWERABLE).is_some_and(|value| value == "true")
}

/// The references an answer can be compared with: the query's own, else those given as feedback,
/// each once, oldest first.
pub fn known_references(query: &Query, feedback: &[Feedback]) -> Vec<String> {
    if !query.references.is_empty() || is_unanswerable(query) {
        return query.references.clone();
    }
    let mut known: Vec<String> = Vec::new();
    for reference in feedback.iter().flat_map(|feedback| &feedback.references) {
        if !known.contains(reference) {
            known.push(reference.clone());
        }
    }
    known
}

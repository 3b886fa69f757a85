//! stub

/// Key of the query's metadata that says, with the value `true`, that the question is known to have
/// no answer: references are empty on purpose then, and the right answer is the empty text.
pub const UNANSWERABLE: &str = "unanswerable";

//! List-wise reranking in sliding windows: the loop of RankGPT and RankZephyr.
//!
//! A ranker sees a window of documents at once and orders it; windows slide from the bottom of the
//! list to its top, so that what is good moves up. Source: Sun et al. (RankGPT, 2023), Pradeep et al.
//! (RankZephyr, 2023). Two things differ from the released RankGPT loop: a window that would start
//! above the list starts at its top, so that lists shorter than a window and the first
//! `(n - window) mod stride` places are ranked too; and the loop ends with the window at the top.
//!
//! Owns the windows, the repair of what a ranker says ([`repaired`]), and the policy on top. Knows no
//! model: that is a [`WindowRanker`].

mod encoder;
mod permutation;
mod ranked;
mod trace;

pub use encoder::EncoderWindows;
pub use permutation::{is_permutation, permutation_of, repaired};
pub use ranked::ListwisePolicy;
pub use trace::{Trace, TraceError};

use actors::types::Document;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

/// The loop's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListwiseArgs {
    /// Documents a ranker sees at once, ≥ 2.
    pub window: usize,
    /// Places from one window to the next, from 1 to `window`. One pass carries a document over a
    /// boundary only within the first `window - stride` places of a window: so many places at the
    /// top can be trusted.
    pub stride: usize,
    /// Words kept of a document, ≥ 1.
    pub words_max: usize,
    /// Passes over the list, from 1 to 10; more than one for a deeper order.
    pub passes: usize,
}

impl Default for ListwiseArgs {
    fn default() -> Self {
        Self { window: 20, stride: 10, words_max: 300, passes: 1 }
    }
}

/// Passes that make sense: after `n / (window - stride)` nothing moves any more.
const PASSES_MAX: usize = 10;

impl ListwiseArgs {
    /// Checks every value; `Err` names the first field that is wrong and what it may be.
    ///
    /// # Errors
    /// `(field, what was expected)`.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.window < 2 {
            return Err(("window", "a number from 2".to_owned()));
        }
        if !(1..=self.window).contains(&self.stride) {
            return Err(("stride", format!("a number from 1 to the window, {}", self.window)));
        }
        if self.words_max == 0 {
            return Err(("words_max", "a number above 0".to_owned()));
        }
        if !(1..=PASSES_MAX).contains(&self.passes) {
            return Err(("passes", format!("a number from 1 to {PASSES_MAX}")));
        }
        Ok(())
    }
}

/// Why a window was not ranked; it keeps its order then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The window is at fault; asking again does not help.
    #[error("cannot rank a window of documents: {0}")]
    Refused(String),
    /// Whoever ranks is away or failed.
    #[error("cannot rank a window of documents now: {0}")]
    Unavailable(String),
    /// What was said names no document of the window.
    #[error("cannot rank a window of documents: the reply names none of them")]
    NoPermutation,
}

/// Orders the documents of one window.
#[async_trait]
pub trait WindowRanker: Send + Sync {
    /// Places in `window`, best first, counted from 0. The loop repairs what is missing, repeated or
    /// out of range, so an adapter passes on what was said.
    ///
    /// # Errors
    /// Why there is no order; the loop then keeps the one it has.
    async fn rank(&self, query: &str, window: &[&Document]) -> Result<Vec<usize>, WindowError>;
}

/// What the loop made of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Reranked {
    /// (n) places in the list as given, best first; each once.
    pub order: Vec<usize>,
    /// Windows the ranker was asked about.
    pub calls: usize,
    /// Of these, answers that had to be repaired.
    pub repaired: usize,
    /// Of these, windows that kept their order because there was no answer.
    pub failed: usize,
    /// The last reason of those.
    pub failure: Option<WindowError>,
}

impl Reranked {
    /// Scores for the new order: they stay with the slot, not with the document, so that they fall
    /// as they fell before.
    ///
    /// `slots`: (n) scores of the list as given.
    pub fn slot_scores(&self, slots: &[f32]) -> Vec<f32> {
        let mut scores = vec![f32::NEG_INFINITY; slots.len()];
        for (slot, place) in self.order.iter().enumerate() {
            if let (Some(score), Some(value)) = (scores.get_mut(*place), slots.get(slot)) {
                *score = *value;
            }
        }
        scores
    }
}

/// The windows of one pass over n documents, in the order they are ranked: bottom up, the last one
/// starts at 0, and every place is in one.
///
/// A list of n > window documents has `ceil((n - window) / stride) + 1` windows: 9 for 100.
pub fn windows(n: usize, window: usize, stride: usize) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut end = n;
    while end > 0 {
        let start = end.saturating_sub(window);
        spans.push(start..end);
        if start == 0 {
            break;
        }
        // A stride of 0 or beyond the window would not end, or leave places out.
        end -= stride.clamp(1, window.max(1));
    }
    spans
}

/// Ranks a list window by window. One document needs no ranker; a window that fails keeps its
/// order and is counted.
///
/// # Panics
/// Never; `args` out of bounds are clamped to what ends.
pub async fn rerank(
    ranker: &dyn WindowRanker,
    query: &str,
    documents: &[&Document],
    args: ListwiseArgs,
) -> Reranked {
    let cut: Vec<Cow<'_, Document>> =
        documents.iter().map(|document| shortened(document, args.words_max)).collect();
    let mut made = Reranked {
        order: (0..documents.len()).collect(),
        calls: 0,
        repaired: 0,
        failed: 0,
        failure: None,
    };
    if documents.len() < 2 {
        return made;
    }
    for _ in 0..args.passes.min(PASSES_MAX) {
        for span in windows(documents.len(), args.window, args.stride) {
            let places = made.order[span.clone()].to_vec();
            let window: Vec<&Document> = places.iter().map(|place| &*cut[*place]).collect();
            made.calls += 1;
            match ranker.rank(query, &window).await {
                Ok(said) => {
                    made.repaired += usize::from(!is_permutation(&said, window.len()));
                    let order = repaired(said, window.len());
                    for (slot, from) in span.zip(order) {
                        made.order[slot] = places[from];
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a window of documents keeps its order");
                    made.failed += 1;
                    made.failure = Some(error);
                }
            }
        }
    }
    made
}

/// The document with the first `words_max` words of its text, single spaces between them.
fn shortened(document: &Document, words_max: usize) -> Cow<'_, Document> {
    if document.text.split_whitespace().nth(words_max).is_none() {
        return Cow::Borrowed(document);
    }
    let words: Vec<&str> = document.text.split_whitespace().take(words_max).collect();
    Cow::Owned(Document { text: words.join(" "), ..document.clone() })
}

#[cfg(test)]
mod tests;

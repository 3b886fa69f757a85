//! The best answer span of one passage.

/// Longest distance between the first and the last token of an answer.
pub(super) const LONGEST_STEP: usize = 15;

/// How far below "no answer" the span score of a passage without tokens is put: beyond any margin
/// the model gives, and still a number that features can hold.
pub(super) const EMPTY_MARGIN: f32 = 30.0;

/// Token positions within a passage, both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// First token.
    pub first: usize,
    /// Last token, at most 15 after the first.
    pub last: usize,
    /// Start logit plus end logit.
    pub score: f32,
}

/// The span i <= j <= i + 15 with the largest start_i + end_j; the earliest of equals.
///
/// `logits` (P, 2): start and end of each passage token. `None` where there is no token.
pub fn best_span(logits: &[Vec<f32>]) -> Option<Span> {
    let mut best: Option<Span> = None;
    for (first, start) in logits.iter().enumerate() {
        for (step, end) in logits[first..].iter().take(LONGEST_STEP + 1).enumerate() {
            let score = start[0] + end[1];
            if best.is_none_or(|best| score > best.score) {
                best = Some(Span { first, last: first + step, score });
            }
        }
    }
    best
}

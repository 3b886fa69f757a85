//! The conservation laws as pure predicates over counters: asserted by tests and simulations, and
//! watched in production.
//!
//! Floor 0. Knows numbers only; the actors' `Observed` structures say how to call them.

/// Accepted queries are answered, failed with a reason, or in flight.
pub fn queries_are_conserved(accepted: u64, answered: u64, failed: u64, in_flight: u64) -> bool {
    accepted == answered + failed + in_flight
}

/// Every decision served is in the log.
pub fn decisions_are_logged(served: u64, logged: u64) -> bool {
    served <= logged
}

/// Episodes read are failed (there is nothing to judge) or a task for the judge; every task ends
/// judged, abstained, given up, or expired, or is pending.
pub fn episodes_are_conserved(episodes: u64, ends: &EpisodeEnds) -> bool {
    let over = ends.judged + ends.abstained + ends.given_up + ends.expired;
    episodes == ends.failed + over + ends.pending
}

/// How episodes end at the judge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EpisodeEnds {
    /// With a reward.
    pub judged: u64,
    /// The judge cannot tell.
    pub abstained: u64,
    /// The judge failed as often as it may.
    pub given_up: u64,
    /// Nothing to judge by within the window.
    pub expired: u64,
    /// There was no answer to judge.
    pub failed: u64,
    /// Not at an end yet.
    pub pending: u64,
}

/// Feedback read is joined, revises a verdict, is refused, about nothing known, a duplicate, or waits.
pub fn feedback_is_conserved(feedback: u64, fates: &FeedbackFates) -> bool {
    let used = fates.joined + fates.revised;
    feedback == used + fates.refused + fates.unknown_decision + fates.duplicate + fates.early
}

/// What becomes of feedback at the judge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeedbackFates {
    /// Joined to its pending episode.
    pub joined: u64,
    /// Its decision had its verdict, which it revises.
    pub revised: u64,
    /// Its decision has as much as it may, or cannot be judged.
    pub refused: u64,
    /// Its decision never appeared.
    pub unknown_decision: u64,
    /// Its decision has it already.
    pub duplicate: u64,
    /// Waits for its episode to appear, or to be looked up.
    pub early: u64,
}

/// A sample may be trained on: it names a logged decision whose propensity is above 0.
pub fn sample_is_trainable(log_prob: f64) -> bool {
    log_prob.is_finite() && log_prob <= 1e-9
}

//! What the judge counts, and the laws that its counters keep.

use crate::invariants::{
    EpisodeEnds, FeedbackFates, episodes_are_conserved, feedback_is_conserved,
};
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Counters; part of the derived state, so they count over restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Episodes read, repeats left out.
    pub episodes: u64,
    /// Repeats of an episode.
    pub episode_duplicates: u64,
    /// Episodes with a reward.
    pub judged: u64,
    /// Episodes the judge abstained on.
    pub abstained: u64,
    /// Episodes given up after the judge had failed as often as it may.
    #[serde(default)]
    pub given_up: u64,
    /// Episodes that waited in vain, those evicted included.
    pub expired: u64,
    /// Of these, the ones that had to go early.
    pub evicted: u64,
    /// Episodes that failed and are not judged.
    pub failed: u64,
    /// Episodes without a verdict so far.
    pub pending: u64,
    /// Feedback read.
    pub feedback: u64,
    /// Feedback joined to its episode before the first verdict.
    pub joined: u64,
    /// Feedback that revised a verdict, or is about to.
    #[serde(default)]
    pub revised: u64,
    /// Verdicts written after the first of a decision.
    #[serde(default)]
    pub revisions: u64,
    /// Feedback on a decision that has its most, or that cannot be judged.
    #[serde(default, alias = "late")]
    pub refused: u64,
    /// Feedback whose episode never came.
    #[serde(alias = "orphan")]
    pub unknown_decision: u64,
    /// Feedback that its decision has already.
    pub duplicate: u64,
    /// Feedback that waits for its episode, or to be looked up.
    pub early: u64,
    /// Feedback stamped by a clock that is ahead.
    #[serde(default)]
    pub ahead: u64,
    /// Judge calls that failed.
    pub retries: u64,
    /// Records that could not be read.
    pub broken: u64,
    /// Feedback that came by a partition other than its decision's, and was sent on.
    #[serde(default)]
    pub forwarded: u64,
    /// Partitions read here.
    #[serde(default)]
    pub partitions: u64,
}

impl AddAssign for Observed {
    fn add_assign(&mut self, other: Self) {
        self.episodes += other.episodes;
        self.episode_duplicates += other.episode_duplicates;
        self.judged += other.judged;
        self.abstained += other.abstained;
        self.expired += other.expired;
        self.evicted += other.evicted;
        self.failed += other.failed;
        self.given_up += other.given_up;
        self.pending += other.pending;
        self.feedback += other.feedback;
        self.joined += other.joined;
        self.revised += other.revised;
        self.revisions += other.revisions;
        self.refused += other.refused;
        self.unknown_decision += other.unknown_decision;
        self.duplicate += other.duplicate;
        self.early += other.early;
        self.ahead += other.ahead;
        self.retries += other.retries;
        self.broken += other.broken;
        self.forwarded += other.forwarded;
        self.partitions += other.partitions;
    }
}

impl Observed {
    /// Whether both conservation laws hold.
    pub fn is_conserved(&self) -> bool {
        let ends = EpisodeEnds {
            judged: self.judged,
            abstained: self.abstained,
            given_up: self.given_up,
            expired: self.expired,
            failed: self.failed,
            pending: self.pending,
        };
        let fates = FeedbackFates {
            joined: self.joined,
            revised: self.revised,
            refused: self.refused,
            unknown_decision: self.unknown_decision,
            duplicate: self.duplicate,
            early: self.early,
        };
        episodes_are_conserved(self.episodes, &ends) && feedback_is_conserved(self.feedback, &fates)
    }
}

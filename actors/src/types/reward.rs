//! What an answer was worth, always with the parts that make it up.

use super::{DecisionId, Episode};
use serde::{Deserialize, Serialize};

/// One term of a reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardPart {
    /// Which scorer: `token_f1`, `exact_match`, `context_cost`, …
    pub name: String,
    /// What it said; quality terms lie in [0, 1], costs are ≥ 0 with a negative weight.
    pub value: f64,
    /// Its weight in the total.
    pub weight: f64,
    /// The votes that `value` is the mean of, where the scorer was asked more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub votes: Option<Votes>,
}

/// How far the votes on one value lie apart: the scorer's own noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Votes {
    /// Votes counted, ≥ 1; those that could not be read are left out.
    pub count: u32,
    /// Standard deviation of one vote, with `count - 1` in the denominator; 0 for one vote.
    pub spread: f64,
}

/// A weighted sum that keeps its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// Σ value · weight; finite.
    pub total: f64,
    /// The terms.
    pub parts: Vec<RewardPart>,
}

impl Reward {
    /// Sums the parts; `None` if any value or weight is not finite, which is an abstention and
    /// never a reward of 0.
    pub fn from_parts(parts: Vec<RewardPart>) -> Option<Self> {
        let total: f64 = parts.iter().map(|p| p.value * p.weight).sum();
        total.is_finite().then_some(Self { total, parts })
    }

    /// The value of one part, if it was scored.
    pub fn part(&self, name: &str) -> Option<f64> {
        self.parts.iter().find(|p| p.name == name).map(|p| p.value)
    }
}

/// What a judge says of one episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// A reward.
    Scored {
        /// The reward.
        reward: Reward,
    },
    /// The judge cannot tell; counted, never trained on.
    Abstained {
        /// Why.
        reason: String,
    },
    /// The judge failed as often as it may; counted, never trained on.
    Failed {
        /// The last failure.
        reason: String,
    },
    /// Nothing to judge by arrived within the join window.
    Expired,
}

/// The judge's record in the log: what is known of one decision's worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardRecord {
    /// Schema of this record.
    pub schema: u32,
    /// The decision judged.
    pub decision_id: DecisionId,
    /// Number of this verdict on the decision, from 0; a higher one replaces it everywhere.
    #[serde(default)]
    pub revision: u32,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Reference answers it rests on, if any: the learner may score other selections against them.
    #[serde(default)]
    pub references: Vec<String>,
    /// Name and version of the judge.
    pub judge: String,
    /// When, milliseconds since the Unix epoch.
    pub judged_ms: u64,
}

/// A judged episode: what the replay buffer keeps and the learner trains on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The episode; it has a decision, and an answer unless it was only reranked.
    pub episode: Episode,
    /// Its reward.
    pub reward: Reward,
    /// Reference answers known by then; empty when the reward rests on feedback alone.
    #[serde(default)]
    pub references: Vec<String>,
}

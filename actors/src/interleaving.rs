//! Interleaving: one context from two policies' lists, and which of the two the answer preferred.
//!
//! Floor 1: lists of candidate numbers in, counts out; knows no policy, no document, no actor. Both
//! policies are tried on the same query, so the difference between queries, which is most of what
//! an A/B test has to average away, cancels.
//!
//! # The draft
//! Team draft after Radlinski, Kurup and Joachims (CIKM 2008): in each round a coin says who picks
//! first, each policy adds its best candidate that is not in the context yet, and owns it. Three
//! rules keep it unbiased where the lists may share a beginning and differ in length:
//!
//! - What both lists have at the same rank from the top is placed first and belongs to neither:
//!   either policy alone would have shown it there. Two equal lists tie on every query.
//! - A candidate is owned only if it was drafted in a round in which, however the coin fell, both
//!   policies had one to add. The extra candidates of a longer list find no opponent and belong to
//!   neither, or the longer list would win by being long.
//! - The length of the context is drawn from the lengths of both lists ([`drawn_length`]) by a coin
//!   of its own: `k` is part of a policy's decision, so users see each policy's `k` half of the
//!   time. The coin must not be one of the draft, or length and ownership would depend on each
//!   other.
//!
//! So, whatever has been placed before, each owned position is A's with probability 1/2: an answer
//! that cites by position, or at random, prefers neither. What interleaving cannot say is what the
//! longer list is worth, what it costs, or how much better the winner is; those are left to the
//! rewards of an A/B test.

use rand::Rng;
use serde::{Deserialize, Serialize};

mod preference;

pub use preference::{Outcome, Preference};

/// Whose pick a position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Team {
    /// The first list's.
    A,
    /// The second list's.
    B,
    /// Shared at the top, or drafted without an opponent.
    Neither,
}

/// A context made of two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// Candidates in the order in which they are shown, each once.
    pub order: Vec<u32>,
    /// Whose each of them is; as long as `order`.
    pub team: Vec<Team>,
}

/// The worth that an answer gave to each policy's picks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Credit {
    /// To those of A.
    pub a: f64,
    /// To those of B.
    pub b: f64,
}

impl Credit {
    /// Who wins this query: the policy with more credit by more than `least` (≥ 0: 0 for citations,
    /// about the reward's noise for ablations). Anything else, NaN included, is a tie.
    pub fn outcome(&self, least: f64) -> Outcome {
        if self.a - self.b > least {
            Outcome::AWins
        } else if self.b - self.a > least {
            Outcome::BWins
        } else {
            Outcome::Tie
        }
    }
}

/// The length of the merged context: that of one of the lists, each with probability 1/2.
pub fn drawn_length(a: &[u32], b: &[u32], rng: &mut impl Rng) -> usize {
    if rng.random() { a.len() } else { b.len() }
}

/// Drafts a context of at most `length` candidates from two lists, best first, without repetition
/// within a list. It is shorter only where both lists together hold fewer. See the module for whose
/// each one is. With the same generator state the same context results.
pub fn team_draft(a: &[u32], b: &[u32], length: usize, rng: &mut impl Rng) -> Merged {
    draft(a, b, length, || rng.random())
}

/// The draft on the coins given: `true` lets A pick first.
fn draft(a: &[u32], b: &[u32], length: usize, mut coin: impl FnMut() -> bool) -> Merged {
    let mut merged = Merged::default();
    let shared = a.iter().zip(b).take_while(|(left, right)| left == right).count();
    a[..shared.min(length)].iter().for_each(|item| merged.place(*item, Team::Neither));
    while merged.order.len() < length {
        let (best_a, next_a) = merged.two_best(a);
        let (best_b, next_b) = merged.two_best(b);
        // If both want the same one, whoever comes second needs another.
        let opposed = match (best_a, best_b) {
            (Some(left), Some(right)) if left == right => next_a.is_some() && next_b.is_some(),
            (left, right) => left.is_some() && right.is_some(),
        };
        let (team_a, team_b) =
            if opposed { (Team::A, Team::B) } else { (Team::Neither, Team::Neither) };
        let rounds = if coin() { [(a, team_a), (b, team_b)] } else { [(b, team_b), (a, team_a)] };
        let before = merged.order.len();
        for (list, team) in rounds {
            if let (Some(item), _) = merged.two_best(list)
                && merged.order.len() < length
            {
                merged.place(item, team);
            }
        }
        if merged.order.len() == before {
            break;
        }
    }
    merged
}

impl Merged {
    fn place(&mut self, item: u32, team: Team) {
        self.order.push(item);
        self.team.push(team);
    }

    /// The best and the second best of a list that are not placed yet.
    fn two_best(&self, list: &[u32]) -> (Option<u32>, Option<u32>) {
        let mut left = list.iter().copied().filter(|item| !self.order.contains(item));
        (left.next(), left.next())
    }

    /// Credit by the documents that the answer cites: 1 for each cited position (from 0) of a team.
    /// A position cited twice counts once; one out of the context counts nothing.
    pub fn by_citation(&self, cited: &[usize]) -> Credit {
        let cites = |at: usize| if cited.contains(&at) { 1.0 } else { 0.0 };
        self.credit((0..self.order.len()).map(cites))
    }

    /// Credit by ablation: each team's sum of marginal values, where `marginal[p]` is the reward of
    /// the answer with the whole context less that of the answer without position `p`. Positions
    /// that were not ablated may be left off at the end, or be 0.
    pub fn by_ablation(&self, marginal: &[f64]) -> Credit {
        self.credit(marginal.iter().copied())
    }

    fn credit(&self, worth: impl Iterator<Item = f64>) -> Credit {
        let mut credit = Credit::default();
        for (team, worth) in self.team.iter().zip(worth) {
            match team {
                Team::A => credit.a += worth,
                Team::B => credit.b += worth,
                Team::Neither => {}
            }
        }
        credit
    }
}

#[cfg(test)]
mod tests;

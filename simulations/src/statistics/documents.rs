//! The world in which interleaving is held against A/B: two rankers of documents with planted
//! usefulness, an answer that cites them, a reward.
//!
//! - A query has 20 candidates, each useful with probability 0.15, and is answerable to a degree
//!   that is uniform on [0, 1].
//! - A ranker scores `skill` for a useful document plus logistic noise, of which most is shared by
//!   both rankers (they started from the same weights), and shows its best 5.
//! - The answer is right with probability `answerable (1 - 0.5^u)`, `u` the useful documents shown.
//!   Right answers are worth 1 (60%) or uniform on [0.3, 1]; wrong ones 0 (70%) or uniform on
//!   [0, 0.4].
//! - The answer cites a useful document that it is shown with one probability, a useless one with
//!   another, whatever the reward turns out to be.

use actors::interleaving::{Merged, Outcome, drawn_length, team_draft};
use rand::Rng;

const CANDIDATES: u32 = 20;
const USEFUL: f64 = 0.15;
/// Noise of a ranker's own beside the shared noise of scale 1.
const OWN_NOISE: f64 = 0.5;
/// Share of the failures that one more useful document leaves.
const LEFT: f64 = 0.5;

/// How two rankers differ.
#[derive(Clone, Copy, Debug)]
pub struct Rankers {
    /// What a useful document adds to a score of A and of B.
    pub skill: [f64; 2],
    /// How many documents A and B show, at most 20.
    pub shown: [usize; 2],
}

/// How an answer cites.
#[derive(Clone, Copy, Debug)]
pub struct Citing {
    /// Probability of a useful document shown.
    pub useful: f64,
    /// Probability of a useless document shown.
    pub useless: f64,
}

/// A query with both rankers' lists.
#[derive(Clone, Debug)]
pub struct Query {
    answerable: f64,
    /// Bit `d` is set if document `d` is useful.
    useful: u32,
    /// What A and B would show.
    pub lists: [Vec<u32>; 2],
}

fn logistic(rng: &mut impl Rng) -> f64 {
    let uniform: f64 = rng.random_range(f64::EPSILON..1.0);
    (uniform / (1.0 - uniform)).ln()
}

impl Query {
    /// A query and what both rankers make of it.
    pub fn draw(rankers: &Rankers, rng: &mut impl Rng) -> Self {
        let mut useful = 0;
        let mut scores = [[0.0; CANDIDATES as usize]; 2];
        for document in 0..CANDIDATES {
            let is_useful = rng.random_bool(USEFUL);
            useful |= u32::from(is_useful) << document;
            let shared = logistic(rng);
            for (scores, skill) in scores.iter_mut().zip(rankers.skill) {
                let signal = if is_useful { skill } else { 0.0 };
                scores[document as usize] = signal + shared + OWN_NOISE * logistic(rng);
            }
        }
        let best = |scores: [f64; CANDIDATES as usize], shown: usize| {
            let mut order: Vec<u32> = (0..CANDIDATES).collect();
            let by_score = |x: &u32, y: &u32| scores[*y as usize].total_cmp(&scores[*x as usize]);
            order.sort_unstable_by(by_score);
            order.truncate(shown);
            order
        };
        let lists = [best(scores[0], rankers.shown[0]), best(scores[1], rankers.shown[1])];
        Self { answerable: rng.random(), useful, lists }
    }

    fn is_useful(&self, document: u32) -> bool {
        self.useful >> document & 1 == 1
    }

    /// Probability of a right answer from a context of these documents.
    fn right(&self, context: impl Iterator<Item = u32>) -> f64 {
        let found = context.filter(|document| self.is_useful(*document)).count();
        self.answerable * (1.0 - LEFT.powi(found as i32))
    }

    /// Mean reward of what a ranker (0: A, 1: B) shows.
    pub fn worth(&self, ranker: usize) -> f64 {
        let right = self.right(self.lists[ranker].iter().copied());
        right * (0.6 + 0.4 * 0.65) + (1.0 - right) * 0.3 * 0.2
    }

    /// The reward of an answer from what a ranker shows.
    pub fn reward(&self, ranker: usize, rng: &mut impl Rng) -> f64 {
        let right = self.right(self.lists[ranker].iter().copied());
        reward(rng.random::<f64>() < right, rng)
    }

    /// What the draft of both lists shows.
    pub fn merged(&self, rng: &mut impl Rng) -> Merged {
        let [a, b] = &self.lists;
        team_draft(a, b, drawn_length(a, b, rng), rng)
    }

    /// Who wins by the citations of one answer from the merged context.
    pub fn by_citation(&self, citing: &Citing, rng: &mut impl Rng) -> Outcome {
        let merged = self.merged(rng);
        let cited: Vec<usize> = (0..merged.order.len())
            .filter(|at| {
                let useful = self.is_useful(merged.order[*at]);
                rng.random_bool(if useful { citing.useful } else { citing.useless })
            })
            .collect();
        merged.by_citation(&cited).outcome(0.0)
    }

    /// Who wins by ablation: as many answers again as documents shown, each without one of them. A
    /// query has one luck, so an answer changes only if its context's probability passes it; the
    /// judge adds noise, uniform within 0.1, to every reward. Less than that noise is a tie.
    pub fn by_ablation(&self, rng: &mut impl Rng) -> Outcome {
        let merged = self.merged(rng);
        let luck: f64 = rng.random();
        let judged = |without: Option<usize>, rng: &mut _| {
            let kept = |at: &(usize, &u32)| Some(at.0) != without;
            let context = merged.order.iter().enumerate().filter(kept).map(|(_, item)| *item);
            let worth = if luck < self.right(context) { 1.0 } else { 0.0 };
            worth + Rng::random_range(rng, -0.1..0.1)
        };
        let whole = judged(None, rng);
        let marginal: Vec<f64> =
            (0..merged.order.len()).map(|at| whole - judged(Some(at), rng)).collect();
        merged.by_ablation(&marginal).outcome(0.5)
    }
}

fn reward(is_right: bool, rng: &mut impl Rng) -> f64 {
    match is_right {
        true if rng.random_bool(0.6) => 1.0,
        true => rng.random_range(0.3..1.0),
        false if rng.random_bool(0.7) => 0.0,
        false => rng.random_range(0.0..0.4),
    }
}

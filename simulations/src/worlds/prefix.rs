//! A world in which what a document gives depends on what stands before it.
//!
//! Half of the puzzles take two steps: an answer document gives 0.5 after the bridge and 0.2 without
//! it, the bridge itself 0.1 wherever it stands. The other half have no bridge, and the answer gives
//! 0.5 at once. A distractor takes 0.1, and every document costs 0.04, on top of 0.3. So the best list
//! is bridge then answer, or the answer alone. Document by document the answer is worth more than the
//! bridge, so whoever ranks by single worth puts it first and loses 0.3: only what comes after a
//! prefix tells what the prefix was good for.

use super::lists::{DOCUMENTS, ListWorld};
use rand::Rng as _;
use rand::rngs::StdRng;

/// The kind of the answer document: its column of the states.
pub const ANSWER: usize = 0;
/// The kind of the bridge.
pub const BRIDGE: usize = 1;
/// The kind of a distractor.
pub const DISTRACTOR: usize = 2;
/// The kind of a document that says nothing.
pub const FILLER: usize = 3;

/// Price of a document.
const PRICE: f64 = 0.04;
/// Worth of a list before anything is gained or lost.
const BASE: f64 = 0.3;

/// The world of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Prefix {
    /// Decides every puzzle.
    pub seed: u64,
}

impl ListWorld for Prefix {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn kinds(&self, rng: &mut StdRng) -> [usize; DOCUMENTS] {
        let has_bridge = rng.random_bool(0.5);
        let distractors = rng.random_range(1..=3);
        let mut kinds = [FILLER; DOCUMENTS];
        kinds[0] = ANSWER;
        kinds[1] = if has_bridge { BRIDGE } else { FILLER };
        kinds[2..2 + distractors].fill(DISTRACTOR);
        kinds
    }

    fn worth(&self, all: &[usize; DOCUMENTS], chosen: &[usize]) -> f64 {
        let needs_bridge = all.contains(&BRIDGE);
        let (mut worth, mut is_bridged) = (BASE, !needs_bridge);
        for kind in chosen {
            worth -= PRICE;
            worth += match *kind {
                ANSWER if is_bridged => 0.5,
                ANSWER => 0.2,
                BRIDGE => 0.1,
                DISTRACTOR => -0.1,
                _ => 0.0,
            };
            is_bridged |= *kind == BRIDGE;
        }
        worth
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::super::lists::{Bounds, HELD_OUT, mean_worth, puzzles};
    use super::*;

    #[test]
    fn the_worth_of_a_list_by_hand() {
        let world = Prefix { seed: 1 };
        let two = [ANSWER, BRIDGE, DISTRACTOR, FILLER, FILLER, FILLER];
        let one = [ANSWER, FILLER, DISTRACTOR, FILLER, FILLER, FILLER];
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        near(world.worth(&two, &[BRIDGE, ANSWER]), 0.3 + 0.6 - 0.08);
        near(world.worth(&two, &[ANSWER, BRIDGE]), 0.3 + 0.3 - 0.08);
        near(world.worth(&two, &[ANSWER]), 0.3 + 0.2 - 0.04);
        near(world.worth(&one, &[ANSWER]), 0.3 + 0.5 - 0.04);
        near(world.worth(&one, &[DISTRACTOR, ANSWER]), 0.3 + 0.4 - 0.08);
    }

    #[test]
    fn the_best_list_is_the_bridge_and_the_answer_or_the_answer_alone() {
        let world = Prefix { seed: 3 };
        for puzzle in puzzles(&world, 0, 40).unwrap() {
            let (order, _) = puzzle.best(&world);
            let kinds: Vec<usize> = order.iter().map(|at| puzzle.kinds[*at as usize]).collect();
            let expected: &[usize] =
                if puzzle.kinds.contains(&BRIDGE) { &[BRIDGE, ANSWER] } else { &[ANSWER] };
            assert_eq!(kinds, expected);
        }
    }

    #[test]
    fn ranking_by_what_each_document_is_worth_alone_misses_the_best_lists() {
        let world = Prefix { seed: 5 };
        let held_out = puzzles(&world, HELD_OUT, 300).unwrap();
        let bounds = Bounds::of(&world, &held_out);
        assert!(bounds.oracle > bounds.best_baseline() + 0.2, "{bounds:?}");
        // The answer, then the bridge if there is one: every document that pays alone, best first.
        let alone: Vec<Vec<u32>> = held_out
            .iter()
            .map(|puzzle| {
                let at = |kind| puzzle.kinds.iter().position(|other| *other == kind);
                [at(ANSWER), at(BRIDGE)].into_iter().flatten().map(|at| at as u32).collect()
            })
            .collect();
        assert!(bounds.closed(mean_worth(&world, &held_out, &alone)) < 0.9, "{bounds:?}");
    }
}

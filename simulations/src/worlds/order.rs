//! A world in which it matters what comes first, and how much comes at all.
//!
//! A puzzle has one key document, none to two supports, one or two distractors, and the rest says
//! nothing. The document at position t (from 0) gives `0.6^t` of its kind's worth (key 0.4, support
//! 0.2, distractor -0.2), and every document costs 0.03, on top of 0.4. So the key stands first, the
//! supports follow, and the distractors and the rest stay out: `0.4 + 0.4 + 0.2 (0.6 + 0.36) - 0.09` with two
//! supports. A distractor before the key costs twice: its own worth, and the discount of what follows.

use super::lists::{DOCUMENTS, ListWorld};
use rand::Rng as _;
use rand::rngs::StdRng;

/// The kind of the key document: its column of the states.
pub const KEY: usize = 0;
/// The kind of a support.
pub const SUPPORT: usize = 1;
/// The kind of a distractor.
pub const DISTRACTOR: usize = 2;
/// The kind of a document that says nothing.
pub const FILLER: usize = 3;

/// What a position counts relative to the one before.
const DISCOUNT: f64 = 0.6;
/// Price of a document.
const PRICE: f64 = 0.03;
/// Worth of a list before anything is gained or lost.
const BASE: f64 = 0.4;

/// The world of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Decides every puzzle.
    pub seed: u64,
}

fn gain(kind: usize) -> f64 {
    match kind {
        KEY => 0.4,
        SUPPORT => 0.2,
        DISTRACTOR => -0.2,
        _ => 0.0,
    }
}

impl ListWorld for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn kinds(&self, rng: &mut StdRng) -> [usize; DOCUMENTS] {
        let (supports, distractors) = (rng.random_range(0..=2), rng.random_range(1..=2));
        let mut kinds = [FILLER; DOCUMENTS];
        kinds[0] = KEY;
        kinds[1..=supports].fill(SUPPORT);
        kinds[1 + supports..=supports + distractors].fill(DISTRACTOR);
        kinds
    }

    fn worth(&self, _all: &[usize; DOCUMENTS], chosen: &[usize]) -> f64 {
        let (mut worth, mut share) = (BASE, 1.0);
        for kind in chosen {
            worth += share * gain(*kind) - PRICE;
            share *= DISCOUNT;
        }
        worth
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::super::lists::{Bounds, HELD_OUT, puzzles};
    use super::*;

    #[test]
    fn the_worth_of_a_list_by_hand() {
        let world = Order { seed: 1 };
        let all = [KEY, SUPPORT, SUPPORT, DISTRACTOR, FILLER, FILLER];
        let worth = |chosen: &[usize]| world.worth(&all, chosen);
        assert!((worth(&[KEY]) - 0.77).abs() < 1e-12);
        assert!((worth(&[KEY, SUPPORT, SUPPORT]) - (0.8 + 0.12 + 0.072 - 0.09)).abs() < 1e-12);
        // The distractor costs its own 0.2, its price, and two fifths of the key.
        assert!((worth(&[DISTRACTOR, KEY]) - (0.4 - 0.2 + 0.24 - 0.06)).abs() < 1e-12);
    }

    #[test]
    fn the_best_list_is_the_key_then_the_supports_and_nothing_else() {
        let world = Order { seed: 3 };
        for puzzle in puzzles(&world, 0, 40).unwrap() {
            let (order, _) = puzzle.best(&world);
            let kinds: Vec<usize> = order.iter().map(|at| puzzle.kinds[*at as usize]).collect();
            let supports = puzzle.kinds.iter().filter(|kind| **kind == SUPPORT).count();
            let mut expected = vec![KEY];
            expected.resize(1 + supports, SUPPORT);
            assert_eq!(kinds, expected);
        }
    }

    #[test]
    fn no_fixed_number_of_documents_comes_near_the_best_lists() {
        let world = Order { seed: 5 };
        let bounds = Bounds::of(&world, &puzzles(&world, HELD_OUT, 300).unwrap());
        assert!(bounds.oracle > bounds.best_baseline() + 0.3, "{bounds:?}");
    }
}

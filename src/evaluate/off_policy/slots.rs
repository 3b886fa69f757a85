//! Marginal probabilities of positions, which have no closed form: what IIPS weighs by.
//!
//! Knows logits and draws; no row.

use crate::policy::selection::{Masks, SelectionError, SelectionLogits, select};
use actors::types::Exploration;
use rand::Rng;

/// The share of `draws` selections that have at each of `slots` positions what `order` has there;
/// past its end, the share that has ended too.
///
/// # Errors
/// Logits that do not fit the masks, or are not finite.
pub fn slot_probabilities(
    (logits, masks, exploration): (&SelectionLogits, Masks<'_>, Exploration),
    order: &[u32],
    slots: usize,
    draws: usize,
    rng: &mut impl Rng,
) -> Result<Vec<f64>, SelectionError> {
    let mut counts = vec![0.0; slots];
    for _ in 0..draws {
        let drawn = select(logits, masks, exploration, rng)?.order;
        for (slot, count) in counts.iter_mut().enumerate() {
            *count += if drawn.get(slot) == order.get(slot) { 1.0 } else { 0.0 };
        }
    }
    Ok(counts.into_iter().map(|count| count / draws.max(1) as f64).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use actors::types::SelectionLimits;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn the_second_position_of_a_known_policy() {
        // Odds 2 : 1 : 1, two documents for sure. Second is document 1 with probability
        // 1/2 · 1/2 + 1/4 · 1/3 = 1/3.
        let logits = SelectionLogits::from_scores(vec![2.0_f64.ln(), 0.0, 0.0], 0.0);
        let limits = SelectionLimits { k_min: 2, k_max: 2, token_budget: 10 };
        let masks = Masks { tokens: &[1, 1, 1], limits };
        let exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.0 };
        let mut rng = StdRng::seed_from_u64(1);
        let policy = (&logits, masks, exploration);
        let found = slot_probabilities(policy, &[0, 1], 3, 40_000, &mut rng).unwrap();
        assert!((found[0] - 0.5).abs() < 0.01 && (found[1] - 1.0 / 3.0).abs() < 0.01, "{found:?}");
        assert_eq!(found[2], 1.0, "nobody has a third");
    }
}

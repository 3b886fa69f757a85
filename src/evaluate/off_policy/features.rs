//! What a reward model sees of a decision: the candidates' scalar features, pooled over what was
//! chosen and over what there was.
//!
//! Owns which numbers and their order. Knows states and selections; no model and no policy.

use crate::policy::features::SCALARS;
use actors::types::{CandidateStates, Decision};

/// Mean and maximum of each scalar feature over the chosen documents and its mean over all
/// candidates, then: how many were chosen, their share, whether none was, and the logarithm of
/// their context tokens.
///
/// order: indices into the candidates of `decision`; one that is none is passed over.
pub(super) fn of(decision: &Decision, order: &[u32]) -> Vec<f64> {
    let states = &decision.states;
    let (n, scalars) = (states.rows(), SCALARS.len().min(states.width()));
    let chosen: Vec<usize> = order.iter().map(|&j| j as usize).filter(|&j| j < n).collect();
    let mut features = Vec::with_capacity(3 * scalars + 4);
    features.extend(mean(states, &chosen, scalars));
    features.extend((0..scalars).map(|column| {
        let values = chosen.iter().map(|&j| value(states, j, scalars, column));
        if chosen.is_empty() { 0.0 } else { values.fold(f64::NEG_INFINITY, f64::max) }
    }));
    features.extend(mean(states, &(0..n).collect::<Vec<_>>(), scalars));
    let k = chosen.len() as f64;
    let tokens = chosen.iter().filter_map(|&j| decision.candidate_tokens.get(j));
    let tokens: f64 = tokens.map(|t| f64::from(*t)).sum();
    let is_empty = if chosen.is_empty() { 1.0 } else { 0.0 };
    features.extend([k, k / n.max(1) as f64, is_empty, tokens.ln_1p()]);
    features
}

fn mean(states: &CandidateStates, of: &[usize], scalars: usize) -> Vec<f64> {
    let count = of.len().max(1) as f64;
    (0..scalars)
        .map(|column| of.iter().map(|&j| value(states, j, scalars, column)).sum::<f64>() / count)
        .collect()
}

/// A scalar feature of a candidate: the trailing columns of its state.
fn value(states: &CandidateStates, j: usize, scalars: usize, column: usize) -> f64 {
    let at = (j + 1) * states.width() - scalars + column;
    states.values().get(at).copied().map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::super::rows::tests::decision;
    use super::*;

    #[test]
    fn pooled_features_worked_by_hand() {
        let width = SCALARS.len() + 2;
        let mut values = vec![0.0_f32; 3 * width];
        // The first two columns are the encoder's; the first scalar of the three is 1, 2, 6.
        (values[2], values[width + 2], values[2 * width + 2]) = (1.0, 2.0, 6.0);
        values[0] = 9.0;
        let mut decision = decision("d", &[2, 0], &[-1.0; 3]);
        decision.states = CandidateStates::new(width, values).unwrap();
        decision.candidate_tokens = vec![10, 20, 30];
        let found = of(&decision, &[2, 0]);
        let scalars = SCALARS.len();
        assert_eq!((found[0], found[scalars], found[2 * scalars]), (3.5, 6.0, 3.0));
        let tail = &found[3 * scalars..];
        assert_eq!(tail, [2.0, 2.0 / 3.0, 0.0, 41.0_f64.ln()]);
        let empty = of(&decision, &[]);
        assert_eq!((empty[0], empty[scalars], empty[2 * scalars]), (0.0, 0.0, 3.0));
        assert_eq!(empty[3 * scalars..], [0.0, 0.0, 1.0, 0.0]);
    }
}

//! From a ranking to a decision within hard limits.
//!
//! The masks mean what they mean to the learned policy: a document that no longer fits the token
//! budget is passed over, not the end. Knows no scores.

use actors::ports::DecideRequest;
use actors::types::{
    CandidateStates, Decision, Digest, Exploration, Gate, PolicyStamp, PolicyVersion,
    SelectionLimits,
};

/// How much of a ranking may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Leading places of the ranking that are taken from; what is behind them only fills up to
    /// `k_min`.
    pub eligible: usize,
    /// Most documents.
    pub count: usize,
}

/// The documents of a ranking that are chosen, best first, within `k_max` and the token budget.
///
/// ranking: places in the candidate list, best first, each once. tokens: (n) of each candidate.
pub fn fill(ranking: &[usize], share: Share, tokens: &[u32], limits: SelectionLimits) -> Vec<u32> {
    let (k_min, k_max) = (limits.k_min as usize, limits.k_max as usize);
    let mut budget = u64::from(limits.token_budget);
    let mut order: Vec<u32> = Vec::new();
    for (rank, &place) in ranking.iter().enumerate() {
        let is_wanted = rank < share.eligible && order.len() < share.count;
        if order.len() >= k_max || !(is_wanted || order.len() < k_min) {
            break;
        }
        let cost = u64::from(tokens.get(place).copied().unwrap_or(u32::MAX));
        if cost <= budget {
            budget -= cost;
            order.push(place as u32);
        }
    }
    order
}

/// What a decision without weights and without chance looks like: greedy, no states, a stamp that
/// names the rule.
pub fn unlearned(
    request: &DecideRequest,
    name: &str,
    (order, scores, tokens): (Vec<u32>, Vec<f32>, Vec<u32>),
) -> Decision {
    Decision {
        id: request.id.clone(),
        gate: Gate::Retrieve,
        rewrite: 0,
        step_log_probs: vec![0.0; order.len()],
        order,
        scores,
        exploration: Exploration::Greedy,
        limits: request.limits,
        deviates: None,
        candidate_tokens: tokens,
        states: CandidateStates::default(),
        policy: stamp(name),
    }
}

/// Version 0, and the rule's name in the place of a digest.
pub fn stamp(name: &str) -> PolicyStamp {
    PolicyStamp { version: PolicyVersion(0), digest: Digest(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [u32; 4] = [10, 50, 10, 10];

    fn filled(share: (usize, usize), (k_min, k_max, token_budget): (u32, u32, u32)) -> Vec<u32> {
        let share = Share { eligible: share.0, count: share.1 };
        fill(&[1, 3, 0, 2], share, &TOKENS, SelectionLimits { k_min, k_max, token_budget })
    }

    #[test]
    fn a_document_that_no_longer_fits_is_passed_over() {
        assert_eq!(filled((4, 4), (0, 4, 100)), [1, 3, 0, 2]);
        assert_eq!(filled((4, 2), (0, 4, 40)), [3, 0], "50 tokens do not fit; two are still found");
        assert_eq!(filled((2, 2), (0, 4, 40)), [3], "what is behind the cut does not move up");
        assert_eq!(filled((4, 4), (0, 4, 60)), [1, 3]);
        assert!(filled((4, 4), (0, 4, 9)).is_empty());
    }

    #[test]
    fn limits_come_before_the_cut() {
        assert_eq!(filled((4, 4), (0, 2, 100)), [1, 3], "k_max");
        assert_eq!(filled((1, 1), (3, 4, 100)), [1, 3, 0], "k_min");
        assert_eq!(filled((0, 0), (1, 4, 40)), [3], "k_min with what fits");
        assert!(filled((0, 0), (0, 4, 100)).is_empty());
        assert_eq!(filled((4, 4), (3, 2, 100)), [1, 3], "k_max before k_min");
    }
}

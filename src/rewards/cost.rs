//! What an answer cost to make. Costs are ≥ 0; the blend gives them negative weights.

use actors::types::{Gate, Reward};

/// Context tokens in units of 1,000, ≥ 0.
pub fn context_cost(context_tokens: u32) -> f64 {
    f64::from(context_tokens) / 1_000.0
}

/// Documents put before the generator, ≥ 0.
pub fn document_cost(documents: usize) -> f64 {
    documents as f64
}

/// 1 if documents were retrieved at all, else 0. Source: SmartRAG's retrieval penalty.
pub fn retrieval_cost(gate: Gate) -> f64 {
    match gate {
        Gate::Retrieve => 1.0,
        Gate::Direct => 0.0,
    }
}

/// What a list adds to the reward by its length alone, whatever becomes of the answer: known, so that
/// nobody has to learn it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Prices {
    /// Reward of one context token, ≤ 0.
    pub token: f64,
    /// Reward of one document, ≤ 0.
    pub document: f64,
}

impl Prices {
    /// The prices by which a reward was made; 0 where it has none.
    pub fn of(reward: &Reward) -> Self {
        let weight = |name: &str| {
            let part = reward.parts.iter().find(|part| part.name == name);
            part.map_or(0.0, |part| part.weight)
        };
        let token = weight("context_cost") * context_cost(1);
        Self { token, document: weight("document_cost") * document_cost(1) }
    }

    /// What each document adds to the reward of a list, ≤ 0, by its (n) context tokens.
    pub fn each(&self, tokens: &[u32]) -> Vec<f64> {
        tokens.iter().map(|t| self.token * f64::from(*t) + self.document).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actors::types::RewardPart;

    #[test]
    fn prices_are_those_of_the_parts() {
        let parts = vec![
            RewardPart::new("human", 1.0, 0.8),
            RewardPart::new("context_cost", 0.3, -0.1),
            RewardPart::new("document_cost", 2.0, -0.01),
        ];
        let prices = Prices::of(&Reward { total: 0.75, parts });
        let each = prices.each(&[0, 200]);
        assert!((each[0] + 0.01).abs() < 1e-12 && (each[1] + 0.03).abs() < 1e-12, "{each:?}");
        let free = Prices::of(&Reward { total: 1.0, parts: Vec::new() });
        assert_eq!(free, Prices::default());
    }

    #[test]
    fn costs_are_plain_counts() {
        assert!((context_cost(1_500) - 1.5).abs() < 1e-12);
        assert!(context_cost(0).abs() < 1e-12);
        assert!((document_cost(7) - 7.0).abs() < 1e-12);
        assert!((retrieval_cost(Gate::Retrieve) - 1.0).abs() < 1e-12);
        assert!(retrieval_cost(Gate::Direct).abs() < 1e-12);
    }
}

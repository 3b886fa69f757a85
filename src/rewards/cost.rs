//! What an answer cost to make. Costs are ≥ 0; the blend gives them negative weights.

use actors::types::Gate;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_plain_counts() {
        assert!((context_cost(1_500) - 1.5).abs() < 1e-12);
        assert!(context_cost(0).abs() < 1e-12);
        assert!((document_cost(7) - 7.0).abs() < 1e-12);
        assert!((retrieval_cost(Gate::Retrieve) - 1.0).abs() < 1e-12);
        assert!(retrieval_cost(Gate::Direct).abs() < 1e-12);
    }
}

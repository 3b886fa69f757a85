//! The baselines every learned policy is compared with: retrieval order cut at a fixed k.
//!
//! A `ports::Policy` like any other, so that evaluation and serving treat it the same. It looks at
//! nothing, logs no states, and its greedy decisions support no off-policy estimate.

use actors::ports::{DecideRequest, Policy, PolicyError};
use actors::types::{
    CandidateStates, Decision, Digest, Exploration, Gate, PolicySnapshot, PolicyStamp,
    PolicyVersion,
};
use rand::rngs::StdRng;

/// The first k candidates as retrieved.
#[derive(Debug, Clone)]
pub struct FixedK {
    k: usize,
}

impl FixedK {
    /// Takes the first `k`, whatever the limits of a request say.
    pub fn new(k: usize) -> Self {
        Self { k }
    }
}

impl Policy for FixedK {
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        _rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        requests
            .iter()
            .map(|request| {
                let n = request.candidates.len();
                let order: Vec<u32> = (0..n.min(self.k) as u32).collect();
                Ok(Decision {
                    id: request.id.clone(),
                    gate: Gate::Retrieve,
                    rewrite: 0,
                    step_log_probs: vec![0.0; order.len()],
                    order,
                    scores: (0..n).map(|rank| -(rank as f32)).collect(),
                    exploration: Exploration::Greedy,
                    limits: request.limits,
                    deviates: None,
                    candidate_tokens: vec![0; n],
                    states: CandidateStates::default(),
                    policy: self.stamp(),
                })
            })
            .collect()
    }

    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        Err(PolicyError::Snapshot {
            version: snapshot.version.to_string(),
            reason: "a fixed-k policy has no weights".to_owned(),
        })
    }

    fn stamp(&self) -> PolicyStamp {
        PolicyStamp { version: PolicyVersion(0), digest: Digest(format!("retrieval-k{}", self.k)) }
    }
}

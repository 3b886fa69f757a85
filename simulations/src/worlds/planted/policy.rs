//! The real selection head over the planted states, as a service runs it.

use super::{LIMITS, Planted, Puzzle, TOKENS};
use actors::ports::{DecideRequest, Policy, PolicyError};
use actors::types::{CandidateStates, Decision, Exploration, Gate, PolicySnapshot, PolicyStamp};
use candle_core::{DType, Device, Tensor};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use regrade::policy::selection::{Masks, Selection, SelectionLogits, select};
use regrade::policy::serving::{self, PolicyWeights};

/// A head and the world whose states it reads.
pub(super) struct PlantedPolicy {
    planted: Planted,
    weights: PolicyWeights,
    stamp: PolicyStamp,
}

impl PlantedPolicy {
    pub(super) fn new(planted: Planted, snapshot: &PolicySnapshot) -> Result<Self, PolicyError> {
        let weights = serving::from_snapshot(snapshot, &Device::Cpu)?;
        let stamp = PolicyStamp { version: snapshot.version, digest: snapshot.digest.clone() };
        Ok(Self { planted, weights, stamp })
    }

    /// Mean worth of the greedy selections.
    pub(super) fn mean_worth(&self, puzzles: &[Puzzle]) -> Result<f64, PolicyError> {
        // Greedy selections draw nothing; the generator only has to exist.
        let mut rng = StdRng::seed_from_u64(0);
        let mut sum = 0.0;
        for puzzle in puzzles {
            let (_, selection) = self.select(&puzzle.states, Exploration::Greedy, &mut rng)?;
            sum += puzzle.worth(selection.order.iter().map(|&j| &puzzle.documents[j as usize]));
        }
        Ok(sum / puzzles.len().max(1) as f64)
    }

    fn select(
        &self,
        states: &CandidateStates,
        exploration: Exploration,
        rng: &mut StdRng,
    ) -> Result<(SelectionLogits, Selection), PolicyError> {
        let logits = self.logits(states).map_err(|e| PolicyError::Model(e.to_string()))?;
        let tokens = vec![TOKENS; states.rows()];
        let masks = Masks { tokens: &tokens, limits: LIMITS };
        let selection = select(&logits, masks, exploration, rng)
            .map_err(|e| PolicyError::Model(e.to_string()))?;
        Ok((logits, selection))
    }

    fn logits(&self, states: &CandidateStates) -> candle_core::Result<SelectionLogits> {
        let (n, width) = (states.rows(), states.width());
        let input = Tensor::from_slice(states.values(), (1, n, width), &Device::Cpu)?;
        let present = Tensor::ones((1, n), DType::F32, &Device::Cpu)?;
        self.weights.head.forward(&input, &present)?.logits(0, n)
    }

    fn decide_one(
        &self,
        request: &DecideRequest,
        rng: &mut StdRng,
    ) -> Result<Decision, PolicyError> {
        let refused = || PolicyError::Refused(format!("`{}` is no puzzle", request.query.text));
        let puzzle = self.planted.asked(&request.query).ok_or_else(refused)?;
        let (logits, selection) = self.select(&puzzle.states, request.exploration, rng)?;
        Ok(Decision {
            id: request.id.clone(),
            gate: Gate::Retrieve,
            rewrite: 0,
            order: selection.order,
            step_log_probs: selection.step_log_probs,
            scores: logits.scores.iter().map(|score| *score as f32).collect(),
            exploration: request.exploration,
            limits: LIMITS,
            deviates: None,
            candidate_tokens: vec![TOKENS; puzzle.documents.len()],
            states: puzzle.states,
            policy: self.stamp.clone(),
        })
    }
}

impl Policy for PlantedPolicy {
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        requests.iter().map(|request| self.decide_one(request, rng)).collect()
    }

    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        *self = Self::new(self.planted, snapshot)?;
        Ok(())
    }

    fn stamp(&self) -> PolicyStamp {
        self.stamp.clone()
    }
}

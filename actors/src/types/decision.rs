//! One decision of the policy with its exact probability: the unit of all learning and evaluation.

use super::{DecisionId, Digest, PolicyVersion};
use base64::Engine as _;
use half::f16;
use serde::{Deserialize, Serialize};

/// Whether documents were fetched at all (SmartRAG's first token).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Documents were retrieved.
    #[default]
    Retrieve,
    /// The generator answers from what it knows.
    Direct,
}

/// Hard limits on a selection: masks of the policy, not preferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionLimits {
    /// Fewest documents; the stop action is masked before that (fewer only if fewer fit).
    pub k_min: u32,
    /// Most documents.
    pub k_max: u32,
    /// Most context tokens over all chosen documents; a document that no longer fits is masked.
    pub token_budget: u32,
}

/// How a decision is drawn from the policy's scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Exploration {
    /// The most probable action at every step; its propensity is 1 and supports no estimate.
    Greedy,
    /// Each step drawn from `(1 - epsilon) * softmax(logits / temperature) + epsilon * uniform`.
    Sample {
        /// Softmax temperature, > 0.
        temperature: f64,
        /// Share of uniform choice among the unmasked actions, in [0, 1].
        epsilon: f64,
    },
    /// The greedy list, but in a share of the decisions exactly one of its steps, each as likely as
    /// another, is drawn from `(1 - epsilon) * proposal + epsilon * uniform`, and the greedy rule
    /// goes on from there without the document that was passed over. The proposal is
    /// `softmax(logits / temperature)`, or the votes of an ensemble where the weights have one.
    Explore {
        /// Share of the decisions in which a step is drawn, in [0, 1].
        share: f64,
        /// Softmax temperature of the drawn step, > 0; an ensemble does without.
        temperature: f64,
        /// Share of uniform choice among the unmasked actions of the drawn step, in [0, 1].
        epsilon: f64,
    },
}

impl Exploration {
    /// Checks every value; the error names the first that is wrong and what it may be.
    pub fn validate(&self) -> Result<(), String> {
        let (share, temperature, epsilon) = match *self {
            Self::Greedy => return Ok(()),
            Self::Sample { temperature, epsilon } => (1.0, temperature, epsilon),
            Self::Explore { share, temperature, epsilon } => (share, temperature, epsilon),
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("share: {share} must lie in [0, 1]"));
        }
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(format!("temperature: {temperature} must be a finite number above 0"));
        }
        if !(0.0..=1.0).contains(&epsilon) {
            return Err(format!("epsilon: {epsilon} must lie in [0, 1]"));
        }
        Ok(())
    }

    /// Whether chance has a part in such a decision.
    pub fn has_chance(&self) -> bool {
        match *self {
            Self::Greedy => false,
            Self::Sample { .. } => true,
            Self::Explore { share, .. } => share > 0.0,
        }
    }
}

/// Which weights decided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyStamp {
    /// Version of the weights.
    pub version: PolicyVersion,
    /// Digest of the weights.
    pub digest: Digest,
}

/// The policy's inputs for every candidate, as used: row-major `(n, width)`, rounded to f16.
///
/// Rounding happens *before* the policy scores them, so the logged states reproduce the decision
/// exactly. Serialised as base64 of little-endian f16.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "StatesWire", into = "StatesWire")]
pub struct CandidateStates {
    width: usize,
    values: Vec<f32>,
}

/// Why a block of states was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StatesError {
    /// The number of values is no multiple of the width.
    #[error("{values} state values do not divide into rows of {width}")]
    Ragged {
        /// Number of values found.
        values: usize,
        /// Row width stated.
        width: usize,
    },
    /// A value is NaN or infinite (or too large for f16).
    #[error("state value {index} is not finite")]
    NotFinite {
        /// Position of the first such value.
        index: usize,
    },
    /// The base64 text is broken.
    #[error("states are not base64 of f16 values")]
    Encoding,
}

#[derive(Serialize, Deserialize)]
struct StatesWire {
    width: usize,
    f16: String,
}

impl CandidateStates {
    /// Takes row-major values and rounds each to f16 and back; every value must stay finite.
    pub fn new(width: usize, values: Vec<f32>) -> Result<Self, StatesError> {
        if (width == 0 && !values.is_empty()) || (width > 0 && !values.len().is_multiple_of(width))
        {
            return Err(StatesError::Ragged { values: values.len(), width });
        }
        let values: Vec<f32> = values.iter().map(|v| f16::from_f32(*v).to_f32()).collect();
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(StatesError::NotFinite { index }),
            None => Ok(Self { width, values }),
        }
    }

    /// Number of candidates.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Features per candidate.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

impl From<CandidateStates> for StatesWire {
    fn from(states: CandidateStates) -> Self {
        let bytes: Vec<u8> =
            states.values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        Self { width: states.width, f16: base64::engine::general_purpose::STANDARD.encode(bytes) }
    }
}

impl TryFrom<StatesWire> for CandidateStates {
    type Error = StatesError;

    fn try_from(wire: StatesWire) -> Result<Self, StatesError> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&wire.f16)
            .map_err(|_| StatesError::Encoding)?;
        if bytes.len() % 2 != 0 {
            return Err(StatesError::Encoding);
        }
        let values =
            bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        Self::new(wire.width, values)
    }
}

/// What the policy chose for one query, with everything needed to learn from it later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Names the decision; feedback refers to it.
    pub id: DecisionId,
    /// Whether to retrieve.
    pub gate: Gate,
    /// Index into the rewrite proposals; 0 is the query as asked.
    pub rewrite: u32,
    /// Chosen candidates in the order the generator sees them: indices into the candidate list.
    pub order: Vec<u32>,
    /// Natural log-probability under the *behaviour* policy of each step, given the steps before
    /// it: one for each document, and a last one for the stop where the stop was a choice. Each
    /// ≤ 0; all 0 when greedy. Their sum is the log-probability of the list, the coin that decides
    /// whether to explore included.
    pub step_log_probs: Vec<f64>,
    /// The scores that were ranked: one logit a candidate before any document was chosen.
    pub scores: Vec<f32>,
    /// How it was drawn.
    pub exploration: Exploration,
    /// Whether exploration led to another selection than the greedy one; absent where that is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviates: Option<bool>,
    /// The masks in force.
    pub limits: SelectionLimits,
    /// Context tokens of each candidate, as charged to the budget.
    pub candidate_tokens: Vec<u32>,
    /// The features used.
    pub states: CandidateStates,
    /// Which weights decided.
    pub policy: PolicyStamp,
}

impl Decision {
    /// Log-probability in nats of the whole decision under the behaviour policy; ≤ 0.
    pub fn log_prob(&self) -> f64 {
        self.step_log_probs.iter().sum()
    }

    /// Context tokens of the chosen documents.
    pub fn context_tokens(&self) -> u64 {
        let of = |index: &u32| self.candidate_tokens.get(*index as usize).copied();
        self.order.iter().filter_map(of).map(u64::from).sum()
    }

    /// Whether chance had a part in it, so that off-policy estimates may use it.
    pub fn is_explored(&self) -> bool {
        self.exploration.has_chance()
    }
}

//! The policy as the service runs it: read the pairs, score the lists, select; and its weights as
//! bytes.
//!
//! Implements `ports::Policy`. The weights of one decision never mix versions: a batch is decided
//! by one head on one trunk, and a swap replaces both between batches, all or nothing.

mod states;

use super::features;
use super::head::{Head, HeadConfig, Prior};
use super::reader::{PairReader, Reading};
use super::selection::{Masks, select};
use super::turn_head::{TurnHead, TurnHeadConfig, state};
use actors::ports::{DecideRequest, Policy, PolicyError};
use actors::types::{
    CandidateStates, Decision, Exploration, Gate, PolicySnapshot, PolicyStamp, PolicyVersion,
};
use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use states::StateReader;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Version of the state layout; weights trained on another one are refused.
pub const LAYOUT: &str = "regrade-states/1";
const HEADER: &str = "regrade";
const HEAD_PREFIX: &str = "head.";
const TRUNK_PREFIX: &str = "trunk.";
const TURN_PREFIX: &str = "turn.";

/// What the file says of itself.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    layout: String,
    head: HeadConfig,
    /// Absent in files without a turn head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turn: Option<TurnHeadConfig>,
}

/// Everything that is trained.
#[derive(Debug, Clone)]
pub struct PolicyWeights {
    /// The selection head.
    pub head: Head,
    /// The encoder's own tensors where they were trained too (`full`), as
    /// [`PairReader::with_trunk`] takes them; `None` where the trunk is the frozen model folder
    /// (`head`).
    pub trunk: Option<Arc<BTreeMap<String, Tensor>>>,
    /// What decides between answering and retrieving, where that was trained (`smart_rag`). It is
    /// kept with the weights; [`EncoderPolicy`] itself always retrieves once.
    pub turn: Option<TurnHead>,
}

impl PolicyWeights {
    /// The policy before any training: orders by the encoder's relevance logit and stops at even
    /// odds, on a frozen trunk whose states are `embedding` wide.
    pub fn untrained(embedding: usize, seed: u64, device: &Device) -> candle_core::Result<Self> {
        let config = HeadConfig {
            embedding,
            scalars: features::SCALARS.len(),
            hidden: 64,
            attention_heads: 4,
            interaction_rank: 16,
        };
        let mut prior = Prior { scores: vec![0.0; features::SCALARS.len()], stop: 0.0 };
        if let Some(relevance) = features::position("relevance") {
            // Undo the feature's scale, so that the score is the logit itself, centred.
            prior.scores[relevance] = features::SCALARS[relevance].2;
            prior.stop = -features::SCALARS[relevance].1;
        }
        let head = Head::init(config, &prior, seed, device)?;
        Ok(Self { head, trunk: None, turn: None })
    }
}

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WeightsError(String);

/// safetensors bytes of the weights, with the layout and the head's sizes as metadata.
pub fn to_bytes(weights: &PolicyWeights) -> Result<Vec<u8>, String> {
    let trunk = weights.trunk.iter().flat_map(|t| t.iter()).map(|t| (TRUNK_PREFIX, t));
    let turn = weights.turn.iter().flat_map(|turn| turn.tensors().iter());
    let turn = turn.map(|t| (TURN_PREFIX, t));
    let named = weights.head.tensors().iter().map(|t| (HEAD_PREFIX, t)).chain(trunk).chain(turn);
    let mut raw: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (prefix, (name, tensor)) in named {
        let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        let values = values.map_err(|e| format!("cannot export tensor `{name}`: {e}"))?;
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(format!("tensor `{prefix}{name}` holds {bad}"));
        }
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        raw.insert(format!("{prefix}{name}"), (tensor.dims().to_vec(), bytes));
    }
    let mut views = BTreeMap::new();
    for (name, (shape, bytes)) in &raw {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        views.insert(name.as_str(), view.map_err(|e| format!("cannot export `{name}`: {e}"))?);
    }
    // One key only: several would be written in the order of a hash map, and the digest of equal
    // weights would differ from run to run.
    let header = Header {
        layout: LAYOUT.to_owned(),
        head: weights.head.config().clone(),
        turn: weights.turn.as_ref().map(|turn| turn.config().clone()),
    };
    let header = serde_json::to_string(&header).map_err(|e| e.to_string())?;
    let metadata = HashMap::from([(HEADER.to_owned(), header)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| format!("cannot export weights: {e}"))
}

/// Reads weights and checks layout, names, shapes and that every value is finite.
pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<PolicyWeights, WeightsError> {
    let fail = |text: String| WeightsError(text);
    let (_, header) = SafeTensors::read_metadata(bytes)
        .map_err(|e| fail(format!("the weights are not a safetensors file ({e})")))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(HEADER));
    let Some(header) = text.and_then(|text| serde_json::from_str::<Header>(text).ok()) else {
        return Err(fail("the weights carry no policy header; are they a model instead?".into()));
    };
    let (layout, config, turn_config) = (header.layout, header.head, header.turn);
    if layout != LAYOUT {
        return Err(fail(format!("the weights have state layout `{layout}`, expected `{LAYOUT}`")));
    }
    if config.scalars != features::SCALARS.len() {
        let (found, expected) = (config.scalars, features::SCALARS.len());
        return Err(fail(format!("the head takes {found} scalar features, expected {expected}")));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| fail(e.to_string()))?;
    let (mut head, mut trunk, mut turn) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, view) in file.tensors() {
        if view.dtype() != safetensors::Dtype::F32 {
            return Err(fail(format!("tensor `{name}` is {:?}, expected F32", view.dtype())));
        }
        let values: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(fail(format!("tensor `{name}` holds a value that is not finite")));
        }
        let tensor = Tensor::from_vec(values, view.shape(), device)
            .map_err(|e| fail(format!("tensor `{name}`: {e}")))?;
        if let Some(name) = name.strip_prefix(HEAD_PREFIX) {
            head.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(TRUNK_PREFIX) {
            trunk.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(TURN_PREFIX) {
            turn.insert(name.to_owned(), tensor);
        } else {
            return Err(fail(format!("tensor `{name}` belongs to neither head nor trunk")));
        }
    }
    let head = Head::from_tensors(config, head).map_err(fail)?;
    let turn = match turn_config {
        Some(config) => Some(turn_head(config, turn).map_err(fail)?),
        None if turn.is_empty() => None,
        None => {
            return Err(fail("the weights have a turn head that the header is silent of".into()));
        }
    };
    Ok(PolicyWeights { head, trunk: (!trunk.is_empty()).then(|| Arc::new(trunk)), turn })
}

fn turn_head(
    config: TurnHeadConfig,
    tensors: BTreeMap<String, Tensor>,
) -> Result<TurnHead, String> {
    if config.scalars != state::SCALARS.len() {
        let (found, expected) = (config.scalars, state::SCALARS.len());
        return Err(format!("the turn head takes {found} scalar features, expected {expected}"));
    }
    TurnHead::from_tensors(config, tensors)
}

/// Reads a snapshot after checking its digest.
pub fn from_snapshot(
    snapshot: &PolicySnapshot,
    device: &Device,
) -> Result<PolicyWeights, PolicyError> {
    let refused =
        |reason: String| PolicyError::Snapshot { version: snapshot.version.to_string(), reason };
    if !snapshot.is_intact() {
        return Err(refused("the bytes do not have the digest they were published with".into()));
    }
    from_bytes(&snapshot.weights, device).map_err(|error| refused(error.to_string()))
}

/// The encoder policy.
pub struct EncoderPolicy {
    /// The frozen model folder, shared with the generator so that a pair is encoded once.
    base: Arc<PairReader>,
    /// What reads the pairs now: the base alone, or with a trunk of the policy's own.
    reader: StateReader,
    weights: PolicyWeights,
    stamp: PolicyStamp,
    device: Device,
}

impl EncoderPolicy {
    /// Serves `snapshot` on top of the model folder that `base` has loaded.
    pub fn new(
        base: Arc<PairReader>,
        snapshot: &PolicySnapshot,
        device: Device,
    ) -> Result<Self, PolicyError> {
        let (weights, reader) = load(&base, snapshot, &device)?;
        let stamp = PolicyStamp { version: snapshot.version, digest: snapshot.digest.clone() };
        Ok(Self { base, reader, weights, stamp, device })
    }

    fn states(
        &self,
        request: &DecideRequest,
        readings: &[Arc<Reading>],
    ) -> Result<Prepared, PolicyError> {
        let n = request.candidates.len();
        let values = features::states(&request.query.text, &request.candidates, readings);
        let states = CandidateStates::new(values.len().checked_div(n).unwrap_or(0), values)
            .map_err(|error| PolicyError::Model(error.to_string()))?;
        Ok(Prepared { states, tokens: readings.iter().map(|r| r.tokens).collect() })
    }

    fn decide_one(
        &self,
        request: &DecideRequest,
        prepared: Prepared,
        rng: &mut StdRng,
    ) -> Result<Decision, PolicyError> {
        let model = |e: candle_core::Error| PolicyError::Model(e.to_string());
        let n = prepared.states.rows();
        let input = Tensor::from_slice(
            prepared.states.values(),
            (1, n, prepared.states.width()),
            &self.device,
        )
        .map_err(model)?;
        let present = Tensor::ones((1, n), candle_core::DType::F32, &self.device).map_err(model)?;
        let output = self.weights.head.forward(&input, &present).map_err(model)?;
        let logits = output.logits(0, n).map_err(model)?;
        let masks = Masks { tokens: &prepared.tokens, limits: request.limits };
        let selection = select(&logits, masks, request.exploration, rng)
            .map_err(|error| PolicyError::Model(error.to_string()))?;
        let deviates = if request.exploration.has_chance() {
            let greedy = select(&logits, masks, Exploration::Greedy, rng)
                .map_err(|error| PolicyError::Model(error.to_string()))?;
            Some(greedy.order != selection.order)
        } else {
            None
        };
        Ok(Decision {
            id: request.id.clone(),
            gate: Gate::Retrieve,
            rewrite: 0,
            order: selection.order,
            step_log_probs: selection.step_log_probs,
            scores: logits.scores.iter().map(|s| *s as f32).collect(),
            exploration: request.exploration,
            limits: request.limits,
            deviates,
            candidate_tokens: prepared.tokens,
            states: prepared.states,
            policy: self.stamp.clone(),
        })
    }
}

struct Prepared {
    states: CandidateStates,
    tokens: Vec<u32>,
}

impl Policy for EncoderPolicy {
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        // One read over all pairs of the batch: that is where the time goes. If it fails, each
        // request is read alone, so that one bad text fails one request.
        let pairs: Vec<_> = requests
            .iter()
            .flat_map(|r| r.candidates.iter().map(|c| (r.query.text.as_str(), &c.document)))
            .collect();
        let together = self.reader.read(&pairs).ok();
        let mut from = 0;
        let mut decisions = Vec::with_capacity(requests.len());
        for request in requests {
            let n = request.candidates.len();
            let span = from..from + n;
            from += n;
            let decision = if n == 0 {
                Err(PolicyError::Refused("there is no candidate to choose from".to_owned()))
            } else if let Some(all) = &together {
                self.states(request, &all[span])
            } else {
                self.reader
                    .read(&pairs[span])
                    .map_err(|error| PolicyError::Refused(error.to_string()))
                    .and_then(|readings| self.states(request, &readings))
            };
            decisions.push(decision.and_then(|p| self.decide_one(request, p, rng)));
        }
        decisions
    }

    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        let (weights, reader) = load(&self.base, snapshot, &self.device)?;
        self.weights = weights;
        self.reader = reader;
        self.stamp = PolicyStamp { version: snapshot.version, digest: snapshot.digest.clone() };
        Ok(())
    }

    fn stamp(&self) -> PolicyStamp {
        self.stamp.clone()
    }
}

fn load(
    base: &Arc<PairReader>,
    snapshot: &PolicySnapshot,
    device: &Device,
) -> Result<(PolicyWeights, StateReader), PolicyError> {
    let weights = from_snapshot(snapshot, device)?;
    let refused =
        |reason: String| PolicyError::Snapshot { version: snapshot.version.to_string(), reason };
    let (found, expected) = (weights.head.config().embedding, base.width());
    if found != expected {
        return Err(refused(format!(
            "the head takes encoder states {found} wide, the model folder gives {expected}"
        )));
    }
    let reader = StateReader::new(base, weights.trunk.as_deref())
        .map_err(|error| refused(format!("its trunk does not fit the model folder: {error}")))?;
    Ok((weights, reader))
}

/// The snapshot of an untrained policy: version 0, no parent.
pub fn first_snapshot(
    embedding: usize,
    seed: u64,
    device: &Device,
) -> Result<PolicySnapshot, String> {
    let weights = PolicyWeights::untrained(embedding, seed, device).map_err(|e| e.to_string())?;
    Ok(PolicySnapshot::new(PolicyVersion(0), None, "untrained", to_bytes(&weights)?))
}

#[cfg(test)]
mod tests;

//! Weights and their bytes, decisions and their probabilities, swaps that fail.

//! Weights as bytes, decisions and swaps on a tiny model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::encoder::Trainable;
use crate::policy::fixture::write_tiny_model;
use crate::policy::reader::ReaderArgs;
use crate::policy::selection::behaviour_log_probs;
use actors::types::{Candidate, DecisionId, Document, Exploration, Query, SelectionLimits};
use rand::SeedableRng;

const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 3, token_budget: 500 };

fn reader() -> Arc<PairReader> {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(folder.path(), 1).unwrap();
    Arc::new(PairReader::load(folder.path(), ReaderArgs::default()).unwrap())
}

fn request(id: &str, texts: &[&str], exploration: Exploration) -> DecideRequest {
    let candidate = |(rank, text): (usize, &&str)| Candidate {
        document: Document {
            id: format!("d{rank}").as_str().into(),
            text: (*text).into(),
            ..Default::default()
        },
        score: 5.0 - rank as f32,
        rank: rank as u32,
    };
    DecideRequest {
        policy: None,
        id: DecisionId::from(id),
        query: Query { text: "where is it".into(), ..Default::default() },
        candidates: texts.iter().enumerate().map(candidate).collect(),
        limits: LIMITS,
        exploration,
    }
}

fn policy() -> EncoderPolicy {
    let reader = reader();
    let first = first_snapshot(reader.width(), 4, &Device::Cpu).unwrap();
    EncoderPolicy::new(reader, &first, Device::Cpu).unwrap()
}

const TEXTS: [&str; 4] = ["one two three", "it is here", "over there", "nowhere at all"];

#[test]
fn weights_survive_their_bytes() {
    let weights = PolicyWeights::untrained(8, 3, &Device::Cpu).unwrap();
    let bytes = to_bytes(&weights).unwrap();
    let again = from_bytes(&bytes, &Device::Cpu).unwrap();
    assert_eq!(to_bytes(&again).unwrap(), bytes);
    let voted = PolicyWeights { head: with_ensemble(weights.head), trunk: None, turn: None };
    let bytes = to_bytes(&voted).unwrap();
    let again = from_bytes(&bytes, &Device::Cpu).unwrap();
    assert_eq!(again.head.tensors().len(), voted.head.tensors().len());
    assert_eq!(to_bytes(&again).unwrap(), bytes);
}

/// Two members: one with the head's scores, one with the opposite.
fn with_ensemble(head: Head) -> Head {
    let stack = |name: &str| {
        let weight = &head.tensors()[name];
        Tensor::stack(&[weight.clone(), weight.neg().unwrap()], 0).unwrap()
    };
    let (score, skip) = (stack("score.weight"), stack("skip.weight"));
    head.with_ensemble(score, skip).unwrap()
}

#[test]
fn weights_that_are_no_policy_are_refused_with_the_reason() {
    let reason = |bytes: &[u8]| from_bytes(bytes, &Device::Cpu).unwrap_err().to_string();
    assert!(reason(b"nonsense").contains("not a safetensors file"));
    let empty: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    let bytes = safetensors::serialize(empty, None).unwrap();
    assert_eq!(reason(&bytes), "the weights carry no policy header; are they a model instead?");
    let weights = PolicyWeights::untrained(8, 3, &Device::Cpu).unwrap();
    let mut bytes = to_bytes(&weights).unwrap();
    let mut other = bytes.clone();
    let at = other.windows(LAYOUT.len()).position(|w| w == LAYOUT.as_bytes()).unwrap();
    other[at + LAYOUT.len() - 1] = b'9';
    let expected = "the weights have state layout `regrade-states/9`, expected `regrade-states/1`";
    assert_eq!(reason(&other), expected);
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(reason(&bytes).ends_with("holds a value that is not finite"));
}

#[test]
fn a_logged_decision_gives_back_its_own_probability() {
    gives_back_probabilities(policy());
}

#[test]
fn so_does_one_that_an_ensemble_voted_on() {
    let mut policy = policy();
    policy.weights.head = with_ensemble(policy.weights.head);
    gives_back_probabilities(policy);
}

fn gives_back_probabilities(mut policy: EncoderPolicy) {
    let mut rng = StdRng::seed_from_u64(0);
    let sample = Exploration::Sample { temperature: 0.9, epsilon: 0.1 };
    let explore = Exploration::Explore { share: 0.7, temperature: 0.9, epsilon: 0.1 };
    let modes = [sample, explore, Exploration::Greedy];
    let requests: Vec<_> =
        (0..120).map(|i| request(&format!("x{i}"), &TEXTS, modes[i % 3])).collect();
    for decision in policy.decide(&requests, &mut rng) {
        let text = serde_json::to_string(&decision.unwrap()).unwrap();
        let logged: Decision = serde_json::from_str(&text).unwrap();
        let n = logged.states.rows();
        let states =
            Tensor::from_slice(logged.states.values(), (1, n, logged.states.width()), &Device::Cpu);
        let present = Tensor::ones((1, n), candle_core::DType::F32, &Device::Cpu).unwrap();
        let output = policy.weights.head.forward(&states.unwrap(), &present).unwrap();
        let masks = Masks { tokens: &logged.candidate_tokens, limits: logged.limits };
        let logits = output.logits(0, n).unwrap();
        let steps = behaviour_log_probs(&logits, masks, &logged.order, logged.exploration);
        assert_eq!(steps.unwrap(), logged.step_log_probs);
    }
}

#[test]
fn one_bad_request_fails_alone() {
    let mut policy = policy();
    let mut long = request("long", &TEXTS, Exploration::Greedy);
    long.query.text = "word ".repeat(20_000);
    let requests = [
        request("good", &TEXTS, Exploration::Greedy),
        long,
        request("empty", &[], Exploration::Greedy),
    ];
    let decisions = policy.decide(&requests, &mut StdRng::seed_from_u64(0));
    assert!(decisions[0].is_ok());
    assert!(matches!(&decisions[1], Err(PolicyError::Refused(_))), "{:?}", decisions[1]);
    assert!(matches!(&decisions[2], Err(PolicyError::Refused(_))));
}

#[test]
fn a_bad_swap_leaves_the_old_weights_serving() {
    let mut policy = policy();
    let before = policy.stamp();
    let mut torn = first_snapshot(policy.base.width(), 9, &Device::Cpu).unwrap();
    torn.version = PolicyVersion(1);
    torn.weights = torn.weights[..torn.weights.len() - 8].into();
    assert!(policy.swap(&torn).unwrap_err().to_string().contains("digest"));
    let narrow = first_snapshot(policy.base.width() + 1, 9, &Device::Cpu).unwrap();
    assert!(policy.swap(&narrow).unwrap_err().to_string().contains("wide"));
    assert_eq!(policy.stamp(), before);
    let mut good = first_snapshot(policy.base.width(), 9, &Device::Cpu).unwrap();
    good.version = PolicyVersion(1);
    policy.swap(&good).unwrap();
    assert_eq!(policy.stamp().version, PolicyVersion(1));
}

/// A snapshot whose trunk is the model folder's own but for what `change` does to it.
fn with_trunk(
    base: &PairReader,
    version: u64,
    change: impl FnOnce(&mut BTreeMap<String, Tensor>),
) -> PolicySnapshot {
    let live = base.live_trunk(&BTreeMap::new(), Trainable::FromLayer(1)).unwrap();
    let mut trunk = live.snapshot().unwrap();
    change(&mut trunk);
    let mut weights = PolicyWeights::untrained(base.width(), 4, &Device::Cpu).unwrap();
    weights.trunk = Some(Arc::new(trunk));
    PolicySnapshot::new(PolicyVersion(version), None, "full", to_bytes(&weights).unwrap())
}

const BIAS: &str = "encoder.layer.1.output.dense.bias";

#[test]
fn a_trunk_gives_the_states_and_the_base_the_scalars() {
    let mut policy = policy();
    let base = Arc::clone(&policy.base);
    let requests = [request("a", &TEXTS, Exploration::Greedy)];
    let mut decide = |snapshot: &PolicySnapshot| {
        policy.swap(snapshot).unwrap();
        policy.decide(&requests, &mut StdRng::seed_from_u64(0)).remove(0).unwrap()
    };
    let frozen = decide(&first_snapshot(base.width(), 4, &Device::Cpu).unwrap());
    // The same trunk, carried by the snapshot: the same decision.
    let carried = decide(&with_trunk(&base, 1, |_| {}));
    assert_eq!((&carried.states, &carried.scores), (&frozen.states, &frozen.scores));
    let moved = decide(&with_trunk(&base, 2, |trunk| {
        let bias = Tensor::new(&[0f32, 1., 2., 3.], &Device::Cpu).unwrap().repeat(4).unwrap();
        trunk.insert(BIAS.to_owned(), bias);
    }));
    assert_ne!(moved.scores, frozen.scores);
    let (h, width) = (base.width(), frozen.states.width());
    for (a, b) in moved.states.values().chunks(width).zip(frozen.states.values().chunks(width)) {
        assert_ne!(a[..h], b[..h]);
        assert_eq!(a[h..], b[h..]);
    }
    // And back: a snapshot without a trunk serves on the base again.
    let again = decide(&first_snapshot(base.width(), 4, &Device::Cpu).unwrap());
    assert_eq!((again.states, again.scores), (frozen.states, frozen.scores));
}

#[test]
fn a_trunk_that_does_not_fit_is_refused_by_name_and_the_old_weights_serve_on() {
    let mut policy = policy();
    let base = Arc::clone(&policy.base);
    policy.swap(&with_trunk(&base, 1, |_| {})).unwrap();
    let requests = [request("a", &TEXTS, Exploration::Greedy)];
    let before = policy.decide(&requests, &mut StdRng::seed_from_u64(0)).remove(0).unwrap();
    let short = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    let foreign = "encoder.layer.7.output.dense.bias";
    let cases: [(PolicySnapshot, &str, &str); 3] = [
        (
            with_trunk(&base, 2, |t| drop(t.insert(BIAS.to_owned(), short.clone()))),
            BIAS,
            "has shape [3]; expected [16]",
        ),
        (with_trunk(&base, 3, |t| drop(t.remove(BIAS))), BIAS, "is missing; expected shape [16]"),
        (
            with_trunk(&base, 4, |t| drop(t.insert(foreign.to_owned(), short.clone()))),
            foreign,
            "is no weight of this encoder",
        ),
    ];
    for (snapshot, name, reason) in cases {
        let error = policy.swap(&snapshot).unwrap_err().to_string();
        assert!(error.contains(&format!("tensor `{name}` {reason}")), "{error}");
        assert_eq!(policy.stamp().version, PolicyVersion(1));
    }
    let after = policy.decide(&requests, &mut StdRng::seed_from_u64(0)).remove(0).unwrap();
    assert_eq!(after, before);
}

#[test]
fn one_bad_request_fails_alone_on_a_trunk_too() {
    let mut policy = policy();
    let base = Arc::clone(&policy.base);
    policy.swap(&with_trunk(&base, 1, |_| {})).unwrap();
    let mut long = request("long", &TEXTS, Exploration::Greedy);
    long.query.text = "word ".repeat(20_000);
    let requests = [long, request("good", &TEXTS, Exploration::Greedy)];
    let decisions = policy.decide(&requests, &mut StdRng::seed_from_u64(0));
    assert!(matches!(&decisions[0], Err(PolicyError::Refused(_))), "{:?}", decisions[0]);
    assert!(decisions[1].is_ok());
}

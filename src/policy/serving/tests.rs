#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;
use crate::policy::reader::ReaderArgs;
use crate::policy::selection::log_probs;
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
}

#[test]
fn weights_that_are_no_policy_are_refused_with_the_reason() {
    let reason = |bytes: &[u8]| from_bytes(bytes, &Device::Cpu).unwrap_err().to_string();
    assert!(reason(b"nonsense").contains("not a safetensors file"));
    let empty: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    let bytes = safetensors::serialize(empty, None).unwrap();
    assert_eq!(reason(&bytes), "the weights have state layout `none`, expected `regrade-states/1`");
    let weights = PolicyWeights::untrained(8, 3, &Device::Cpu).unwrap();
    let mut bytes = to_bytes(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(reason(&bytes).ends_with("holds a value that is not finite"));
}

#[test]
fn a_logged_decision_gives_back_its_own_probability() {
    let mut policy = policy();
    let mut rng = StdRng::seed_from_u64(0);
    let exploration = Exploration::Sample { temperature: 0.9, epsilon: 0.1 };
    let requests: Vec<_> =
        (0..20).map(|i| request(&format!("x{i}"), &TEXTS, exploration)).collect();
    for decision in policy.decide(&requests, &mut rng) {
        let text = serde_json::to_string(&decision.unwrap()).unwrap();
        let logged: Decision = serde_json::from_str(&text).unwrap();
        let n = logged.states.rows();
        let states =
            Tensor::from_slice(logged.states.values(), (1, n, logged.states.width()), &Device::Cpu);
        let present = Tensor::ones((1, n), candle_core::DType::F32, &Device::Cpu).unwrap();
        let output = policy.weights.head.forward(&states.unwrap(), &present).unwrap();
        let masks = Masks { tokens: &logged.candidate_tokens, limits: logged.limits };
        let steps =
            log_probs(&output.logits(0, n).unwrap(), masks, &logged.order, 0.9, 0.1).unwrap();
        assert_eq!(steps, logged.step_log_probs);
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

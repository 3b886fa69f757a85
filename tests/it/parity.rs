//! Serving and training see one policy: the scores that serving ranks by are those that the
//! trainer's forward pass gives on the states serving logged.

use crate::tiny::{Tiny, passages};
use actors::ports::{DecideRequest, Policy as _};
use actors::types::{Candidate, Decision, Document, Exploration, SelectionLimits};
use candle_core::{Device, Tensor};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use regrade::policy::reader::{PairReader, ReaderArgs};
use regrade::policy::serving::{self, EncoderPolicy};
use std::sync::Arc;

const LISTS: usize = 20;
const PAIRS: usize = 200;

/// Lists of 8, 12, 8, 12, … candidates: 200 pairs.
fn requests() -> Vec<DecideRequest> {
    let candidate = |list: usize, rank: usize| {
        let passage = passages()[rank % 8].clone();
        let text = format!("{} and {} more", passage.text, list * 13 + rank);
        let document = Document { id: format!("{list}-{rank}").as_str().into(), text, ..passage };
        Candidate { document, score: 20.0 - rank as f32, rank: rank as u32 }
    };
    let request = |list: usize| DecideRequest {
        id: format!("d{list}").as_str().into(),
        query: crate::tiny::query(list, &[]),
        candidates: (0..8 + 4 * (list % 2)).map(|rank| candidate(list, rank)).collect(),
        policy: None,
        limits: SelectionLimits { k_min: 1, k_max: 10, token_budget: 2_048 },
        exploration: Exploration::Greedy,
    };
    (0..LISTS).map(request).collect()
}

/// The trainer's scores: all lists in one padded batch, from the states as the log has them.
fn trained(snapshot: &actors::types::PolicySnapshot, decisions: &[Decision]) -> Vec<Vec<f64>> {
    let weights = serving::from_snapshot(snapshot, &Device::Cpu).unwrap();
    let logged: Vec<Decision> = decisions
        .iter()
        .map(|d| serde_json::from_slice(&serde_json::to_vec(d).unwrap()).unwrap())
        .collect();
    let longest = logged.iter().map(|d| d.states.rows()).max().unwrap();
    let width = logged[0].states.width();
    let (mut states, mut present) = (Vec::new(), Vec::new());
    for decision in &logged {
        let missing = longest - decision.states.rows();
        states.extend_from_slice(decision.states.values());
        states.extend(std::iter::repeat_n(0.0_f32, missing * width));
        present.extend(std::iter::repeat_n(1.0_f32, longest - missing));
        present.extend(std::iter::repeat_n(0.0_f32, missing));
    }
    let states = Tensor::from_vec(states, (LISTS, longest, width), &Device::Cpu).unwrap();
    let present = Tensor::from_vec(present, (LISTS, longest), &Device::Cpu).unwrap();
    let output = weights.head.forward(&states, &present).unwrap();
    let scores =
        logged.iter().enumerate().map(|(b, d)| output.logits(b, d.states.rows()).unwrap().scores);
    scores.collect()
}

/// Kendall's τ-b without ties: (concordant − discordant) / pairs, in [-1, 1].
fn kendall_tau(a: &[f64], b: &[f64]) -> f64 {
    let (mut agree, mut pairs) = (0.0, 0.0);
    for i in 0..a.len() {
        for j in 0..i {
            agree += (a[i] - a[j]).signum() * (b[i] - b[j]).signum();
            pairs += 1.0;
        }
    }
    agree / pairs
}

#[test]
fn kendall_tau_is_one_for_the_same_order_and_minus_one_for_its_reverse() {
    assert_eq!(kendall_tau(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), 1.0);
    assert_eq!(kendall_tau(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
    assert!((kendall_tau(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]) - 1.0 / 3.0).abs() < 1e-12);
}

#[test]
fn serving_and_training_score_two_hundred_pairs_alike() {
    let tiny = Tiny::new();
    let reader = Arc::new(PairReader::load(&tiny.at("model"), ReaderArgs::default()).unwrap());
    let snapshot = serving::first_snapshot(reader.width(), 4, &Device::Cpu).unwrap();
    let mut policy = EncoderPolicy::new(reader, &snapshot, Device::Cpu).unwrap();
    let mut rng = StdRng::seed_from_u64(0);
    let decided = policy.decide(&requests(), &mut rng);
    let decisions: Vec<Decision> = decided.into_iter().map(Result::unwrap).collect();
    let trained = trained(&snapshot, &decisions);
    let mut pairs = 0;
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for (decision, trained) in decisions.iter().zip(&trained) {
        let served: Vec<f64> = decision.scores.iter().map(|s| f64::from(*s)).collect();
        assert_eq!(served.len(), trained.len());
        pairs += served.len();
        let largest =
            served.iter().zip(trained).map(|(a, b)| (a - b).abs()).fold(0.0_f64, f64::max);
        assert!(largest < 1e-4, "scores differ by {largest}");
        assert_eq!(kendall_tau(&served, trained), 1.0, "{served:?} {trained:?}");
        low = served.iter().copied().fold(low, f64::min);
        high = served.iter().copied().fold(high, f64::max);
    }
    assert_eq!(pairs, PAIRS);
    assert!(high - low > 1e-2, "the scores tell passages apart");
}

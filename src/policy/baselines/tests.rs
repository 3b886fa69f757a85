//! Baselines by name on a tiny random reader: what they choose follows from its logits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;
use crate::policy::pointwise::{PointwiseScorer as _, logistic};
use crate::policy::reader::ReaderArgs;
use actors::types::{Candidate, Exploration, Query, SelectionLimits};

const ALL: SelectionLimits = SelectionLimits { k_min: 0, k_max: 50, token_budget: 100_000 };

fn tools() -> Tools {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(folder.path(), 5).unwrap();
    let reader = Arc::new(PairReader::load(folder.path(), ReaderArgs::default()).unwrap());
    let known = ["d7", "d2", "elsewhere"].map(DocumentId::from).to_vec();
    let positives = BTreeMap::from([("q1".into(), known), ("q2".into(), Vec::new())]);
    Tools { reader, positives: Arc::new(positives), seed: 3, device: Device::Cpu }
}

fn request(id: &str, n: usize, limits: SelectionLimits) -> DecideRequest {
    let candidate = |rank: usize| Candidate {
        document: Document {
            id: format!("d{rank}").as_str().into(),
            text: format!("{} the room of {}", "word ".repeat(rank % 5), rank * 37 % 11),
            ..Document::default()
        },
        score: 20.0 - rank as f32,
        rank: rank as u32,
    };
    DecideRequest {
        policy: None,
        id: "decision".into(),
        query: Query { id: id.into(), text: "who is in room 4".to_owned(), ..Query::default() },
        candidates: (0..n).map(candidate).collect(),
        limits,
        exploration: Exploration::Sample { temperature: 1.0, epsilon: 0.1 },
    }
}

fn decide(name: &str, tools: &Tools, request: &DecideRequest) -> Result<Decision, PolicyError> {
    let mut policy = by_name(name, tools).unwrap();
    let mut rng = StdRng::seed_from_u64(0);
    let decision = policy.decide(std::slice::from_ref(request), &mut rng).pop().unwrap()?;
    assert_eq!(decision.policy, policy.stamp());
    assert!(!decision.is_explored(), "{name} leaves nothing to chance");
    assert_eq!(decision.scores.len(), request.candidates.len());
    assert_eq!(decision.step_log_probs.len(), decision.order.len());
    Ok(decision)
}

fn order(name: &str, tools: &Tools, request: &DecideRequest) -> Vec<u32> {
    decide(name, tools, request).unwrap().order
}

/// Places by falling logit, and the logits.
fn by_logit(tools: &Tools, request: &DecideRequest) -> (Vec<u32>, Vec<f32>) {
    let documents: Vec<&Document> = request.candidates.iter().map(|c| &c.document).collect();
    let logits = tools.reader.score(&request.query.text, &documents).unwrap();
    (ranking(&logits).into_iter().map(|place| place as u32).collect(), logits)
}

#[test]
fn the_cross_encoder_takes_the_k_highest_logits() {
    let (tools, request) = (tools(), request("q1", 12, ALL));
    let (ranked, logits) = by_logit(&tools, &request);
    assert_ne!(ranked, (0..12).collect::<Vec<_>>(), "another order than retrieval's");
    for k in [1, 3, 5, 20] {
        let decision = decide(&format!("cross_encoder_k{k}"), &tools, &request).unwrap();
        assert_eq!(decision.order, ranked[..k.min(12)]);
        assert_eq!(decision.scores, logits);
    }
    assert_eq!(order("retrieval_k3", &tools, &request), [0, 1, 2]);
}

#[test]
fn a_threshold_takes_what_reaches_it_and_only_that() {
    let (tools, request) = (tools(), request("q1", 12, ALL));
    let (ranked, logits) = by_logit(&tools, &request);
    // Exactly the logit of the fourth: it is kept, the fifth is not.
    let fourth = logits[ranked[3] as usize];
    assert_eq!(order(&format!("threshold_logit:{fourth}"), &tools, &request), ranked[..4]);
    let between = 0.5 * (logistic(fourth) + logistic(logits[ranked[4] as usize]));
    assert_eq!(order(&format!("threshold:{between}"), &tools, &request), ranked[..4]);
    assert!(order("threshold:1", &tools, &request).is_empty());
    assert_eq!(order("threshold:0", &tools, &request), ranked);
    // Retrieval scores are 20, 19, …
    assert_eq!(order("threshold_retrieval:18", &tools, &request), [0, 1, 2]);
    assert_eq!(order("knee_retrieval", &tools, &request).len(), 11, "a straight line");
    let falling: Vec<f32> = ranked.iter().map(|place| logits[*place as usize]).collect();
    assert_eq!(order("knee", &tools, &request), ranked[..knee(&falling)]);
    assert_eq!(order("largest_drop", &tools, &request), ranked[..largest_drop(&falling)]);
}

#[test]
fn every_baseline_keeps_to_the_limits() {
    let tools = tools();
    let limits = SelectionLimits { k_min: 2, k_max: 3, token_budget: 60 };
    let request = request("q1", 12, limits);
    for name in
        ["cross_encoder_k10", "threshold:0", "threshold:1", "knee", "random_k9", "windows_k9"]
    {
        let decision = decide(name, &tools, &request).unwrap();
        let tokens = |place: &u32| decision.candidate_tokens[*place as usize];
        let spent: u32 = decision.order.iter().map(tokens).sum();
        assert!(decision.candidate_tokens.iter().all(|tokens| *tokens > 0));
        assert!((2..=3).contains(&decision.order.len()), "{name}: {:?}", decision.order);
        assert!(spent <= 60, "{name} spends {spent}");
    }
}

#[test]
fn the_oracle_takes_the_known_positives_and_nothing_else() {
    let tools = tools();
    let limits = SelectionLimits { k_min: 3, ..ALL };
    assert_eq!(order("oracle", &tools, &request("q1", 12, ALL)), [2, 7], "in retrieval order");
    assert_eq!(order("oracle", &tools, &request("q1", 5, ALL)), [2], "as far as they are there");
    assert_eq!(order("oracle", &tools, &request("q1", 12, limits)), [2, 7], "not to reach k_min");
    assert!(order("oracle", &tools, &request("q2", 12, ALL)).is_empty());
    let scores = decide("oracle", &tools, &request("q1", 12, ALL)).unwrap().scores;
    assert_eq!(ranking(&scores)[..4], [2, 7, 0, 1], "positives rank first");
    let unknown = decide("oracle", &tools, &request("q9", 12, ALL)).unwrap_err();
    assert!(unknown.to_string().contains("`q9`"), "{unknown}");
    let none = Tools { positives: Arc::default(), ..tools };
    assert!(matches!(by_name("oracle", &none).err(), Some(BaselineError::NoPositives)));
}

#[test]
fn the_lot_is_the_questions_own() {
    let tools = tools();
    let draw = |id: &str, seed: u64| {
        order("random_k5", &Tools { seed, ..tools.clone() }, &request(id, 12, ALL))
    };
    assert_eq!(draw("q1", 3), draw("q1", 3));
    assert_ne!(draw("q1", 3), draw("q2", 3));
    assert_ne!(draw("q1", 3), draw("q1", 4));
    // Each of 12 documents is among the 5 in 5/12 of 600 questions: 250, standard deviation 12.
    let mut counts = [0_u32; 12];
    for question in 0..600 {
        let drawn = draw(&format!("question {question}"), 3);
        let distinct: std::collections::HashSet<u32> = drawn.iter().copied().collect();
        assert_eq!(distinct.len(), 5);
        drawn.iter().for_each(|place| counts[*place as usize] += 1);
    }
    assert!(counts.iter().all(|count| (190..=310).contains(count)), "{counts:?}");
}

#[test]
fn windows_on_the_same_backbone_find_the_best_of_a_window() {
    let (tools, request) = (tools(), request("q1", 12, ALL));
    let (ranked, _) = by_logit(&tools, &request);
    let windows = decide("windows_k12", &tools, &request).unwrap();
    // The untrained head adds small noise to the logit: the order is nearly the cross-encoder's.
    let mut sorted = windows.order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..12).collect::<Vec<_>>());
    let top: std::collections::HashSet<&u32> = ranked[..4].iter().collect();
    assert!(windows.order[..6].iter().filter(|p| top.contains(p)).count() >= 3, "{windows:?}");
    assert_eq!(
        ranking(&windows.scores),
        windows.order.iter().map(|p| *p as usize).collect::<Vec<_>>()
    );
}

#[test]
fn what_cannot_be_decided_or_swapped_is_told() {
    let tools = tools();
    for name in ["knee", "random_k2", "windows_k2"] {
        let error = decide(name, &tools, &request("q1", 0, ALL)).unwrap_err();
        assert!(matches!(error, PolicyError::Refused(_)), "{error}");
        let mut empty = request("q1", 3, ALL);
        empty.query.text = String::new();
        let error = decide(name, &tools, &empty).unwrap_err();
        assert!(matches!(error, PolicyError::Refused(_)), "{name}: {error}");
        let snapshot = PolicySnapshot::new(actors::types::PolicyVersion(1), None, "x", vec![1]);
        let swapped = by_name(name, &tools).unwrap().swap(&snapshot).unwrap_err();
        assert!(swapped.to_string().contains(name), "{swapped}");
    }
    let error = by_name("best", &tools).err().unwrap().to_string();
    assert!(NAMES.iter().all(|form| error.contains(form)), "{error}");
}

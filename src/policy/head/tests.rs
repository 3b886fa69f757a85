//! The head: shapes, padding, gradients, what it believes untrained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::selection::{Masks, log_probs};
use crate::policy::trajectories::{Recorded, Trajectories};
use actors::types::SelectionLimits;

fn config() -> HeadConfig {
    HeadConfig { embedding: 6, scalars: 3, hidden: 8, attention_heads: 2, interaction_rank: 4 }
}

fn head(seed: u64) -> Head {
    let prior = Prior { scores: vec![1.0, 0.0, -0.5], stop: 0.3 };
    let head = Head::init(config(), &prior, seed, &Device::Cpu).unwrap();
    // Start values are small on purpose; here every path shall carry weight.
    let mut rng = StdRng::seed_from_u64(seed + 100);
    let tensors = head.tensors().iter().map(|(name, t)| {
        let noise: Vec<f32> = (0..t.elem_count()).map(|_| rng.random_range(-0.5..0.5)).collect();
        let noise = Tensor::from_vec(noise, t.dims(), &Device::Cpu).unwrap();
        (name.clone(), (t + noise).unwrap())
    });
    Head::from_tensors(config(), tensors.collect()).unwrap()
}

fn states(lists: usize, n: usize, seed: u64) -> Tensor {
    let mut rng = StdRng::seed_from_u64(seed);
    let values = (0..lists * n * 9).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>();
    Tensor::from_vec(values, (lists, n, 9), &Device::Cpu).unwrap()
}

const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 3, token_budget: 20 };

#[test]
fn every_weight_gets_a_gradient() {
    let (head, variables) = head(1).trainable().unwrap();
    let present = Tensor::ones((2, 4), DType::F32, &Device::Cpu).unwrap();
    let output = head.forward(&states(2, 4, 2), &present).unwrap();
    let tokens = [5; 4];
    let masks = Masks { tokens: &tokens, limits: LIMITS };
    let recorded = [
        Recorded { list: 0, candidates: 4, masks, order: &[2, 0] },
        Recorded { list: 1, candidates: 4, masks, order: &[1, 3, 0] },
    ];
    let trajectories = Trajectories::new(&recorded, 4, &Device::Cpu).unwrap();
    let all = trajectories.all_log_probs(&output, 1.0).unwrap();
    let loss = trajectories.taken(&all).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    for (name, variable) in &variables {
        let grad = grads.get(variable).unwrap_or_else(|| panic!("`{name}` got no gradient"));
        let size = grad.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 1e-7, "`{name}` got a zero gradient");
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let base = head(3);
    let present = Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap();
    let input = states(1, 3, 4);
    let loss = |head: &Head| {
        let masks = Masks { tokens: &[5, 5, 5], limits: LIMITS };
        let recorded = [Recorded { list: 0, candidates: 3, masks, order: &[1, 0] }];
        let output = head.forward(&input, &present).unwrap();
        let trajectories = Trajectories::new(&recorded, 3, &Device::Cpu).unwrap();
        let all = trajectories.all_log_probs(&output, 0.8).unwrap();
        trajectories.taken(&all).unwrap().sum_all().unwrap()
    };
    let (live, variables) = base.trainable().unwrap();
    let grads = loss(&live).backward().unwrap();
    for (name, variable) in &variables {
        let grad = grads.get(variable).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let values = variable.as_tensor().copy().unwrap();
        let flat = values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let at = |step: f32| {
            let mut moved = flat.clone();
            moved[0] += step;
            let moved = Tensor::from_vec(moved, values.dims(), &Device::Cpu).unwrap();
            variable.set(&moved).unwrap();
            loss(&live).to_scalar::<f32>().unwrap()
        };
        let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
        variable.set(&values).unwrap();
        assert!((grad[0] - numeric).abs() < 5e-3, "`{name}`: {} against {numeric}", grad[0]);
    }
}

#[test]
fn trainer_and_selection_agree_on_every_log_probability() {
    let head = head(5);
    // The second list is padded by one candidate.
    let present = Tensor::new(&[[1f32, 1.0, 1.0], [1.0, 1.0, 0.0]], &Device::Cpu).unwrap();
    let output = head.forward(&states(2, 3, 6), &present).unwrap();
    let (long, short) = ([6u32, 9, 7], [6u32, 9]);
    let orders: [(u32, &[u32], &[u32]); 4] =
        [(0, &long, &[1, 2]), (0, &long, &[0]), (1, &short, &[1, 0]), (1, &short, &[0])];
    let recorded = orders.map(|(list, tokens, order)| Recorded {
        list,
        candidates: tokens.len(),
        masks: Masks { tokens, limits: LIMITS },
        order,
    });
    let trajectories = Trajectories::new(&recorded, 3, &Device::Cpu).unwrap();
    let all = trajectories.all_log_probs(&output, 0.7).unwrap();
    let taken = trajectories.taken(&all).unwrap().to_vec2::<f32>().unwrap();
    for (row, (list, tokens, order)) in taken.iter().zip(orders) {
        let logits = output.logits(list as usize, tokens.len()).unwrap();
        let masks = Masks { tokens, limits: LIMITS };
        let exact = log_probs(&logits, masks, order, 0.7, 0.0).unwrap();
        for (step, value) in row.iter().enumerate() {
            let expected = exact.get(step).copied().unwrap_or(0.0);
            assert!((f64::from(*value) - expected).abs() < 1e-5, "{row:?} against {exact:?}");
        }
    }
}

#[test]
fn padding_changes_nothing() {
    let head = head(7);
    let short = states(1, 2, 8);
    let padding = (Tensor::ones((1, 1, 9), DType::F32, &Device::Cpu).unwrap() * 3.0).unwrap();
    let padded = Tensor::cat(&[&short, &padding], 1).unwrap();
    let ones = Tensor::ones((1, 2), DType::F32, &Device::Cpu).unwrap();
    let mask = Tensor::new(&[[1f32, 1.0, 0.0]], &Device::Cpu).unwrap();
    let alone = head.forward(&short, &ones).unwrap().logits(0, 2).unwrap();
    let beside = head.forward(&padded, &mask).unwrap().logits(0, 2).unwrap();
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-5);
    assert!(close(&alone.scores, &beside.scores) && close(&[alone.stop], &[beside.stop]));
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let good = head(9).tensors().clone();
    let refused = |tensors| Head::from_tensors(config(), tensors).unwrap_err();
    let mut missing = good.clone();
    missing.remove("score.weight");
    assert_eq!(refused(missing), "tensor `score.weight` is missing");
    let mut other = good.clone();
    other.insert("stop.bias".into(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
    assert_eq!(refused(other), "tensor `stop.bias` has shape [2], expected [1]");
    let mut extra = good;
    extra.insert("x".into(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
    assert_eq!(refused(extra), "tensor `x` does not belong to a selection head");
}

/// Members that read off what the head itself does, and one that turns the scores round.
fn with_ensemble(head: &Head) -> Head {
    let row = |name: &str, sign: f64| (head.weight(name).unwrap() * sign).unwrap();
    let stack = |name| Tensor::stack(&[row(name, 1.0), row(name, -1.0)], 0).unwrap();
    head.clone().with_ensemble(stack("score.weight"), stack("skip.weight")).unwrap()
}

#[test]
fn members_score_as_the_head_does_by_weights_of_their_own() {
    let plain = head(7);
    let voted = with_ensemble(&plain);
    let present = Tensor::ones((2, 4), DType::F32, &Device::Cpu).unwrap();
    let states = states(2, 4, 8);
    for list in 0..2 {
        let of = |head: &Head| head.forward(&states, &present).unwrap().logits(list, 4).unwrap();
        let (plain, voted) = (of(&plain), of(&voted));
        assert_eq!(plain.ensemble, Vec::<Vec<f64>>::new());
        assert_eq!(voted.ensemble.len(), 2);
        for j in 0..4 {
            assert!((voted.ensemble[0][j] - plain.scores[j]).abs() < 1e-5);
            assert!((voted.ensemble[1][j] + plain.scores[j]).abs() < 1e-5);
        }
        assert_eq!(SelectionLogits { ensemble: Vec::new(), ..voted }, plain, "all else is shared");
    }
    let (trained, variables) = voted.trainable().unwrap();
    assert_eq!(trained.tensors().len(), variables.len());
    assert!(!variables.keys().any(|name| name.starts_with("ensemble")), "its states move away");
}

#[test]
fn an_ensemble_that_does_not_fit_is_refused_by_name() {
    let zeros = |rows, width| Tensor::zeros((rows, width), DType::F32, &Device::Cpu).unwrap();
    let refused = |score, skip| head(1).with_ensemble(score, skip).unwrap_err();
    let said = refused(zeros(2, 9), zeros(2, 3));
    assert_eq!(said, "tensor `ensemble.score.weight` has shape [2, 9], expected [2, 8]");
    let said = refused(zeros(2, 8), zeros(3, 3));
    assert_eq!(said, "tensor `ensemble.skip.weight` has shape [3, 3], expected [2, 3]");
    let said = refused(zeros(33, 8), zeros(33, 3));
    assert_eq!(said, "an ensemble has 1 to 32 members, found 33");
    let mut tensors = with_ensemble(&head(1)).tensors().clone();
    assert!(Head::from_tensors(config(), tensors.clone()).is_ok());
    tensors.remove("ensemble.skip.weight");
    let said = Head::from_tensors(config(), tensors).unwrap_err();
    assert_eq!(said, "tensor `ensemble.skip.weight` is missing: an ensemble has both");
}

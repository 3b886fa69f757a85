//! The turn head: gradients, start, bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::serving::{PolicyWeights, from_bytes, to_bytes};

fn config() -> TurnHeadConfig {
    TurnHeadConfig { embedding: 3, scalars: 4, hidden: 6 }
}

/// Every path carries weight, other than at the start.
fn head(seed: u64) -> TurnHead {
    let head = TurnHead::init(config(), seed, &Device::Cpu).unwrap();
    let mut rng = StdRng::seed_from_u64(seed + 100);
    let tensors = head.tensors().iter().map(|(name, t)| {
        let noise: Vec<f32> = (0..t.elem_count()).map(|_| rng.random_range(-0.5..0.5)).collect();
        let noise = Tensor::from_vec(noise, t.dims(), &Device::Cpu).unwrap();
        (name.clone(), (t + noise).unwrap())
    });
    TurnHead::from_tensors(config(), tensors.collect()).unwrap()
}

fn states(rows: usize) -> Tensor {
    let mut rng = StdRng::seed_from_u64(7);
    let values: Vec<f32> = (0..rows * 10).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    Tensor::from_vec(values, (rows, 10), &Device::Cpu).unwrap()
}

/// A loss that every output has a part in.
fn loss(head: &TurnHead, states: &Tensor) -> Tensor {
    let output = head.forward(states).unwrap();
    let log_probs = candle_nn::ops::log_softmax(&output.logits, 1).unwrap();
    let policy = log_probs.narrow(1, 1, 2).unwrap().sum_all().unwrap();
    (policy + output.values.sqr().unwrap().sum_all().unwrap()).unwrap()
}

#[test]
fn every_weight_gets_a_gradient_also_at_the_start() {
    for head in [head(1), TurnHead::init(config(), 1, &Device::Cpu).unwrap()] {
        let (head, variables) = head.trainable().unwrap();
        // The value starts near 0, where its square is flat: shift it.
        let output = head.forward(&states(5)).unwrap();
        let value = (output.values + 1.0).unwrap().sqr().unwrap().sum_all().unwrap();
        let grads = (loss(&head, &states(5)) + value).unwrap().backward().unwrap();
        for (name, variable) in &variables {
            let grad = grads.get(variable).unwrap_or_else(|| panic!("`{name}` got no gradient"));
            let size = grad.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size > 1e-7, "`{name}` got a zero gradient");
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let base = head(3);
    let (live, variables) = base.trainable().unwrap();
    let grads = loss(&live, &states(3)).backward().unwrap();
    for (name, variable) in &variables {
        let grad = grads.get(variable).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let at = |step: f32| {
            let mut tensors = base.tensors().clone();
            let mut values = tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values[0] += step;
            let shape = tensors[name].shape().clone();
            tensors.insert(name.clone(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
            let moved = TurnHead::from_tensors(config(), tensors).unwrap();
            f64::from(loss(&moved, &states(3)).to_scalar::<f32>().unwrap())
        };
        let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
        let difference = (f64::from(grad[0]) - numeric).abs();
        assert!(difference < 2e-2 * (1.0 + numeric.abs()), "{name}: {} {numeric}", grad[0]);
    }
}

#[test]
fn the_start_prefers_no_move_and_seeds_repeat() {
    let at = |seed| TurnHead::init(config(), seed, &Device::Cpu).unwrap();
    let (logits, value) = at(5).forward(&states(1)).unwrap().row(0).unwrap();
    let p = logits.probabilities(&[true; MOVES], 1.0, 0.0).unwrap();
    assert!(p.iter().all(|p| (p - 1.0 / MOVES as f64).abs() < 0.02), "{p:?}");
    assert!(value.abs() < 0.1);
    assert_eq!(at(5).forward(&states(1)).unwrap().row(0).unwrap(), (logits, value));
}

#[test]
fn a_policy_file_keeps_its_turn_head_and_files_without_one_still_load() {
    let plain = PolicyWeights::untrained(3, 1, &Device::Cpu).unwrap();
    let bytes = to_bytes(&plain).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("turn"), "the old layout has changed");
    assert!(from_bytes(&bytes, &Device::Cpu).unwrap().turn.is_none());
    let config = TurnHeadConfig { embedding: 3, scalars: state::SCALARS.len(), hidden: 6 };
    let turn = TurnHead::init(config, 2, &Device::Cpu).unwrap();
    let bytes = to_bytes(&PolicyWeights { turn: Some(turn.clone()), ..plain }).unwrap();
    let again = from_bytes(&bytes, &Device::Cpu).unwrap();
    let found = again.turn.as_ref().unwrap();
    for (name, tensor) in turn.tensors() {
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(tensor), values(&found.tensors()[name]), "{name}");
    }
    assert_eq!(to_bytes(&again).unwrap(), bytes);
}

#[test]
fn tensors_of_another_head_are_refused_by_name() {
    let mut tensors = head(1).tensors().clone();
    tensors.remove("value.dense.bias");
    let error = TurnHead::from_tensors(config(), tensors.clone()).unwrap_err();
    assert_eq!(error, "tensor `value.dense.bias` is missing");
    let mut tensors = head(1).tensors().clone();
    tensors.insert("extra".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    let error = TurnHead::from_tensors(config(), tensors).unwrap_err();
    assert_eq!(error, "tensor `extra` does not belong to a turn head");
}

//! Fused layers against composed ones and against finite differences.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use candle_core::{Device, Var};
use rand::{Rng, SeedableRng, rngs::StdRng};

fn random(shape: impl Into<candle_core::Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let mut rng = StdRng::seed_from_u64(seed);
    let numbers: Vec<f32> = (0..shape.elem_count()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    assert_eq!(a.shape(), b.shape());
    for (a, b) in numbers(a).iter().zip(numbers(b)) {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} against {b}");
    }
}

/// A fixed random weighting of the outputs, so that every gradient is of a scalar.
fn loss(y: &Tensor) -> Tensor {
    (y * random(y.shape(), 99)).unwrap().sum_all().unwrap()
}

/// Gradients of `loss(f(inputs))` must agree with those of `oracle`, and with differences of f.
fn check(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor, oracle: impl Fn(&[Tensor]) -> Tensor) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    assert_close(&f(&tensors), &oracle(&tensors), 2e-5);
    let gradients = loss(&f(&tensors)).backward().unwrap();
    let expected = loss(&oracle(&tensors)).backward().unwrap();
    for (at, var) in vars.iter().enumerate() {
        let gradient = gradients.get(var).expect("a gradient for every argument");
        assert_close(gradient, expected.get(var).unwrap(), 2e-4);
        let gradient = numbers(gradient);
        for i in (0..gradient.len()).step_by(gradient.len().div_ceil(9)) {
            let shifted = |h: f32| {
                let mut inputs = inputs.to_vec();
                let mut values = numbers(&inputs[at]);
                values[i] += h;
                inputs[at] = Tensor::from_vec(values, inputs[at].shape(), &Device::Cpu).unwrap();
                f64::from(loss(&f(&inputs)).to_scalar::<f32>().unwrap())
            };
            let difference = ((shifted(1e-2) - shifted(-1e-2)) / 2e-2) as f32;
            assert!(
                (difference - gradient[i]).abs() < 5e-3 * (1.0 + gradient[i].abs()),
                "argument {at}, number {i}: difference {difference}, gradient {}",
                gradient[i]
            );
        }
    }
}

#[test]
fn linear_and_its_gradients_agree_with_composed_operations() {
    check(
        &[random((5, 6), 1), random((4, 6), 2), random(4, 3)],
        |x| linear(&x[0], &x[1], &x[2]).unwrap(),
        |x| composed::linear(&x[0], &x[1], &x[2]).unwrap(),
    );
}

#[test]
fn layer_norm_and_its_gradients_agree_with_composed_operations() {
    check(
        &[random((70, 24), 1), random(24, 2), random(24, 3)],
        |x| layer_norm(&x[0], &x[1], &x[2], 1e-5).unwrap(),
        |x| composed::layer_norm(&x[0], &x[1], &x[2], 1e-5).unwrap(),
    );
}

#[test]
fn gelu_and_its_gradients_agree_with_composed_operations() {
    check(
        &[random((5, 6), 1), random((40, 6), 2), random(40, 3)],
        |x| linear_gelu(&x[0], &x[1], &x[2]).unwrap(),
        |x| composed::linear(&x[0], &x[1], &x[2]).unwrap().gelu_erf().unwrap(),
    );
}

#[test]
fn packed_attention_and_its_gradients_agree_with_composed_operations() {
    let offsets = Offsets::from_lengths([3, 1, 7]);
    check(
        &[random((11, 8), 1), random((11, 8), 2), random((11, 8), 3)],
        |x| attention(&x[0], &x[1], &x[2], &offsets, 2).unwrap(),
        |x| composed::attention(&x[0], &x[1], &x[2], &offsets, 2).unwrap(),
    );
}

#[test]
fn a_frozen_weight_gets_no_gradient_and_the_input_still_does() {
    let x = Var::from_tensor(&random((3, 4), 1)).unwrap();
    let weight = random((2, 4), 2);
    let y = linear(x.as_tensor(), &weight, &random(2, 3)).unwrap();
    let gradients = loss(&y).backward().unwrap();
    assert!(gradients.get(&x).is_some());
    assert!(gradients.get(&weight).is_none());
}

#[test]
fn heads_that_do_not_divide_the_width_are_refused() {
    let x = random((2, 6), 1);
    let error = attention(&x, &x, &x, &Offsets::from_lengths([2]), 4).unwrap_err();
    assert!(error.to_string().contains("4 heads"), "{error}");
}

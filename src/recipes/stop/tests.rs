//! Targets, calibration and gradient of the stop, against numbers worked by hand.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use candle_core::DType;

const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 5, token_budget: 100 };

fn logits() -> SelectionLogits {
    SelectionLogits::from_scores(vec![0.5, 2.0, -1.0, 1.0], 50.0)
}

#[test]
fn a_list_is_made_to_go_on_within_its_limits() {
    let of = |limits, further| {
        let masks = Masks { tokens: &[10; 4], limits };
        Continuation::of(&logits(), masks, further).unwrap()
    };
    let list = of(LIMITS, 2);
    assert_eq!(list.order, [1, 3, 0], "the stop is left out");
    assert_eq!(list.prefixes(LIMITS), [vec![1], vec![1, 3], vec![1, 3, 0]]);
    let from_none = SelectionLimits { k_min: 0, k_max: 2, ..LIMITS };
    let list = of(from_none, 3);
    assert_eq!(list.prefixes(from_none), [vec![], vec![1], vec![1, 3]]);
    let narrow = SelectionLimits { token_budget: 10, ..LIMITS };
    assert!(of(narrow, 3).prefixes(narrow).is_empty(), "nothing fits beside the first");
    let fixed = SelectionLimits { k_min: 3, k_max: 3, ..LIMITS };
    assert!(of(fixed, 3).prefixes(fixed).is_empty(), "the stop is never a choice");
}

#[test]
fn a_target_is_below_one_half_where_the_next_document_is_worth_its_price() {
    let mut list = Continuation { order: vec![1, 3, 0], rewards: vec![None; 4] };
    list.learn(&[Some(0.4), Some(0.9), Some(0.9)], LIMITS);
    assert_eq!(list.rewards, [None, Some(0.4), Some(0.9), Some(0.9)]);
    let targets = list.targets();
    assert_eq!(targets[0], None, "the first document had to be taken");
    assert!((targets[1].unwrap() - (1.0 - 0.49) / 2.0).abs() < 1e-12);
    assert!((targets[2].unwrap() - 0.505).abs() < 1e-12, "of equals the shorter");
}

#[test]
fn calibration_finds_the_shifts_that_make_chances_true() {
    // σ((margin + 3 − 2 · chosen) / 4) exactly, at margins of every sign.
    let of = |(margin, chosen): (f64, f64)| {
        let chance = 1.0 / (1.0 + (-(margin + 3.0 - 2.0 * chosen) / SHARPNESS).exp());
        (margin, chosen, chance)
    };
    let points: Vec<_> =
        [(-8.0, 1.0), (-2.0, 1.0), (5.0, 2.0), (0.0, 3.0), (9.0, 2.0)].map(of).to_vec();
    let (a, b) = calibration(&points);
    assert!((a - 3.0).abs() < 0.5 && (b + 2.0).abs() < 0.3, "{a} {b}");
    assert_eq!(calibration(&[]), (0.0, 0.0));
    let (a, b) = calibration(&[(400.0, 1.0, 0.2), (-400.0, 1.0, 0.2)]);
    assert!(a.is_finite() && b.is_finite(), "{a} {b}");
}

#[test]
fn the_margin_is_stop_less_next_and_its_slope_is_that_of_the_loss() {
    let cpu = Device::Cpu;
    let scores = Tensor::new(&[[0.5f32, 2.0, -1.0, 1.0]], &cpu).unwrap();
    let evidence = Tensor::new(&[[0.1f32, 0.7, 0.0, -0.4]], &cpu).unwrap();
    let stop = Var::new(&[1.5f32], &cpu).unwrap();
    let output = HeadOutput {
        scores,
        ensemble: None,
        interaction: Tensor::zeros((1, 4, 4), DType::F32, &cpu).unwrap(),
        evidence,
        stop: stop.as_tensor().clone(),
        stop_per_document: Tensor::new(&[0.25f32], &cpu).unwrap(),
    };
    let continuation = Continuation {
        order: vec![1, 3, 0],
        rewards: vec![None, Some(0.2), Some(0.61), Some(0.62)],
    };
    let masks = Masks { tokens: &[10; 4], limits: LIMITS };
    let shown = [Shown { list: 0, candidates: 4, masks, continuation: &continuation }];
    let choices = Choices::new(&output, &shown, (4, &cpu)).unwrap().unwrap();
    // After {1}: 1.5 + 0.7 + 0.25 − 1.0; after {1, 3}: 1.5 + 0.3 + 0.5 − 0.5.
    let (by_hand, found) = ([(1.45, 1.0, 0.3), (1.8, 2.0, 0.5)], choices.points().unwrap());
    assert_eq!(found.len(), 2);
    for (found, by_hand) in found.iter().zip(by_hand) {
        assert!((found.0 - by_hand.0).abs() < 1e-5, "{found:?}");
        assert!(found.1 == by_hand.1 && (found.2 - by_hand.2).abs() < 1e-6, "{found:?}");
    }
    let chance = |margin: f64| 1.0 / (1.0 + (-margin / SHARPNESS).exp());
    let slope = (chance(1.45) - 0.3 + chance(1.8) - 0.5) / 2.0 / SHARPNESS;
    let gradients = choices.loss().unwrap().backward().unwrap();
    let gradient = gradients.get(&stop).unwrap().to_vec1::<f32>().unwrap()[0];
    assert!((f64::from(gradient) - slope).abs() < 1e-6, "{gradient} against {slope}");
}

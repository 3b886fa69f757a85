//! A phase repeats, resumes and refuses what is not finite.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use candle_core::Device;
use std::collections::BTreeSet;

fn variables() -> BTreeMap<String, Var> {
    let var = Var::new(&[3f32, -2.0, 0.5], &Device::Cpu).unwrap();
    BTreeMap::from([("w".to_owned(), var)])
}

fn args() -> OptimizerArgs {
    OptimizerArgs { rate: 0.1, total_steps: 10, ..OptimizerArgs::default() }
}

/// Runs to `until` steps of a loss that differs from step to step; considers every third.
fn train(variables: &BTreeMap<String, Var>, keep: Option<&Keep>, until: u64) -> Fit {
    let mut fit = Fit::start("toy", variables, args(), keep).unwrap();
    while fit.steps_done() < until {
        let step = fit.steps_done();
        let target = batch(7, "toy", step, (3, 2)).iter().sum::<usize>() as f64;
        let loss = (variables["w"].as_tensor() - target).unwrap().sqr().unwrap();
        fit.step(&loss.mean_all().unwrap()).unwrap();
        if step.is_multiple_of(3) {
            fit.consider(-(step as f64 - 4.0).abs()).unwrap();
        }
    }
    fit
}

fn values(variables: &BTreeMap<String, Var>) -> Vec<f32> {
    variables["w"].as_tensor().to_vec1().unwrap()
}

#[test]
fn a_killed_run_resumes_to_the_same_weights() {
    let whole = variables();
    assert_eq!(train(&whole, None, 10).finish().unwrap(), Some(-1.0));
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::new(folder.path().to_owned(), b"run", 2);
    // Killed after 7 steps: the checkpoint is that of step 6, the best of step 4.
    drop(train(&variables(), Some(&keep), 7));
    let resumed = variables();
    let fit = Fit::start("toy", &resumed, args(), Some(&keep)).unwrap();
    assert_eq!(fit.steps_done(), 6);
    assert_eq!(train(&resumed, Some(&keep), 10).finish().unwrap(), Some(-1.0));
    assert_eq!(values(&resumed), values(&whole));
    // A phase that is done is not done again.
    let again = variables();
    assert_eq!(train(&again, Some(&keep), 10).finish().unwrap(), Some(-1.0));
    assert_eq!(values(&again), values(&whole));
    keep.clear(&["toy", "never made"]).unwrap();
    assert_eq!(Fit::start("toy", &again, args(), Some(&keep)).unwrap().steps_done(), 0);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::new(folder.path().to_owned(), b"run", 1);
    drop(train(&variables(), Some(&keep), 2));
    let other = Keep::new(folder.path().to_owned(), b"another", 1);
    let error = Fit::start("toy", &variables(), args(), Some(&other)).unwrap_err();
    assert!(matches!(error, RecipeError::OtherRun { .. }), "{error}");
}

#[test]
fn a_loss_or_gradient_that_is_no_number_stops_with_the_step_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::new(folder.path().to_owned(), b"run", 100);
    let variables = variables();
    let mut fit = train(&variables, Some(&keep), 2);
    let before = values(&variables);
    let w = variables["w"].as_tensor();
    // sqrt of a negative number; and sqrt(w − w), which is 0 with the gradient ∞ − ∞.
    let bad_loss = w.affine(0.0, -1.0).unwrap().sqrt().unwrap().mean_all().unwrap();
    let bad_gradient = (w - w).unwrap().sqrt().unwrap().mean_all().unwrap();
    for loss in [bad_loss, bad_gradient] {
        let error = fit.step(&loss).unwrap_err();
        let RecipeError::Diverged { step, phase, kept, .. } = &error else { panic_at(&error) };
        assert_eq!((*step, phase.as_str()), (3, "toy"));
        assert!(kept.contains("toy.checkpoint"), "{error}");
        assert_eq!(values(&variables), before);
    }
    assert_eq!(Fit::start("toy", &variables, args(), Some(&keep)).unwrap().steps_done(), 2);
}

#[allow(clippy::panic, reason = "tests")]
fn panic_at(error: &RecipeError) -> ! {
    panic!("{error}")
}

#[test]
fn a_pass_has_every_item_once_and_differs_from_the_next() {
    let pass = |from: u64| -> Vec<usize> {
        (from..from + 4).flat_map(|step| batch(1, "p", step, (7, 2))).collect()
    };
    assert_eq!(pass(0).len(), 7);
    assert_eq!(pass(0).into_iter().collect::<BTreeSet<_>>().len(), 7);
    assert_eq!(pass(0), pass(0));
    assert_ne!(pass(0), pass(4));
    assert_ne!(pass(0), (0..4).flat_map(|s| batch(2, "p", s, (7, 2))).collect::<Vec<_>>());
    assert!(batch(1, "p", 0, (0, 2)).is_empty());
}

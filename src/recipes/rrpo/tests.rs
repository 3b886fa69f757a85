//! What the recipe learns in a small world, and what it refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use super::super::noise::Noisy;
use super::super::rollout::greedy_reward;
use super::super::toy::{self, LIMITS, Toy, with_tools};
use super::*;
use candle_core::Device;
use std::sync::atomic::Ordering;

fn config() -> RrpoConfig {
    RrpoConfig {
        limits: LIMITS,
        utilities: Schedule { epochs: 0, ..Schedule::default() },
        optimise: Schedule { epochs: 3, learning_rate: 5e-3, ..Schedule::default() },
        rounds: 10,
        ..RrpoConfig::default()
    }
}

fn run(config: &RrpoConfig) -> Result<(Head, RecipeReport), RecipeError> {
    let (instances, validation) = (toy::instances(96, 1), toy::instances(32, 2));
    let instances: Vec<&Instance> = instances.iter().collect();
    let validation: Vec<&Instance> = validation.iter().collect();
    with_tools(&Toy::default(), None, |tools| {
        train(config, &toy::head(0), &instances, &validation, tools)
    })
}

fn reward(head: &Head, limits: SelectionLimits) -> f64 {
    let held_out = toy::instances(100, 3);
    let held_out: Vec<&Instance> = held_out.iter().collect();
    greedy_reward(head, &held_out, limits, &Toy::default(), &Device::Cpu).unwrap().unwrap()
}

#[test]
fn a_fixed_number_of_picks_learns_to_find_the_good_ones() {
    let limits = SelectionLimits { k_min: 2, k_max: 2, ..LIMITS };
    for (form, gamma) in [(Form::SelfCritical, 1.0), (Form::Printed, 1.0)] {
        let config = RrpoConfig { limits, form, gamma, ..config() };
        let (head, report) = run(&config).unwrap();
        let (before, after) = (reward(&toy::head(0), limits), reward(&head, limits));
        // The best there is at k = 2: 0.3 + 0.7 − 0.2 = 0.8.
        let closed = (after - before) / (0.8 - before);
        assert!(closed > 0.8, "{form:?}: {before} -> {after}");
        assert_eq!(report.phases.len(), 10);
    }
}

#[test]
fn the_ratio_is_one_and_the_divergence_zero_at_the_first_step() {
    let instances = toy::instances(16, 1);
    let refs: Vec<&Instance> = instances.iter().collect();
    let (head, config, mut trials) = (toy::head(0), config(), 0);
    with_tools(&Toy::default(), None, |tools| {
        let drawn = rollouts(&config, &head, &refs, (1, &mut trials), tools).unwrap();
        let base = baselines(&config, &head, &refs, &mut trials, tools).unwrap();
        let groups = credited(&config, &refs, &base, &drawn);
        let picked: Vec<&Group<'_>> = groups.iter().collect();
        let all = groups.iter().flat_map(|g| &g.selections);
        let steps: Vec<f64> = all.flat_map(|c| c.advantages.clone()).collect();
        let mean = steps.iter().sum::<f64>() / steps.len() as f64;
        for ratio_to in [RatioTo::Behaviour, RatioTo::Reference] {
            let config = RrpoConfig { ratio_to, ..config.clone() };
            let value = loss(&config, (&head, &head), &picked, tools).unwrap();
            let value = f64::from(value.to_scalar::<f32>().unwrap());
            // −mean(1 · A) + β · 0.
            assert!((value + mean).abs() < 1e-4, "{ratio_to:?}: {value} against {}", -mean);
        }
    });
}

#[test]
fn a_selection_that_does_as_the_reference_has_no_advantage() {
    let config = config();
    assert_eq!(prefix_advantages(&config, &[0.3, 0.8], &[0.3, 0.8]), [0.0, 0.0]);
    assert_eq!(prefix_advantages(&config, &[0.3, 0.8], &[0.3]), [0.5, 0.5], "a shorter reference");
    let printed = RrpoConfig { form: Form::Printed, gamma: 1.0, lambda: 0.0, ..config };
    // δ_1 = 0.3 + 0.8 − 0.3, δ_2 = 0.8 + 0 − 0.8.
    let by_hand = prefix_advantages(&printed, &[0.3, 0.8], &[0.3, 0.8]);
    assert!((by_hand[0] - 0.8).abs() < 1e-12 && by_hand[1].abs() < 1e-12, "{by_hand:?}");
}

#[test]
fn the_reference_is_asked_once_a_question_and_each_prefix_once() {
    let environment = Toy::default();
    let instances = toy::instances(10, 1);
    let refs: Vec<&Instance> = instances.iter().collect();
    let limits = SelectionLimits { k_min: 3, k_max: 3, ..LIMITS };
    let config = RrpoConfig { limits, rounds: 1, trajectories: 1, ..config() };
    let report = with_tools(&environment, None, |tools| {
        train(&config, &toy::head(0), &refs, &[], tools).unwrap().1
    });
    // Three prefixes of one drawn selection and three of the reference's, for each question.
    assert_eq!(report.trials, 60);
    assert_eq!(environment.0.load(Ordering::Relaxed), 60);
}

#[test]
fn a_selection_that_is_drawn_twice_counts_twice_and_is_asked_once() {
    let environment = Toy::default();
    let instances = toy::instances(6, 1);
    let refs: Vec<&Instance> = instances.iter().collect();
    // Five lists there are, sixty-four are drawn.
    let limits = SelectionLimits { k_min: 1, k_max: 1, ..LIMITS };
    let config = RrpoConfig { limits, trajectories: 64, ..config() };
    let drawn = with_tools(&environment, None, |tools| {
        rollouts(&config, &toy::head(0), &refs, (1, &mut 0), tools).unwrap()
    });
    for at in 0..refs.len() {
        assert_eq!(drawn.iter().filter(|(of, _)| *of == at).count(), 64);
    }
    let asked = environment.0.load(Ordering::Relaxed);
    assert!(asked <= 30, "{asked} trials for 30 different selections");
}

#[test]
fn credit_of_the_whole_learns_when_to_stop() {
    let config = RrpoConfig { form: Form::Whole, ..config() };
    assert_eq!(prefix_advantages(&config, &[0.3, 0.9], &[0.3, 0.5, 0.7]), [0.9 - 0.7; 2]);
    let (head, _) = run(&config).unwrap();
    let (before, after) = (reward(&toy::head(0), LIMITS), reward(&head, LIMITS));
    assert!(after > before + 0.1, "{before} -> {after}");
}

#[test]
fn a_seed_gives_the_same_weights() {
    let weights = |seed| toy::weights(&run(&RrpoConfig { seed, ..config() }).unwrap().0);
    assert!(weights(1) == weights(1), "a seed repeats");
    assert!(weights(1) != weights(2), "another seed gives others");
}

#[test]
fn a_fifth_of_wrong_verdicts_still_teaches() {
    let (instances, validation) = (toy::instances(96, 1), toy::instances(32, 2));
    let instances: Vec<&Instance> = instances.iter().collect();
    let validation: Vec<&Instance> = validation.iter().collect();
    let limits = SelectionLimits { k_min: 2, k_max: 2, ..LIMITS };
    let config = RrpoConfig { limits, ..config() };
    let (toy, mut reached) = (Toy::default(), Vec::new());
    for flips in [0.0, 0.2] {
        let noisy = Noisy::new(&toy, flips, 5);
        let head = with_tools(&noisy, None, |tools| {
            train(&config, &toy::head(0), &instances, &validation, tools).unwrap().0
        });
        reached.push(reward(&head, limits) - reward(&toy::head(0), limits));
    }
    assert!(reached[1] > 0.7 * reached[0], "gains {reached:?}");
}

//! What the recipe learns in a small world, and what it refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use super::super::fit::{Keep, Point};
use super::super::rollout::greedy;
use super::super::rollout::greedy_reward;
use super::super::toy::{self, LIMITS, Toy, with_tools};
use super::*;
use candle_core::Device;

fn config() -> DynamicRagConfig {
    DynamicRagConfig {
        limits: LIMITS,
        clone: Schedule { epochs: 12, learning_rate: 5e-3, ..Schedule::default() },
        prefer: Schedule { epochs: 12, learning_rate: 3e-3, ..Schedule::default() },
        ..DynamicRagConfig::default()
    }
}

/// An expert that thinks well of good documents and, by mistake, of those with a high second column.
fn expert(instance: &Instance) -> Vec<f32> {
    let rows = instance.states.values().chunks(instance.states.width());
    let score = |(c, row): (&actors::types::Candidate, &[f32])| match c.document.title.as_str() {
        "good" => 0.95,
        _ if row[1] > 0.5 => 0.9,
        _ => 0.1,
    };
    instance.candidates.iter().zip(rows).map(score).collect()
}

fn run(
    config: &DynamicRagConfig,
    keep: Option<&Keep>,
) -> Result<(Head, RecipeReport), RecipeError> {
    let instances = toy::instances(96, 1);
    let experts: Vec<Vec<f32>> = instances.iter().map(expert).collect();
    let lessons: Vec<Lesson<'_>> = instances
        .iter()
        .zip(&experts)
        .map(|(instance, expert)| Lesson { instance, expert })
        .collect();
    let validation = toy::instances(32, 2);
    let validation: Vec<&Instance> = validation.iter().collect();
    with_tools(&Toy::default(), keep, |tools| {
        train(config, &toy::head(0), &lessons, &validation, tools)
    })
}

fn reward(head: &Head) -> f64 {
    let held_out = toy::instances(100, 3);
    let held_out: Vec<&Instance> = held_out.iter().collect();
    greedy_reward(head, &held_out, LIMITS, &Toy::default(), &Device::Cpu).unwrap().unwrap()
}

#[test]
fn the_expert_takes_what_it_believes_in_best_first_and_stops() {
    let take = |k_min, k_max, token_budget| {
        let limits = SelectionLimits { k_min, k_max, token_budget };
        expert_selection(&[0.9, 0.2, 0.95, 0.8, 0.9], &[10; 5], 0.8, limits)
    };
    assert_eq!(take(0, 15, 1000), [2, 0, 4], "0.8 is not above 0.8; ties by rank");
    assert_eq!(take(4, 15, 1000), [2, 0, 4, 3], "filled up to k_min");
    assert_eq!(take(0, 2, 1000), [2, 0]);
    assert_eq!(take(0, 15, 25), [2, 0], "the budget");
    assert!(expert_selection(&[0.1], &[10], 0.8, LIMITS).is_empty(), "no document at all");
}

#[test]
fn the_clone_does_as_the_expert_and_preference_unlearns_its_mistake() {
    let alone = DynamicRagConfig { prefer: Schedule { epochs: 0, ..config().prefer }, ..config() };
    let (cloned, _) = run(&alone, None).unwrap();
    let held_out = toy::instances(100, 3);
    let refs: Vec<&Instance> = held_out.iter().collect();
    let chosen = greedy(&cloned, &refs, LIMITS, &Device::Cpu).unwrap();
    let good = |order: &Vec<u32>, i: &Instance| toy::good(i).iter().all(|g| order.contains(g));
    let found = chosen.iter().zip(&held_out).filter(|(o, i)| good(o, i)).count();
    assert!(found > 90, "the clone finds {found} of 100");
    let (preferred, report) = run(&config(), None).unwrap();
    let (before, after) = (reward(&cloned), reward(&preferred));
    assert!(after > before + 0.02, "{before} -> {after}");
    assert_eq!(report.phases.len(), 2);
    assert!(report.trials > 96 && report.phases[1].best.is_some());
}

#[test]
fn a_seed_gives_the_same_weights_and_another_seed_others() {
    let weights = |seed| {
        let config = DynamicRagConfig { seed, ..config() };
        toy::weights(&run(&config, None).unwrap().0)
    };
    assert!(weights(1) == weights(1), "a seed repeats");
    assert!(weights(1) != weights(2), "another seed gives others");
}

#[test]
fn a_run_killed_in_either_phase_resumes_to_the_same_weights() {
    let whole = toy::weights(&run(&config(), None).unwrap().0);
    for phase in PHASES {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::new(folder.path().to_owned(), b"run", 2);
        let instances = toy::instances(96, 1);
        let experts: Vec<Vec<f32>> = instances.iter().map(expert).collect();
        let lessons: Vec<Lesson<'_>> = instances
            .iter()
            .zip(&experts)
            .map(|(instance, expert)| Lesson { instance, expert })
            .collect();
        let validation = toy::instances(32, 2);
        let validation: Vec<&Instance> = validation.iter().collect();
        // A panic in the middle of the phase stands for the kill: nothing is tidied up.
        let killed = std::panic::catch_unwind(|| {
            let mut dies = |name: &str, point: Point| {
                assert!(!(name == phase && point.step >= 6), "killed");
            };
            let (environment, device) = (Toy::default(), Device::Cpu);
            let mut tools = Tools {
                environment: &environment,
                device: &device,
                keep: Some(&keep),
                progress: &mut dies,
            };
            let _ = train(&config(), &toy::head(0), &lessons, &validation, &mut tools);
        });
        assert!(killed.is_err(), "{phase} was not reached");
        let resumed = run(&config(), Some(&keep)).unwrap().0;
        assert!(toy::weights(&resumed) == whole, "killed in {phase}");
    }
}

#[test]
fn every_weight_that_decides_a_selection_gets_a_gradient_from_preference() {
    let before = toy::head(0);
    let (after, _) = run(&config(), None).unwrap();
    for (name, tensor) in before.tensors() {
        let moved = (tensor - &after.tensors()[name]).unwrap().abs().unwrap();
        let moved = moved.sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(moved > 0.0, "`{name}` did not move");
    }
}

#[test]
fn pairs_are_of_two_selections_with_a_gap() {
    let instances = toy::instances(40, 5);
    let refs: Vec<&Instance> = instances.iter().collect();
    let (mut trials, config) = (0, config());
    with_tools(&Toy::default(), None, |tools| {
        let found = pairs(&config, &toy::head(0), &refs, (1, &mut trials), tools).unwrap();
        assert!(!found.is_empty());
        for pair in &found {
            assert!(pair.chosen.reward() >= pair.rejected.reward() + config.gap_min);
            assert_ne!(pair.chosen.order, pair.rejected.order);
        }
        let greedy = DynamicRagConfig { gap_min: 10.0, ..config };
        let none = pairs(&greedy, &toy::head(0), &refs, (1, &mut trials), tools).unwrap_err();
        assert!(none.to_string().contains("raise `trajectories`"), "{none}");
    });
}

#[test]
fn settings_out_of_range_are_named() {
    let config = DynamicRagConfig { trajectories: 1, ..DynamicRagConfig::default() };
    let error = run(&config, None).unwrap_err().to_string();
    assert!(error.contains("`trajectories` must be 2 to 256"), "{error}");
}

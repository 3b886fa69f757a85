//! What the recipe learns in a small world, and what it refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use super::super::rollout::greedy_reward;
use super::super::toy::{self, LIMITS, Toy, with_tools};
use super::*;
use candle_core::Device;

fn config() -> GrpoConfig {
    GrpoConfig {
        limits: LIMITS,
        utilities: Schedule { epochs: 0, ..Schedule::default() },
        optimise: Schedule { epochs: 3, learning_rate: 5e-3, ..Schedule::default() },
        rounds: 10,
        ..GrpoConfig::default()
    }
}

#[test]
fn it_learns_which_documents_and_how_many() {
    let (instances, validation) = (toy::instances(96, 1), toy::instances(32, 2));
    let instances: Vec<&Instance> = instances.iter().collect();
    let validation: Vec<&Instance> = validation.iter().collect();
    let train = |seed| {
        let config = GrpoConfig { seed, ..config() };
        with_tools(&Toy::default(), None, |tools| {
            train(&config, &toy::head(0), &instances, &validation, tools).unwrap().0
        })
    };
    let held_out = toy::instances(100, 3);
    let held_out: Vec<&Instance> = held_out.iter().collect();
    let reward = |head: &Head| {
        greedy_reward(head, &held_out, LIMITS, &Toy::default(), &Device::Cpu).unwrap().unwrap()
    };
    let best: f64 = held_out.iter().map(|i| 1.0 - 0.1 * toy::good(i).len() as f64).sum();
    let (best, head) = (best / 100.0, train(1));
    let (before, after) = (reward(&toy::head(0)), reward(&head));
    assert!(after > before + 0.9 * (best - before), "{before} -> {after} of {best}");
    assert!(toy::weights(&head) == toy::weights(&train(1)), "a seed repeats");
}

#[test]
fn a_group_is_credited_against_its_own_mean() {
    let instances = toy::instances(2, 1);
    let refs: Vec<&Instance> = instances.iter().collect();
    let rollout = |reward: f64, k: u32| Rollout {
        order: (0..k).collect(),
        step_log_probs: vec![-1.0; k as usize + 1],
        rewards: vec![0.0, reward],
    };
    let drawn = vec![
        (0, rollout(0.2, 2)),
        (0, rollout(0.8, 1)),
        (1, rollout(0.5, 1)),
        (1, rollout(0.5, 2)),
    ];
    let groups = credited(&refs, &drawn);
    assert_eq!(groups.len(), 1, "a group without spread teaches nothing");
    // Mean 0.5, deviation 0.3: −1 on all three steps of the first, 1 on both of the second.
    for (episode, by_hand) in groups[0].selections.iter().zip([vec![-1.0; 3], vec![1.0; 2]]) {
        assert_eq!(episode.advantages.len(), by_hand.len());
        assert!(episode.advantages.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-9));
    }
}

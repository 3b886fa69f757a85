//! The worlds of ordered selections are worlds that the selection head can learn: a plain policy
//! gradient, its baseline the mean of a group, comes near the best lists. What a recipe adds is held
//! against the same bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use actors::types::Exploration;
use candle_core::{Device, Tensor};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use regrade::algorithms::advantage::whiten;
use regrade::policy::head::Head;
use regrade::policy::optimizer::OptimizerArgs;
use regrade::policy::serving::PolicyWeights;
use regrade::policy::trajectories::{Recorded, Trajectories};
use regrade::recipes::fit::{self, Fit};
use regrade::recipes::instance::Instance;
use regrade::recipes::rollout::{self, Credit};
use simulations::worlds::lists::{
    Bounds, EMBEDDING, HELD_OUT, LIMITS, ListWorld, Paid, mean_worth, puzzles,
};
use simulations::worlds::order::Order;
use simulations::worlds::prefix::Prefix;

const TRAINED: u64 = 256;
const STEPS: u64 = 240;
const BATCH: usize = 32;
const DRAWS: usize = 8;

/// Trains a head by policy gradient and gives its greedy lists' share of the gap, with the bounds.
fn learned<W: ListWorld + Copy>(world: W) -> (f64, f64, Bounds) {
    let device = Device::Cpu;
    let held_out = puzzles(&world, HELD_OUT, 200).unwrap();
    let bounds = Bounds::of(&world, &held_out);
    let instances: Vec<Instance> =
        puzzles(&world, 0, TRAINED).unwrap().into_iter().map(Instance::from).collect();
    let start = PolicyWeights::untrained(EMBEDDING, world.seed(), &device).unwrap().head;
    let measured = |head: &Head| {
        let asked: Vec<Instance> = held_out.iter().cloned().map(Instance::from).collect();
        let asked: Vec<&Instance> = asked.iter().collect();
        let orders = rollout::greedy(head, &asked, LIMITS, &device).unwrap();
        bounds.closed(mean_worth(&world, &held_out, &orders))
    };
    let before = measured(&start);
    let (head, variables) = start.trainable().unwrap();
    let args = OptimizerArgs { rate: 3e-3, total_steps: STEPS, ..OptimizerArgs::default() };
    let mut fit = Fit::start("gradient", &variables, args, None).unwrap();
    let mut rng = StdRng::seed_from_u64(world.seed());
    for step in 0..STEPS {
        let batch = fit::batch(world.seed(), "gradient", step, (instances.len(), BATCH));
        let batch: Vec<&Instance> = batch.into_iter().map(|at| &instances[at]).collect();
        fit.step(&loss(&head, &world, &batch, &mut rng)).unwrap();
    }
    (before, measured(&head), bounds)
}

/// Minus the mean of advantage times log-probability over drawn lists.
fn loss<W: ListWorld + Copy>(
    head: &Head,
    world: &W,
    batch: &[&Instance],
    rng: &mut StdRng,
) -> Tensor {
    let device = Device::Cpu;
    let how = Exploration::Sample { temperature: 1.0, epsilon: 0.05 };
    let logits = rollout::logits(head, batch, &device).unwrap();
    let asked: Vec<(&Instance, Vec<Vec<u32>>)> = batch
        .iter()
        .zip(&logits)
        .map(|(instance, logits)| {
            let drawn = rollout::draw(logits, instance, LIMITS, (how, DRAWS), rng).unwrap();
            (*instance, drawn.into_iter().map(|selection| selection.order).collect())
        })
        .collect();
    let rewards = rollout::rewards(&Paid(*world), &asked, Credit::Whole);
    let (mut recorded, mut advantages) = (Vec::new(), Vec::new());
    for (list, ((instance, orders), rewards)) in asked.iter().zip(&rewards).enumerate() {
        let mut group: Vec<f64> = rewards.iter().map(|r| r.as_ref().unwrap()[0]).collect();
        whiten(&mut group);
        for (order, advantage) in orders.iter().zip(group) {
            let masks = instance.masks(LIMITS);
            let candidates = instance.len();
            recorded.push(Recorded { list: list as u32, candidates, masks, order });
            advantages.push(advantage as f32);
        }
    }
    let lists: Vec<_> = batch.iter().map(|instance| &instance.states).collect();
    let (states, present, n) = rollout::pad(&lists, head.config().state_width(), &device).unwrap();
    let output = head.forward(&states, &present).unwrap();
    let trajectories = Trajectories::new(&recorded, n, &device).unwrap();
    let all = trajectories.all_log_probs(&output, 1.0).unwrap();
    let log_probs = trajectories.taken(&all).unwrap().sum(1).unwrap();
    let count = advantages.len();
    let advantages = Tensor::from_vec(advantages, count, &device).unwrap();
    (log_probs * advantages).unwrap().mean_all().unwrap().neg().unwrap()
}

#[test]
fn a_policy_gradient_learns_the_order_and_the_number() {
    for seed in [1, 2] {
        let (before, after, bounds) = learned(Order { seed });
        assert!(before < after - 0.1, "{before} before, {after} after: {bounds:?}");
        assert!(after >= 0.9, "closed {after:.3}: {bounds:?}");
    }
}

#[test]
fn a_policy_gradient_learns_that_the_bridge_comes_first() {
    for seed in [1, 2] {
        let (before, after, bounds) = learned(Prefix { seed });
        assert!(before < after - 0.1, "{before} before, {after} after: {bounds:?}");
        assert!(after >= 0.9, "closed {after:.3}: {bounds:?}");
    }
}

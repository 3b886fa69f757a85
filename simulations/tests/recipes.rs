//! Each recipe over selections beats the baselines of worlds whose best lists are known, and closes
//! at least nine tenths of the gap between the best of them and the best there is.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::Device;
use regrade::policy::head::Head;
use regrade::policy::serving::PolicyWeights;
use regrade::recipes::dynamic_rag::{self, DynamicRagConfig, Lesson};
use regrade::recipes::fit::Point;
use regrade::recipes::grpo::{self, GrpoConfig};
use regrade::recipes::instance::Instance;
use regrade::recipes::lists::{Schedule, Tools};
use regrade::recipes::rollout;
use regrade::recipes::rrpo::{self, Form, RrpoConfig};
use simulations::worlds::lists::{
    Bounds, EMBEDDING, HELD_OUT, LIMITS, ListWorld, Paid, mean_worth, puzzles,
};
use simulations::worlds::order::Order;
use simulations::worlds::prefix::Prefix;

const TRAINED: u64 = 256;

/// Trains by `recipe` and gives the share of the gap that its greedy lists close.
fn closed<W: ListWorld + Copy>(
    world: W,
    recipe: impl Fn(&Head, &[Instance], &[f32], &mut Tools<'_>) -> Head,
) -> f64 {
    let device = Device::Cpu;
    let held_out = puzzles(&world, HELD_OUT, 200).unwrap();
    let bounds = Bounds::of(&world, &held_out);
    let instances: Vec<Instance> =
        puzzles(&world, 0, TRAINED).unwrap().into_iter().map(Instance::from).collect();
    let start = PolicyWeights::untrained(EMBEDDING, world.seed(), &device).unwrap().head;
    let mut nothing = |_: &str, _: Point| {};
    let paid = Paid(world);
    let mut tools =
        Tools { environment: &paid, device: &device, keep: None, progress: &mut nothing };
    // The expert knows the first two kinds for good, and thinks as well of the third: a distractor.
    let head = recipe(&start, &instances, &[0.95, 0.9, 0.85, 0.1], &mut tools);
    let asked: Vec<Instance> = held_out.iter().cloned().map(Instance::from).collect();
    let asked: Vec<&Instance> = asked.iter().collect();
    let orders = rollout::greedy(&head, &asked, LIMITS, &device).unwrap();
    bounds.closed(mean_worth(&world, &held_out, &orders))
}

fn optimise() -> Schedule {
    Schedule { epochs: 2, learning_rate: 3e-3, weight_decay: 0.0, ..Schedule::default() }
}

fn by_rrpo(start: &Head, instances: &[Instance], _: &[f32], tools: &mut Tools<'_>) -> Head {
    let instances: Vec<&Instance> = instances.iter().collect();
    let config = RrpoConfig {
        limits: LIMITS,
        form: Form::Whole,
        utilities: Schedule { epochs: 0, ..Schedule::default() },
        optimise: optimise(),
        rounds: 16,
        trajectories: 16,
        kl_weight: 0.0,
        ..RrpoConfig::default()
    };
    rrpo::train(&config, start, &instances, &[], tools).unwrap().0
}

fn by_grpo(start: &Head, instances: &[Instance], _: &[f32], tools: &mut Tools<'_>) -> Head {
    let instances: Vec<&Instance> = instances.iter().collect();
    let config = GrpoConfig {
        limits: LIMITS,
        utilities: Schedule { epochs: 0, ..Schedule::default() },
        optimise: optimise(),
        rounds: 16,
        kl_weight: 0.0,
        ..GrpoConfig::default()
    };
    grpo::train(&config, start, &instances, &[], tools).unwrap().0
}

fn by_dynamic_rag(
    start: &Head,
    instances: &[Instance],
    by_kind: &[f32],
    tools: &mut Tools<'_>,
) -> Head {
    // A document's kind stands at the column that is largest.
    let expert = |instance: &Instance| -> Vec<f32> {
        let rows = instance.states.values().chunks(instance.states.width());
        rows.map(|row| {
            let best = (0..by_kind.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            by_kind[best]
        })
        .collect()
    };
    let experts: Vec<Vec<f32>> = instances.iter().map(expert).collect();
    let lessons: Vec<Lesson<'_>> = instances
        .iter()
        .zip(&experts)
        .map(|(instance, expert)| Lesson { instance, expert })
        .collect();
    let config = DynamicRagConfig {
        limits: LIMITS,
        clone: Schedule { epochs: 3, ..optimise() },
        prefer: Schedule { epochs: 3, ..optimise() },
        trajectories: 16,
        // A clone is sure of itself; what it would not do must be tried all the same.
        temperature: 2.0,
        gap_min: 0.02,
        rounds: 8,
        ..DynamicRagConfig::default()
    };
    dynamic_rag::train(&config, start, &lessons, &[], tools).unwrap().0
}

#[test]
fn rrpo_comes_near_the_best_lists() {
    for seed in [1, 2] {
        let (order, prefix) = (closed(Order { seed }, by_rrpo), closed(Prefix { seed }, by_rrpo));
        assert!(order >= 0.9 && prefix >= 0.9, "seed {seed}: {order:.3}, {prefix:.3}");
    }
}

#[test]
fn grpo_comes_near_the_best_lists() {
    for seed in [1, 2] {
        let (order, prefix) = (closed(Order { seed }, by_grpo), closed(Prefix { seed }, by_grpo));
        assert!(order >= 0.9 && prefix >= 0.9, "seed {seed}: {order:.3}, {prefix:.3}");
    }
}

#[test]
fn dynamic_rag_comes_near_the_best_lists() {
    for seed in [1, 2] {
        let (order, prefix) =
            (closed(Order { seed }, by_dynamic_rag), closed(Prefix { seed }, by_dynamic_rag));
        assert!(order >= 0.9 && prefix >= 0.9, "seed {seed}: {order:.3}, {prefix:.3}");
    }
}

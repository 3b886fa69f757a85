//! Weights that the recipes over lists reach from a seed in the small world: a change of the shared
//! loop, of draws or of batches that was not meant shows here. Where one was meant, its commit says
//! so and takes the new numbers.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::dynamic_rag::{self, DynamicRagConfig, Lesson};
use super::grpo::{self, GrpoConfig};
use super::instance::Instance;
use super::lists::Schedule;
use super::rrpo::{self, RrpoConfig};
use super::toy::{self, LIMITS, Toy, with_tools};
use crate::policy::head::Head;

/// Mean size of the weights, and how far they went from where they started (root mean square).
fn figures(head: &Head) -> [f64; 2] {
    let (start, end) = (toy::weights(&toy::head(0)), toy::weights(head));
    let count = end.len() as f64;
    let size = end.iter().map(|w| f64::from(w.abs())).sum::<f64>() / count;
    let moved = start.iter().zip(&end).map(|(a, b)| f64::from(b - a).powi(2)).sum::<f64>();
    [size, (moved / count).sqrt()]
}

/// Tolerance for another order of sums on another machine.
fn assert_pinned(name: &str, head: &Head, pinned: [f64; 2]) {
    let found = figures(head);
    let near = found.iter().zip(pinned).all(|(a, b)| (a - b).abs() < 1e-3 * b);
    assert!(near, "{name}: {found:?} against {pinned:?}");
}

fn schedule(epochs: u64) -> Schedule {
    Schedule { epochs, learning_rate: 3e-3, batch_queries: 8, ..Schedule::default() }
}

#[test]
fn dynamic_rag_reaches_the_pinned_weights() {
    let instances = toy::instances(24, 1);
    let expert = [0.95f32, 0.1, 0.9, 0.2, 0.3];
    let of = |instance| Lesson { instance, expert: &expert };
    let lessons: Vec<Lesson<'_>> = instances.iter().map(of).collect();
    let config = DynamicRagConfig {
        limits: LIMITS,
        clone: schedule(2),
        prefer: schedule(3),
        rounds: 2,
        ..DynamicRagConfig::default()
    };
    let validation = toy::instances(8, 2);
    let validation: Vec<&Instance> = validation.iter().collect();
    let head = with_tools(&Toy::default(), None, |tools| {
        dynamic_rag::train(&config, &toy::head(0), &lessons, &validation, tools).unwrap().0
    });
    assert_pinned("dynamic_rag", &head, [0.106_545_3, 0.011_759_0]);
}

fn by_rrpo(trajectories: usize) -> Head {
    let instances = toy::instances(24, 1);
    let instances: Vec<&Instance> = instances.iter().collect();
    let config = RrpoConfig {
        limits: LIMITS,
        utilities: schedule(0),
        optimise: schedule(3),
        rounds: 2,
        trajectories,
        ..RrpoConfig::default()
    };
    with_tools(&Toy::default(), None, |tools| {
        rrpo::train(&config, &toy::head(0), &instances, &[], tools).unwrap().0
    })
}

#[test]
fn rrpo_reaches_the_pinned_weights() {
    assert_pinned("rrpo of one draw", &by_rrpo(1), [0.106_266_4, 0.010_157_6]);
}

#[test]
fn rrpo_of_many_draws_reaches_the_pinned_weights() {
    assert_pinned("rrpo", &by_rrpo(16), [0.106_156_8, 0.009_623_3]);
}

#[test]
fn grpo_reaches_the_pinned_weights() {
    let instances = toy::instances(24, 1);
    let instances: Vec<&Instance> = instances.iter().collect();
    let config = GrpoConfig {
        limits: LIMITS,
        utilities: schedule(0),
        optimise: schedule(3),
        rounds: 2,
        ..GrpoConfig::default()
    };
    let head = with_tools(&Toy::default(), None, |tools| {
        grpo::train(&config, &toy::head(0), &instances, &[], tools).unwrap().0
    });
    assert_pinned("grpo", &head, [0.106_131_2, 0.010_029_1]);
}

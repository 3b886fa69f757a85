//! A small world for the recipes' own tests: lists in which some documents are good, a column that
//! tells them, and a reward for finding them at a price a document.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::fit::Point;
use super::instance::Instance;
use super::lists::Tools;
use crate::policy::features;
use crate::policy::head::Head;
use crate::policy::serving::PolicyWeights;
use actors::ports::{Environment, EnvironmentError, Trial};
use actors::types::{
    Candidate, CandidateStates, Document, Query, Reward, RewardPart, SelectionLimits,
};
use candle_core::Device;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const EMBEDDING: usize = 4;
pub(super) const LIMITS: SelectionLimits =
    SelectionLimits { k_min: 0, k_max: 4, token_budget: 1_000 };

/// 0.3 for any answer, 0.7 of the good documents found, 0.1 off a document; counts what it is asked.
#[derive(Default)]
pub(super) struct Toy(pub AtomicU64);

impl Environment for Toy {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        self.0.fetch_add(trials.len() as u64, Ordering::Relaxed);
        let worth = |trial: &Trial| {
            let all: usize = trial.query.text.parse().unwrap();
            let found = trial.documents.iter().filter(|d| d.title == "good").count();
            let k = trial.documents.len() as f64;
            let value = 0.3 + 0.7 * found as f64 / all as f64 - 0.1 * k;
            let part = RewardPart::new("toy", value, 1.0);
            Ok(Reward::from_parts(vec![part]).unwrap())
        };
        trials.iter().map(worth).collect()
    }
}

/// Lists of five, one or two of them good.
pub(super) fn instances(count: u64, seed: u64) -> Vec<Instance> {
    (0..count).map(|i| instance(seed * 100_000 + i)).collect()
}

fn instance(number: u64) -> Instance {
    let mut rng = StdRng::seed_from_u64(number);
    let width = EMBEDDING + features::SCALARS.len();
    let good: Vec<bool> = {
        let first = rng.random_range(0..5);
        let second = rng.random_range(0..5);
        (0..5).map(|j| j == first || j == second).collect()
    };
    let mut values = vec![0f32; 5 * width];
    for (row, good) in values.chunks_mut(width).zip(&good) {
        row[..EMBEDDING].fill_with(|| rng.random_range(-1.0..1.0));
        row[EMBEDDING..].fill_with(|| rng.random_range(-0.1..0.1));
        row[0] += if *good { 3.0 } else { -1.0 };
    }
    let candidate = |(rank, good): (usize, &bool)| Candidate {
        document: Document {
            id: format!("{number}-{rank}").as_str().into(),
            title: if *good { "good" } else { "other" }.to_owned(),
            ..Document::default()
        },
        score: 1.0,
        rank: rank as u32,
    };
    let text = good.iter().filter(|g| **g).count().to_string();
    Instance {
        query: Query { id: format!("q{number}").as_str().into(), text, ..Query::default() },
        dataset: "toy".to_owned(),
        answer_type: "short".to_owned(),
        positives: Vec::new(),
        candidates: good.iter().enumerate().map(candidate).collect(),
        states: CandidateStates::new(width, values).unwrap(),
        tokens: vec![10; 5],
    }
}

/// The order that the best policy chooses: the good ones.
pub(super) fn good(instance: &Instance) -> Vec<u32> {
    instance.candidates.iter().filter(|c| c.document.title == "good").map(|c| c.rank).collect()
}

pub(super) fn head(seed: u64) -> Head {
    PolicyWeights::untrained(EMBEDDING, seed, &Device::Cpu).unwrap().head
}

/// Every weight of a head, in one row.
pub(super) fn weights(head: &Head) -> Vec<f32> {
    let flat = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    head.tensors().values().flat_map(flat).collect()
}

/// Runs `work` with tools on this environment.
pub(super) fn with_tools<T>(
    environment: &dyn Environment,
    keep: Option<&super::fit::Keep>,
    work: impl FnOnce(&mut Tools<'_>) -> T,
) -> T {
    let mut nothing = |_: &str, _: Point| {};
    let device = Device::Cpu;
    work(&mut Tools { environment, device: &device, keep, progress: &mut nothing })
}

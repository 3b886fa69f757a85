//! A world of puzzles whose good documents are planted: the best selection is known.
//!
//! Each puzzle has N documents, one to three of them good, anywhere in the retrieval order. The
//! first column of a document's state tells the good ones, and how many there are differs, so a
//! policy has to learn both which documents to take and when to stop. A selection of k documents
//! that finds f of m good ones earns `0.4 + 0.6 f / m - price k`. The best is the good documents and
//! nothing else, for any price below 0.2. At 0.05 a policy that takes too much still earns, and
//! learns what to leave; at 0.1 every fixed k earns 0.4, and a policy that learned to take one good
//! document and stop has to find out that a second one pays.
//!
//! The service is the real one on fakes; the selection head, its selections and the learner are the
//! real ones too. Users tell the worth of what they were shown as feedback.

mod policy;

use actors::clock::Clock;
use actors::compute::ComputeMode;
use actors::fakes::World;
use actors::ports::{Environment, EnvironmentError, Policy as _, SnapshotStore as _, Trial};
use actors::rollout::Path;
use actors::service::{Overrides, Ports, Service, ServiceConfig, ServiceHandle, UpdateOutcome};
use actors::types::{
    CandidateStates, Document, Exploration, Feedback, PolicySnapshot, Query, Reward, RewardPart,
    SelectionLimits, Served,
};
use anyhow::{Context as _, anyhow, ensure};
use candle_core::Device;
use policy::PlantedPolicy;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use regrade::policy::{features, serving};
use regrade::recipes::online::{Objective, OnlineConfig, OnlineLearner};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Documents of a puzzle.
const DOCUMENTS: usize = 6;
/// Leading columns of a state that stand for an encoder's.
const EMBEDDING: usize = 4;
/// All may be chosen.
const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 6, token_budget: 1_000 };
/// Context tokens of every document.
const TOKENS: u32 = 10;
/// Puzzles of this number and above are never asked, only evaluated on.
const HELD_OUT: u64 = 1 << 32;
/// Longest wait for the service, in simulated time.
const PATIENCE: Duration = Duration::from_secs(600);

/// The world of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Planted {
    /// Decides every puzzle.
    pub seed: u64,
    /// What one document costs, in (0, 0.1]: then every worth lies in [0, 1].
    pub price: f64,
}

impl Planted {
    /// The world of a seed at a price of 0.05.
    pub fn new(seed: u64) -> Self {
        Self { seed, price: 0.05 }
    }
}

/// One question with its documents.
#[derive(Debug, Clone)]
pub struct Puzzle {
    /// In retrieval order; the good ones are named `good-…`.
    pub documents: Vec<Document>,
    /// One row a document.
    pub states: CandidateStates,
    price: f64,
}

/// How one run ended: mean worth of a selection over held-out puzzles, each in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Seed of world and run.
    pub seed: u64,
    /// The first k documents, for the best k.
    pub fixed_k: f64,
    /// The policy before learning.
    pub untrained: f64,
    /// The champion at the end.
    pub learned: f64,
    /// The best there is.
    pub oracle: f64,
    /// Candidates that were promoted.
    pub promoted: u64,
    /// What became of each update, in the gate's words where it had a say.
    pub updates: Vec<String>,
}

impl Outcome {
    /// Share of the gap between the best fixed k and the oracle that learning closed.
    pub fn closed(&self) -> f64 {
        (self.learned - self.fixed_k) / (self.oracle - self.fixed_k)
    }
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Updates asked for.
    pub rounds: u64,
    /// Puzzles asked before each.
    pub asked: u64,
    /// Held-out puzzles that the outcome is measured on.
    pub evaluated: u64,
}

impl Default for Run {
    fn default() -> Self {
        Self { rounds: 4, asked: 200, evaluated: 300 }
    }
}

impl Planted {
    /// The puzzle of a number; the same for the same world.
    pub fn puzzle(&self, number: u64) -> Result<Puzzle, actors::types::StatesError> {
        let stream = self.seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut rng = StdRng::seed_from_u64(stream);
        let count = rng.random_range(1..=3);
        let mut is_good: Vec<bool> = (0..DOCUMENTS).map(|j| j < count).collect();
        is_good.shuffle(&mut rng);
        let width = EMBEDDING + features::SCALARS.len();
        let mut values = vec![0.0_f32; DOCUMENTS * width];
        for (row, good) in values.chunks_mut(width).zip(&is_good) {
            row[..EMBEDDING].fill_with(|| rng.random_range(-1.0..1.0));
            row[0] += if *good { 3.0 } else { -1.0 };
        }
        let named = |(j, good): (usize, &bool)| {
            let id = format!("{}-{number}-{j}", if *good { "good" } else { "other" });
            Document { id: id.as_str().into(), text: id.clone(), ..Document::default() }
        };
        let documents = is_good.iter().enumerate().map(named).collect();
        let states = CandidateStates::new(width, values)?;
        Ok(Puzzle { documents, states, price: self.price })
    }

    /// The puzzle that a query asks.
    fn asked(&self, query: &Query) -> Option<Puzzle> {
        self.puzzle(query.text.strip_prefix("puzzle ")?.parse().ok()?).ok()
    }
}

impl Puzzle {
    /// Worth of a selection, in [0, 1] up to rounding.
    pub fn worth<'a>(&self, chosen: impl IntoIterator<Item = &'a Document>) -> f64 {
        let is_good = |document: &Document| document.id.as_str().starts_with("good");
        let all = self.documents.iter().filter(|d| is_good(d)).count();
        let (found, k) = chosen
            .into_iter()
            .fold((0, 0), |(found, k), d| (found + usize::from(is_good(d)), k + 1));
        0.4 + 0.6 * found as f64 / all as f64 - self.price * f64::from(k)
    }

    /// Worth of the best selection.
    pub fn best(&self) -> f64 {
        let is_good = |document: &&Document| document.id.as_str().starts_with("good");
        self.worth(self.documents.iter().filter(is_good))
    }
}

impl Environment for Planted {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        let unscored = |trial: &Trial| EnvironmentError::Unscored(trial.query.text.clone());
        let score = |trial: &Trial| {
            let value = self.asked(&trial.query).map(|puzzle| puzzle.worth(&trial.documents));
            let value = value.ok_or_else(|| unscored(trial))?;
            let part = RewardPart::new("planted", value, 1.0);
            Reward::from_parts(vec![part]).ok_or_else(|| unscored(trial))
        };
        trials.iter().map(score).collect()
    }
}

/// Serves, feeds back, learns and measures. Run it on a paused clock: then a seed repeats exactly.
///
/// # Errors
/// What the service refused, or did not do in time.
pub async fn run(planted: Planted, run: Run) -> anyhow::Result<Outcome> {
    let first = serving::first_snapshot(EMBEDDING, planted.seed, &Device::Cpu)
        .map_err(|reason| anyhow!("cannot make an untrained policy: {reason}"))?;
    let world = World::default();
    let handle = Service::start(ports(planted, &world, &first), config(planted.seed)).await?;
    let mut updates = Vec::new();
    for round in 0..run.rounds {
        for number in round * run.asked..(round + 1) * run.asked {
            ask(&planted, &handle, number).await?;
        }
        wait_for(&handle, (round + 1) * run.asked).await?;
        updates.push(told(&handle.trigger_update(PATIENCE).await?));
    }
    let champion = match handle.policy().version {
        version if version == first.version => first.clone(),
        version => world.snapshots.get(version).await?,
    };
    let drained = handle.drain(PATIENCE).await;
    ensure!(drained.clean, "the service did not drain: {drained:?}");
    measure(planted, run, (&first, &champion), updates)
}

fn told(outcome: &UpdateOutcome) -> String {
    match outcome {
        UpdateOutcome::Promoted { examination, .. } => format!("promoted: {}", examination.reason),
        UpdateOutcome::Rejected { reason, .. } => format!("rejected: {reason}"),
        other => format!("{other:?}"),
    }
}

fn ports(planted: Planted, world: &World, first: &PolicySnapshot) -> Ports {
    let (served, taught) = (first.clone(), first.clone());
    Ports {
        policy: Arc::new(move || Ok(Box::new(PlantedPolicy::new(planted, &served)?))),
        learner: Arc::new(move |_| {
            let environment = Arc::new(planted);
            Ok(Box::new(OnlineLearner::new(
                online(planted.seed),
                &taught,
                environment,
                Device::Cpu,
            )?))
        }),
        ..world.ports(Clock::simulated(1_700_000_000_000))
    }
}

/// Preferences, without the dense term: that one values each document alone, and here a second good
/// one pays only after the first. `Objective::Rrpo` at its default clip of 0.2 stays with one good
/// document: no update moves the greedy selection, and the gate takes nothing that does not.
fn online(seed: u64) -> OnlineConfig {
    OnlineConfig {
        seed,
        objective: Objective::Dpo,
        beta: 0.5,
        utility_weight: 0.0,
        singles: 0,
        epsilon: 0.2,
        dropout: 0.0,
        ..OnlineConfig::default()
    }
}

fn config(seed: u64) -> ServiceConfig {
    let mut config = ServiceConfig {
        seed: Some(seed),
        compute: ComputeMode::Inline,
        limits: LIMITS,
        exploration: Exploration::Sample { temperature: 1.0, epsilon: 0.1 },
        ..ServiceConfig::default()
    };
    // Updates come when this world asks for them.
    config.learner.min_new_rewards = 0;
    config.learner.interval_ms = 0;
    // It is about what is learned, not about how that earns its place.
    config.promotion.path = Path::HeldOut;
    config
}

/// A user asks a puzzle and tells what the selection was worth.
async fn ask(planted: &Planted, handle: &ServiceHandle, number: u64) -> anyhow::Result<()> {
    let puzzle = planted.puzzle(number)?;
    let query = Query {
        text: format!("puzzle {number}"),
        candidates: Some(puzzle.documents.clone()),
        ..Query::default()
    };
    let Served { decision_id, documents, .. } = handle.answer(query, Overrides::default()).await?;
    let worth = puzzle.worth(documents.iter().map(|ranked| &ranked.document));
    let feedback = Feedback {
        id: format!("feedback-{number}"),
        decision_id,
        // May end a rounding error below 0.
        value: Some(worth.clamp(0.0, 1.0)),
        source: "user".to_owned(),
        ..Feedback::default()
    };
    handle.feedback(feedback).await?;
    Ok(())
}

/// Until the replay buffer has taken in `count` judged puzzles.
async fn wait_for(handle: &ServiceHandle, count: u64) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let buffer = handle.observe().await.replay_buffer.context("no replay buffer")?;
        if buffer.inserted >= count {
            return Ok(());
        }
        ensure!(tokio::time::Instant::now() < until, "{} of {count} were judged", buffer.inserted);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn measure(
    planted: Planted,
    run: Run,
    (first, champion): (&PolicySnapshot, &PolicySnapshot),
    updates: Vec<String>,
) -> anyhow::Result<Outcome> {
    let puzzles = (HELD_OUT..HELD_OUT + run.evaluated).map(|number| planted.puzzle(number));
    let puzzles: Vec<Puzzle> = puzzles.collect::<Result<_, _>>()?;
    let mean = |worth: &dyn Fn(&Puzzle) -> f64| {
        puzzles.iter().map(worth).sum::<f64>() / puzzles.len() as f64
    };
    let fixed = (1..=DOCUMENTS).map(|k| mean(&|puzzle| puzzle.worth(&puzzle.documents[..k])));
    let fixed_k = fixed.fold(f64::NEG_INFINITY, f64::max);
    let mut policy = PlantedPolicy::new(planted, first)?;
    let untrained = policy.mean_worth(&puzzles)?;
    policy.swap(champion)?;
    let (learned, oracle) = (policy.mean_worth(&puzzles)?, mean(&Puzzle::best));
    let promoted = updates.iter().filter(|told| told.starts_with("promoted")).count() as u64;
    Ok(Outcome { seed: planted.seed, fixed_k, untrained, learned, oracle, promoted, updates })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn the_best_selection_is_worth_more_than_any_other() {
        let planted = Planted::new(3);
        for number in 0..20 {
            let puzzle = planted.puzzle(number).unwrap();
            for mask in 1..1_u32 << DOCUMENTS {
                let chosen = puzzle.documents.iter().enumerate();
                let chosen = chosen.filter(|(j, _)| mask >> j & 1 == 1).map(|(_, d)| d);
                assert!(puzzle.worth(chosen) <= puzzle.best() + 1e-9);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn learning_closes_nine_tenths_of_the_gap_to_the_best_selection() {
        for seed in [1, 2, 3] {
            let outcome = run(Planted::new(seed), Run::default()).await.unwrap();
            assert!(outcome.oracle > outcome.fixed_k + 0.15, "{outcome:?}");
            assert!(outcome.promoted >= 1, "{outcome:?}");
            assert!(outcome.closed() >= 0.9, "closed {:.3}: {outcome:?}", outcome.closed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_seed_repeats_its_outcome() {
        let short = Run { rounds: 1, asked: 100, evaluated: 50 };
        let first = run(Planted::new(5), short).await.unwrap();
        assert_eq!(first, run(Planted::new(5), short).await.unwrap());
    }
}

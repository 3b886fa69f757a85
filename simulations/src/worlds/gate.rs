//! A world of riddles of which some need no search, some need one, and some cannot be helped: the
//! best plan is known.
//!
//! Five kinds of riddles come equally often. The closed book knows the first kind, and a search
//! brings nothing for it. The second is found with the question as asked, the third with its
//! content words, the fourth by a second search with what the first one brought, the fifth by
//! nothing. The view of the question tells the kind, under noise; what is found tells itself, under
//! noise. The generator believes the first document it is given, so documents have to be chosen,
//! too.
//!
//! A right answer earns 2 (EM + F1), a search costs 0.2. So the best plans earn 2, 1.8, 1.8, 1.6
//! and 0, 1.44 in the mean; searching always earns 0.2 at best, and never 0.4.

mod ports;

use actors::types::{Exploration, Query, QueryId, SelectionLimits};
use anyhow::{Context as _, ensure};
use candle_core::Device;
use ports::GatePorts;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use regrade::policy::serving::PolicyWeights;
use regrade::recipes::smart_rag::{
    Event, Gate, Plan, Rules, SmartPolicy, SmartRagConfig, World, measure, play, train,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Leading columns of a reading's state.
pub(crate) const EMBEDDING: usize = 6;
/// Documents a search brings.
pub(crate) const DOCUMENTS: usize = 5;
/// At least one document is chosen where any was found.
const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 3, token_budget: 1_000 };
/// Riddles of this number and above are never trained on, only measured on.
const HELD_OUT: u64 = 1 << 32;

/// What answers a riddle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The closed book.
    Known,
    /// A search with the question as asked.
    Original,
    /// A search with its content words.
    Keywords,
    /// A second search, with what the first brought.
    Bridge,
    /// Nothing.
    Hopeless,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Known, Self::Original, Self::Keywords, Self::Bridge, Self::Hopeless];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Known => "known",
            Kind::Original => "original",
            Kind::Keywords => "keywords",
            Kind::Bridge => "bridge",
            Kind::Hopeless => "hopeless",
        }
    }

    /// What the best plan earns.
    pub fn best(self, config: &SmartRagConfig) -> f64 {
        match self {
            Kind::Known => 2.0,
            Kind::Original | Kind::Keywords => 2.0 - config.retrieval_cost,
            Kind::Bridge => 2.0 - 2.0 * config.retrieval_cost,
            Kind::Hopeless => 0.0,
        }
    }
}

/// The kind of a riddle and the chance that belongs to it; the same for the same world and number.
pub(crate) fn riddle(seed: u64, number: u64) -> (Kind, StdRng) {
    let stream = seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut rng = StdRng::seed_from_u64(stream);
    (Kind::ALL[rng.random_range(0..Kind::ALL.len())], rng)
}

/// A riddle as a query; its kind is the data set that it is reported under, which no policy sees.
fn query(seed: u64, number: u64) -> Query {
    let kind = riddle(seed, number).0.name().to_owned();
    Query {
        metadata: [("dataset".to_owned(), kind)].into(),
        id: QueryId(format!("riddle-{number}")),
        text: format!("what is the riddle {number}"),
        references: vec![format!("answer {number}")],
        ..Query::default()
    }
}

/// How long a run is.
#[derive(Debug, Clone)]
pub struct Run {
    /// Riddles trained on.
    pub trained: u64,
    /// Held-out riddles that the outcome is measured on.
    pub evaluated: u64,
    /// Settings of the recipe.
    pub config: SmartRagConfig,
}

impl Default for Run {
    fn default() -> Self {
        let config = SmartRagConfig {
            iterations: 16,
            rate: 2e-3,
            warmup_rate: 3e-3,
            questions: 32,
            hidden: 32,
            warmup_epochs: 10,
            ..SmartRagConfig::default()
        };
        Self { trained: 320, evaluated: 300, config }
    }
}

/// How one run ended: mean net reward (EM + F1 less searches) over held-out riddles.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Seed of world and run.
    pub seed: u64,
    /// One search for every riddle, with the trained selection.
    pub always: f64,
    /// No search at all.
    pub never: f64,
    /// Moves drawn evenly, with the trained selection.
    pub random: f64,
    /// After the warm-up alone.
    pub warmed_up: f64,
    /// At the end.
    pub learned: f64,
    /// The best there is.
    pub oracle: f64,
    /// Share of the riddles that the trained policy searches for.
    pub retrieve_rate: f64,
    /// The same of the riddles that no search can help.
    pub hopeless_rate: f64,
    /// Mean net reward at the end by kind.
    pub kinds: BTreeMap<String, f64>,
}

impl Outcome {
    /// Share of the gap between the best baseline and the oracle that learning closed.
    pub fn closed(&self) -> f64 {
        let baseline = self.always.max(self.never).max(self.random);
        (self.learned - baseline) / (self.oracle - baseline)
    }
}

/// Trains on the riddles of a seed and measures on others.
///
/// # Errors
/// What the recipe refused.
pub async fn run(seed: u64, run: &Run, watch: &mut dyn FnMut(Event)) -> anyhow::Result<Outcome> {
    let config = SmartRagConfig { seed, ..run.config.clone() };
    let world = World::new(GatePorts::ports(seed), DOCUMENTS, 8_000);
    let queries: Vec<Query> = (0..run.trained).map(|number| query(seed, number)).collect();
    let start = PolicyWeights::untrained(EMBEDDING, seed, &Device::Cpu)?;
    let plan = Plan {
        world: &world,
        queries: &queries,
        start: &start,
        limits: LIMITS,
        config: &config,
        checkpoints: None,
        device: Device::Cpu,
    };
    let trained = train(&plan, watch).await?;
    let policy = SmartPolicy::new(&trained.weights, (config.hidden, seed), &Device::Cpu)?;
    let numbers = HELD_OUT..HELD_OUT + run.evaluated;
    let held: Vec<Query> = numbers.clone().map(|number| query(seed, number)).collect();
    let all: Vec<&Query> = held.iter().collect();
    let rules = Rules::greedy(config.retrievals_max, LIMITS);
    let of = |gate: Gate| rules.with_gate(gate);
    let always = measure(&world, &policy, &all, (&of(Gate::Always), &config)).await?.overall;
    let never = measure(&world, &policy, &all, (&of(Gate::Never), &config)).await?.overall;
    let warmed = measure(&world, &trained.warmed_up, &all, (&rules, &config)).await?.overall;
    let learned = measure(&world, &policy, &all, (&rules, &config)).await?;
    let hopeless = learned.datasets.get(Kind::Hopeless.name()).copied().unwrap_or_default();
    ensure!(hopeless.questions > 0, "{} riddles are too few", run.evaluated);
    let best = numbers.map(|number| riddle(seed, number).0.best(&config)).sum::<f64>();
    Ok(Outcome {
        seed,
        always: always.net_reward,
        never: never.net_reward,
        random: random(&world, &policy, &all, &config).await?,
        warmed_up: warmed.net_reward,
        learned: learned.overall.net_reward,
        oracle: best / held.len() as f64,
        retrieve_rate: learned.overall.retrieve_rate,
        hopeless_rate: hopeless.retrieve_rate,
        kinds: learned.datasets.into_iter().map(|(name, tally)| (name, tally.net_reward)).collect(),
    })
}

/// Mean net reward of moves and documents drawn evenly.
async fn random(
    world: &World,
    policy: &SmartPolicy,
    queries: &[&Query],
    config: &SmartRagConfig,
) -> anyhow::Result<f64> {
    let exploration = Exploration::Sample { temperature: 1.0, epsilon: 1.0 };
    let rules = Rules { exploration, ..Rules::greedy(config.retrievals_max, LIMITS) };
    let mut rng = StdRng::seed_from_u64(config.seed);
    let mut sum = 0.0;
    for query in queries {
        sum += play(world, policy, query, &rules, &mut rng).await?.net_reward(config);
    }
    let mean = sum / queries.len() as f64;
    mean.is_finite().then_some(mean).context("no riddle was asked")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn learning_closes_nine_tenths_of_the_gap_to_the_best_plan() {
        for seed in [1, 2, 3] {
            let outcome = run(seed, &Run::default(), &mut |_| {}).await.unwrap();
            assert!(outcome.oracle > outcome.never + 0.8, "{outcome:?}");
            assert!(outcome.closed() >= 0.9, "closed {:.3}: {outcome:?}", outcome.closed());
            assert!(outcome.hopeless_rate < 0.1, "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn ppo_goes_on_where_a_short_warm_up_has_stopped() {
        let config = SmartRagConfig {
            iterations: 40,
            warmup_epochs: 3,
            warmup_rate: 1e-3,
            ..Run::default().config
        };
        let short = Run { trained: 160, evaluated: 200, config };
        let outcome = run(1, &short, &mut |_| {}).await.unwrap();
        assert!(outcome.learned >= outcome.warmed_up + 0.2, "{outcome:?}");
    }

    #[tokio::test]
    async fn a_seed_repeats_its_outcome() {
        let config = SmartRagConfig { iterations: 2, warmup_epochs: 1, ..Run::default().config };
        let short = Run { trained: 40, evaluated: 40, config };
        let mut silent = |_: Event| {};
        let first = run(5, &short, &mut silent).await.unwrap();
        assert_eq!(first, run(5, &short, &mut silent).await.unwrap());
    }
}

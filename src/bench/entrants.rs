//! Who enters: baselines by name, and recipes with their settings.

use super::{BenchError, Loaded};
use crate::config::{Config, DynamicRagConfig, GrpoConfig, RrpoConfig};
use crate::policy::baselines::{self, Positives, Tools as BaselineTools};
use crate::policy::head::Head;
use crate::policy::pointwise::logistic;
use crate::policy::serving::{self, PolicyWeights};
use crate::recipes::fit::{Keep, Point, RecipeError};
use crate::recipes::instance::Instance;
use crate::recipes::lists::{RecipeReport, Tools};
use crate::recipes::noise::Noisy;
use crate::recipes::rrpo::Form;
use crate::recipes::{dynamic_rag, grpo, rrpo};
use crate::wiring::Lab;
use actors::ports::{Environment, Policy};
use actors::types::{PolicySnapshot, PolicyVersion, SelectionLimits};
use std::path::Path;
use std::sync::Arc;

/// Baselines of the table.
const BASELINES: [&str; 18] = [
    "retrieval_k1",
    "retrieval_k3",
    "retrieval_k5",
    "retrieval_k10",
    "retrieval_k20",
    "threshold",
    "knee",
    "cross_encoder_k1",
    "cross_encoder_k3",
    "cross_encoder_k5",
    "cross_encoder_k10",
    "cross_encoder_k20",
    "windows_k3",
    "windows_k5",
    "random_k3",
    "random_k5",
    "oracle",
    "untrained",
];
/// Recipes of the table.
const RECIPES: [(&str, Recipe); 6] = [
    ("clone", Recipe::Clone),
    ("dynamic_rag", Recipe::DynamicRag),
    ("rrpo_k3", Recipe::Rrpo { k: 3, flips: 0.0 }),
    ("rrpo_k5", Recipe::Rrpo { k: 5, flips: 0.0 }),
    ("rrpo", Recipe::RrpoFree),
    ("grpo", Recipe::Grpo),
];
/// Recipes with a supervisor that errs; not in the table unless asked for.
const NOISY: [(&str, Recipe); 3] = [
    ("rrpo_k3_flips10", Recipe::Rrpo { k: 3, flips: 0.1 }),
    ("rrpo_k3_flips20", Recipe::Rrpo { k: 3, flips: 0.2 }),
    ("rrpo_k3_flips30", Recipe::Rrpo { k: 3, flips: 0.3 }),
];
/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 50;
/// The seed of entrants that are not trained.
const NO_SEED: [u64; 1] = [0];

/// How a policy is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recipe {
    /// Behaviour cloning alone: DynamicRAG without its second half.
    Clone,
    /// DynamicRAG.
    DynamicRag,
    /// RRPO at a fixed k; `flips`: share of verdicts turned round.
    Rrpo {
        /// Documents.
        k: u32,
        /// In [0, 1].
        flips: f64,
    },
    /// RRPO that may stop: the credit is that of whole selections.
    RrpoFree,
    /// GRPO.
    Grpo,
}

/// One contender of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrant {
    name: String,
    recipe: Option<Recipe>,
}

impl Entrant {
    /// Every name there is: baselines, recipes, and recipes under noise.
    pub fn names() -> Vec<&'static str> {
        let recipes = RECIPES.iter().chain(&NOISY).map(|(name, _)| *name);
        BASELINES.iter().copied().chain(recipes).collect()
    }

    /// Those that a table without wishes has.
    pub fn defaults() -> Vec<&'static str> {
        BASELINES.iter().copied().chain(RECIPES.iter().map(|(name, _)| *name)).collect()
    }

    /// The entrant of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self, BenchError> {
        let recipe = RECIPES.iter().chain(&NOISY).find(|(known, _)| *known == name);
        if recipe.is_none() && !BASELINES.contains(&name) {
            let (name, known) = (name.to_owned(), Self::names().join(", "));
            return Err(BenchError::Entrant { name, known });
        }
        Ok(Self { name: name.to_owned(), recipe: recipe.map(|(_, recipe)| *recipe) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is trained; `None` for a baseline.
    pub fn recipe(&self) -> Option<Recipe> {
        self.recipe
    }

    /// Its seeds: all for a recipe, one for a baseline.
    pub(super) fn seeds<'a>(&self, all: &'a [u64]) -> &'a [u64] {
        if self.recipe.is_some() { all } else { &NO_SEED }
    }

    /// What masks it: a fixed k keeps its k when it serves.
    pub(super) fn limits(&self, settings: &Config) -> SelectionLimits {
        match self.recipe {
            Some(Recipe::Rrpo { k, .. }) => {
                SelectionLimits { k_min: k, k_max: k, ..settings.rrpo.limits }
            }
            Some(Recipe::Clone | Recipe::DynamicRag) => settings.dynamic_rag.limits,
            Some(Recipe::RrpoFree | Recipe::Grpo) => settings.grpo.limits,
            None => SelectionLimits { k_min: 1, k_max: 20, token_budget: u32::MAX },
        }
    }

    /// The baseline of this name over one benchmark.
    pub(super) fn baseline(
        &self,
        lab: &Lab,
        benchmark: &Loaded,
        seed: u64,
    ) -> Result<Box<dyn Policy>, BenchError> {
        let failed = |reason: String| BenchError::Serve { entrant: self.name.clone(), reason };
        if self.name == "untrained" {
            let snapshot = serving::first_snapshot(lab.reader.width(), seed, &lab.device)
                .map_err(|reason| failed(reason.clone()))?;
            let device = lab.device.clone();
            let policy = serving::EncoderPolicy::new(Arc::clone(&lab.reader), &snapshot, device)
                .map_err(|error| failed(error.to_string()))?;
            return Ok(Box::new(policy));
        }
        let positives: Positives =
            benchmark.test.iter().map(|q| (q.id.as_str().into(), q.positives.clone())).collect();
        let tools = BaselineTools {
            reader: Arc::clone(&lab.reader),
            positives: Arc::new(positives),
            seed,
            device: lab.device.clone(),
        };
        baselines::by_name(&self.name, &tools).map_err(|error| failed(error.to_string()))
    }
}

fn dynamic_rag_config(settings: &Config, (seed, quick): (u64, bool)) -> DynamicRagConfig {
    let mut config = DynamicRagConfig { seed, ..settings.dynamic_rag.clone() };
    if quick {
        config.clone.epochs = config.clone.epochs.min(2);
        config.prefer.epochs = config.prefer.epochs.min(2);
    }
    config
}

fn rrpo_config(settings: &Config, recipe: Recipe, (seed, quick): (u64, bool)) -> RrpoConfig {
    let mut config = RrpoConfig { seed, ..settings.rrpo.clone() };
    match recipe {
        Recipe::Rrpo { k, .. } => (config.limits.k_min, config.limits.k_max) = (k, k),
        // Prefix rewards of a policy that may stop favour long lists; only the whole counts.
        _ => (config.limits, config.form) = (settings.grpo.limits, Form::Whole),
    }
    if quick {
        config.utilities.epochs = config.utilities.epochs.min(2);
        config.optimise.epochs = 1;
        config.rounds = 1;
    }
    config
}

fn grpo_config(settings: &Config, (seed, quick): (u64, bool)) -> GrpoConfig {
    let mut config = GrpoConfig { seed, ..settings.grpo.clone() };
    if quick {
        config.utilities.epochs = config.utilities.epochs.min(2);
        config.optimise.epochs = 1;
        config.rounds = 1;
    }
    config
}

/// Trains one entrant on the training questions of all benchmarks together.
pub(super) fn train(
    (entrant, seed, quick): (&Entrant, u64, bool),
    (lab, settings): (&Lab, &Config),
    loaded: &[Loaded],
    (checkpoints, progress): (&Path, &mut dyn FnMut(&str, Point)),
) -> Result<(PolicySnapshot, RecipeReport), RecipeError> {
    let Some(recipe) = entrant.recipe() else {
        let reason = "a baseline is not trained".to_owned();
        return Err(RecipeError::Nothing { phase: entrant.name().to_owned(), reason });
    };
    let instances: Vec<&Instance> = loaded.iter().flat_map(|l| &l.train).collect();
    let validation: Vec<&Instance> = loaded.iter().flat_map(|l| &l.validation).collect();
    let start = PolicyWeights::untrained(lab.reader.width(), seed, &lab.device)?;
    let how = (seed, quick);
    let identity = identity((entrant.name(), recipe), how, settings, &instances);
    let keep = Keep::new(checkpoints.to_owned(), &identity, CHECKPOINT_EVERY);
    let flips = match recipe {
        Recipe::Rrpo { flips, .. } => flips,
        _ => 0.0,
    };
    let noisy = Noisy::new(&*lab.environment, flips, seed);
    let environment: &dyn Environment = if flips > 0.0 { &noisy } else { &*lab.environment };
    let mut tools = Tools { environment, device: &lab.device, keep: Some(&keep), progress };
    let (head, report) = match recipe {
        Recipe::Clone | Recipe::DynamicRag => {
            let mut config = dynamic_rag_config(settings, how);
            if recipe == Recipe::Clone {
                config.prefer.epochs = 0;
            }
            imitate(&config, (&start.head, lab), (&instances, &validation), &mut tools)?
        }
        Recipe::Rrpo { .. } | Recipe::RrpoFree => {
            let config = rrpo_config(settings, recipe, how);
            rrpo::train(&config, &start.head, &instances, &validation, &mut tools)?
        }
        Recipe::Grpo => {
            let config = grpo_config(settings, how);
            grpo::train(&config, &start.head, &instances, &validation, &mut tools)?
        }
    };
    let weights = PolicyWeights { head, ..start };
    let bytes = serving::to_bytes(&weights).map_err(RecipeError::Model)?;
    let recipe = format!("papers/{}", entrant.name());
    Ok((PolicySnapshot::new(PolicyVersion(1), Some(PolicyVersion(0)), recipe, bytes), report))
}

/// DynamicRAG with the project's own cross-encoder as the expert.
fn imitate(
    config: &DynamicRagConfig,
    (start, lab): (&Head, &Lab),
    (instances, validation): (&[&Instance], &[&Instance]),
    tools: &mut Tools<'_>,
) -> Result<(Head, RecipeReport), RecipeError> {
    let mut experts = Vec::with_capacity(instances.len());
    for instance in instances {
        let text = instance.query.text.as_str();
        let pairs: Vec<_> = instance.candidates.iter().map(|c| (text, &c.document)).collect();
        let readings = lab.reader.read(&pairs).map_err(|e| RecipeError::Model(e.to_string()))?;
        experts.push(readings.iter().map(|r| logistic(r.rel)).collect::<Vec<f32>>());
    }
    let lessons: Vec<dynamic_rag::Lesson<'_>> = instances
        .iter()
        .zip(&experts)
        .map(|(instance, expert)| dynamic_rag::Lesson { instance, expert })
        .collect();
    dynamic_rag::train(config, start, &lessons, validation, tools)
}

/// Everything that decides a training: who, how, and which questions.
fn identity(
    (name, recipe): (&str, Recipe),
    how: (u64, bool),
    settings: &Config,
    instances: &[&Instance],
) -> Vec<u8> {
    let settings = match recipe {
        Recipe::Clone | Recipe::DynamicRag => format!("{:?}", dynamic_rag_config(settings, how)),
        Recipe::Grpo => format!("{:?}", grpo_config(settings, how)),
        Recipe::Rrpo { .. } | Recipe::RrpoFree => {
            format!("{:?}", rrpo_config(settings, recipe, how))
        }
    };
    let ids = instances.iter().flat_map(|i| i.query.id.as_str().bytes().chain([0]));
    format!("{name} {settings} ").into_bytes().into_iter().chain(ids).collect()
}

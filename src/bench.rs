//! The table of the papers: every recipe and baseline on seven benchmarks, resumable.
//!
//! Owns which benchmarks there are, who enters, and what of an interrupted run is kept. A folder holds
//! one run: kept readings, a trained policy and its training report for each recipe and seed, the
//! scores of each entrant, and the report. What is there is not done again. Knows no terminal: it
//! tells a [`Watch`].

pub mod drift;
mod entrants;
pub mod feedback;
pub mod headroom;
mod material;

pub use entrants::{Entrant, Recipe};
pub use material::{BENCHMARKS, Benchmark, Loaded, load};

use crate::config::Config;
use crate::datasets::DatasetError;
use crate::evaluate::{
    Contender, EvaluateError, Exam, Report, ScoreTable, ScoresError, Setting, score,
};
use crate::policy::policy_folder::{self, PolicyFolderError};
use crate::policy::serving::EncoderPolicy;
use crate::recipes::fit::{Point, RecipeError};
use crate::wiring::{Lab, WiringError};
use actors::types::{PolicySnapshot, SelectionLimits};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Questions of each part (train, test) of each benchmark, at most; `None`: all.
    pub limit: Option<usize>,
    /// Candidates a question.
    pub top_n: usize,
    /// Seeds of every trained entrant.
    pub seeds: Vec<u64>,
    /// Entrants by name, in the order of the table.
    pub entrants: Vec<String>,
    /// Rounds and passes cut down to a tenth, for trying it out.
    pub quick: bool,
}

/// Why a run stopped; what it had done stays.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The folder holds a run of other settings.
    #[error(
        "{folder} holds a run with other settings ({field} differs); give another --out, or the \
         same settings"
    )]
    OtherRun {
        /// The folder.
        folder: PathBuf,
        /// What differs.
        field: &'static str,
    },
    /// A file of the run cannot be read or written.
    #[error("cannot {doing} {path}: {reason}")]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No such entrant.
    #[error("there is no entrant `{name}`; there are {known}")]
    Entrant {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The data folder lacks a file, or a file is broken.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// Models or indexes cannot be put in place.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// A recipe failed.
    #[error("{entrant}, seed {seed}: {source}")]
    Recipe {
        /// Who.
        entrant: String,
        /// Seed.
        seed: u64,
        /// Why.
        source: RecipeError,
    },
    /// Questions cannot be laid out.
    #[error(transparent)]
    LayOut(#[from] RecipeError),
    /// A policy cannot be kept, read or served.
    #[error(transparent)]
    Policy(#[from] PolicyFolderError),
    /// A policy or baseline cannot be served.
    #[error("cannot serve `{entrant}`: {reason}")]
    Serve {
        /// Who.
        entrant: String,
        /// Why.
        reason: String,
    },
    /// The evaluation stopped.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The scores do not fit together.
    #[error(transparent)]
    Scores(#[from] ScoresError),
}

/// Told how far a run is.
pub trait Watch {
    /// `progress` is done and total pieces of `what` (`questions laid out`, `entrants`), `name` the one at hand.
    fn step(&mut self, what: &str, progress: (usize, usize), name: &str);
    /// A point of a training curve.
    fn point(&mut self, entrant: &str, phase: &str, point: Point);
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Takes a folder for this plan: an empty one, or one of the same plan. More seeds and entrants
    /// than before are welcome; nothing done becomes wrong by them.
    ///
    /// # Errors
    /// It holds another run, or cannot be written.
    pub fn take(folder: &Path, plan: &Plan) -> Result<Self, BenchError> {
        let path = folder.join("plan.json");
        if path.is_file() {
            let found: Plan = read_json(&path)?;
            let differs = [
                ("limit", found.limit != plan.limit),
                ("top_n", found.top_n != plan.top_n),
                ("quick", found.quick != plan.quick),
            ];
            if let Some((field, _)) = differs.into_iter().find(|(_, differs)| *differs) {
                return Err(BenchError::OtherRun { folder: folder.to_owned(), field });
            }
        }
        write_json(&path, plan)?;
        Ok(Self(folder.to_owned()))
    }

    /// The file of kept readings.
    pub fn readings(folder: &Path) -> PathBuf {
        folder.join("readings.redb")
    }

    fn policy(&self, entrant: &str, seed: u64) -> PathBuf {
        self.0.join("policies").join(format!("{entrant}-{seed}"))
    }

    fn training(&self, entrant: &str, seed: u64) -> PathBuf {
        self.0.join("training").join(format!("{entrant}-{seed}.json"))
    }

    fn checkpoints(&self, entrant: &str, seed: u64) -> PathBuf {
        self.0.join("checkpoints").join(format!("{entrant}-{seed}"))
    }

    fn scores(&self, entrant: &str, seed: u64) -> PathBuf {
        self.0.join("scores").join(format!("{entrant}-{seed}.json"))
    }

    /// Reports of the trainings that are done, by entrant and seed.
    pub fn trainings(&self, entrants: &[Entrant], seeds: &[u64]) -> Vec<PathBuf> {
        let of =
            |e: &Entrant| seeds.iter().map(|s| self.training(e.name(), *s)).collect::<Vec<_>>();
        entrants.iter().flat_map(of).filter(|path| path.is_file()).collect()
    }
}

/// Trains and measures everyone who is not done yet, and returns the report over all.
///
/// # Errors
/// The first thing that fails; run again to go on from there.
pub async fn run(
    folder: &Folder,
    plan: &Plan,
    (lab, config): (&Lab, &Config),
    loaded: &[Loaded],
    watch: &mut dyn Watch,
) -> Result<Report, BenchError> {
    let entrants: Vec<Entrant> =
        plan.entrants.iter().map(|name| Entrant::named(name)).collect::<Result<_, _>>()?;
    let units: Vec<(&Entrant, u64)> = entrants
        .iter()
        .flat_map(|entrant| entrant.seeds(&plan.seeds).iter().map(move |seed| (entrant, *seed)))
        .collect();
    let mut all = ScoreTable::default();
    for (done, (entrant, seed)) in units.iter().enumerate() {
        watch.step("entrants", (done, units.len()), &format!("{}-{seed}", entrant.name()));
        let path = folder.scores(entrant.name(), *seed);
        let table: ScoreTable = if path.is_file() {
            read_json(&path)?
        } else {
            let policy = match entrant.recipe() {
                None => None,
                Some(_) => {
                    Some(trained(folder, plan, (entrant, *seed), (lab, config, loaded), watch)?)
                }
            };
            let table = measured((entrant, policy.as_ref(), *seed), lab, config, loaded).await?;
            write_json(&path, &table)?;
            table
        };
        add(&mut all, table)?;
    }
    watch.step("entrants", (units.len(), units.len()), "report");
    Ok(Report::new(plan.seeds.first().copied().unwrap_or(0), all, None)?)
}

/// Adds one entrant's table; all are about the same questions.
fn add(all: &mut ScoreTable, table: ScoreTable) -> Result<(), BenchError> {
    if all.questions.is_empty() {
        (all.questions, all.datasets) = (table.questions, table.datasets);
        all.left_out = table.left_out;
    } else if all.questions != table.questions {
        let name = table.contenders.first().map(|c| c.name.clone()).unwrap_or_default();
        let reason = "its scores are about other questions; remove them".to_owned();
        return Err(ScoresError::Broken { name, reason }.into());
    }
    for contender in table.contenders {
        for run in contender.runs {
            all.add(&contender.name, run);
        }
    }
    Ok(())
}

/// The policy of a recipe and seed: from its folder, or trained now and put there.
fn trained(
    folder: &Folder,
    plan: &Plan,
    (entrant, seed): (&Entrant, u64),
    (lab, config, loaded): (&Lab, &Config, &[Loaded]),
    watch: &mut dyn Watch,
) -> Result<PolicySnapshot, BenchError> {
    let place = folder.policy(entrant.name(), seed);
    if policy_folder::is_policy_folder(&place) {
        return Ok(policy_folder::read(&place)?);
    }
    let checkpoints = folder.checkpoints(entrant.name(), seed);
    let mut progress = |phase: &str, point: Point| {
        watch.point(&format!("{}-{seed}", entrant.name()), phase, point)
    };
    let failed = |source| BenchError::Recipe { entrant: entrant.name().to_owned(), seed, source };
    let (snapshot, report) = entrants::train(
        (entrant, seed, plan.quick),
        (lab, config),
        loaded,
        (&checkpoints, &mut progress),
    )
    .map_err(failed)?;
    let training = serde_json::json!({
        "runs": [{ "recipe": entrant.name(), "seed": seed, "rounds": [report] }]
    });
    write_json(&folder.training(entrant.name(), seed), &training)?;
    policy_folder::write(&place, &snapshot)?;
    // Done: what a resumption would need is not needed any more. A folder that stays does no harm.
    let _ = std::fs::remove_dir_all(&checkpoints);
    Ok(snapshot)
}

/// Scores of one entrant over the test questions of every benchmark.
async fn measured(
    (entrant, policy, seed): (&Entrant, Option<&PolicySnapshot>, u64),
    lab: &Lab,
    config: &Config,
    loaded: &[Loaded],
) -> Result<ScoreTable, BenchError> {
    let mut all = ScoreTable::default();
    for benchmark in loaded {
        let served = |reason: String| {
            let entrant = entrant.name().to_owned();
            BenchError::Serve { entrant, reason }
        };
        let policy: Box<dyn actors::ports::Policy> = match policy {
            Some(snapshot) => Box::new(
                EncoderPolicy::new(Arc::clone(&lab.reader), snapshot, lab.device.clone())
                    .map_err(|error| served(error.to_string()))?,
            ),
            None => entrant.baseline(lab, benchmark, seed)?,
        };
        let limits: SelectionLimits = entrant.limits(config);
        let setting = Setting {
            index: &*benchmark.index,
            generator: &*lab.generator,
            top_n: benchmark.top_n,
            limits,
        };
        let mut contenders = [Contender::deciding(entrant.name(), policy)];
        let exam = Exam::of(&benchmark.test);
        let table = score(&setting, &mut contenders, &exam, &mut |_, _| {}).await?;
        below(&mut all, table);
    }
    Ok(all)
}

/// Puts the questions of another benchmark below those of a table of the same one contender.
fn below(all: &mut ScoreTable, table: ScoreTable) {
    all.questions.extend(table.questions);
    all.datasets.extend(table.datasets);
    all.left_out.extend(table.left_out);
    let runs = table
        .contenders
        .into_iter()
        .flat_map(|c| c.runs.into_iter().map(move |r| (c.name.clone(), r)));
    for (name, run) in runs {
        let Some(known) = all.contenders.first_mut().and_then(|c| c.runs.first_mut()) else {
            all.add(&name, run);
            continue;
        };
        for (metric, mut column) in run {
            known.entry(metric).or_default().append(&mut column);
        }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, BenchError> {
    let failed = |reason: String| BenchError::File { doing: "read", path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| failed(format!("{e}; remove it to make it anew")))
}

/// Writes beside its place and renames, so that a file is whole or not there.
fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BenchError> {
    let failed = |e: &dyn std::fmt::Display| {
        let reason = e.to_string();
        BenchError::File { doing: "write", path: path.to_owned(), reason }
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    }
    let text = serde_json::to_vec(value).map_err(|e| failed(&e))?;
    let beside = path.with_extension("part");
    std::fs::write(&beside, text).map_err(|e| failed(&e))?;
    std::fs::rename(&beside, path).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests;

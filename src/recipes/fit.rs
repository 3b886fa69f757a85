//! One phase of a recipe: variables, optimiser, checkpoints, and the best weights so far.
//!
//! Owns what makes a run repeatable: batches are a function of (seed, phase, step), a checkpoint
//! holds weights, moments and the best weights, and a step that is not finite changes nothing. So a
//! killed run that is started again ends in the same weights, bit for bit. Knows no loss, no policy.

use crate::datasets::bucket;
use crate::policy::model_folder::{ModelFolderError, read_tensors, write_tensors};
use crate::policy::optimizer::{Optimizer, OptimizerArgs, OptimizerError, StepReport};
use actors::types::PolicySnapshot;
use candle_core::{Tensor, Var};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

const STEP: &str = "step";
const RUN: &str = "run";
const BEST: &str = "best";
const BEST_PREFIX: &str = "best/";

/// Why a recipe stopped.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// Loss or gradient is no longer a number.
    #[error(
        "{phase} stopped at step {step}: {reason}; the weights of the step before are kept{kept}; \
         lower the learning rate, or look for a reward that is not finite"
    )]
    Diverged {
        /// The phase.
        phase: String,
        /// Step, from 1.
        step: u64,
        /// What was not finite.
        reason: String,
        /// ` in FILE`, or empty where there are no checkpoints.
        kept: String,
    },
    /// Nothing to learn from.
    #[error("{phase} has nothing to learn from: {reason}")]
    Nothing {
        /// The phase.
        phase: String,
        /// What was missing, and what would help.
        reason: String,
    },
    /// The checkpoint belongs to another run.
    #[error(
        "checkpoint {path} was made with other data, weights or settings; remove it, or ask for \
         the same run"
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A question cannot be laid out or decided.
    #[error("cannot use question `{question}`: {reason}")]
    Question {
        /// Its id.
        question: String,
        /// Why.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("setting `{setting}` must be {expected}")]
    Setting {
        /// Its name.
        setting: String,
        /// Range that works.
        expected: String,
    },
    /// Weights do not fit, or tensor code failed.
    #[error("the model failed: {0}")]
    Model(String),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] ModelFolderError),
}

impl From<candle_core::Error> for RecipeError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.to_string())
    }
}

/// Where checkpoints of a run lie and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    folder: PathBuf,
    run: String,
    every: u64,
}

impl Keep {
    /// Checkpoints in `folder`, every so many steps (≥ 1); `identity` is everything that decides
    /// the run: settings, weights to start from, data.
    pub fn new(folder: PathBuf, identity: &[u8], every: u64) -> Self {
        Self { folder, run: PolicySnapshot::digest_of(identity).0, every: every.max(1) }
    }

    fn path(&self, phase: &str) -> PathBuf {
        self.folder.join(format!("{phase}.checkpoint.safetensors"))
    }

    /// Removes the checkpoints of these phases: the run is done.
    ///
    /// # Errors
    /// A file that is there cannot be removed.
    pub fn clear(&self, phases: &[&str]) -> Result<(), RecipeError> {
        for phase in phases {
            let path = self.path(phase);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ModelFolderError::Io { path, source }.into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// One point of a training curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Steps done in this phase.
    pub step: u64,
    /// Mean loss since the last point.
    pub loss: f64,
    /// Mean reward of greedy selections on the validation questions; `None` where not measured.
    pub reward: Option<f64>,
}

/// Weights by name with their score.
pub type Best = (f64, BTreeMap<String, Tensor>);

/// Weights in training.
#[derive(Debug)]
pub struct Fit {
    phase: String,
    variables: BTreeMap<String, Var>,
    optimizer: Optimizer,
    keep: Option<Keep>,
    best: Option<Best>,
    loss_sum: f64,
    loss_count: u64,
}

impl Fit {
    /// Starts a phase, or goes on from its checkpoint: then the variables take its values.
    ///
    /// # Errors
    /// The checkpoint is of another run, damaged, or of other variables.
    pub fn start(
        phase: &str,
        variables: &BTreeMap<String, Var>,
        args: OptimizerArgs,
        keep: Option<&Keep>,
    ) -> Result<Self, RecipeError> {
        let mut fit = Self {
            phase: phase.to_owned(),
            variables: variables.clone(),
            optimizer: Optimizer::new(args.clone(), variables),
            keep: keep.cloned(),
            best: None,
            loss_sum: 0.0,
            loss_count: 0,
        };
        if let Some(path) = keep.map(|k| k.path(phase)).filter(|path| path.is_file()) {
            fit.restore(path, args)?;
        }
        Ok(fit)
    }

    /// Steps made, those of a resumed run included.
    pub fn steps_done(&self) -> u64 {
        self.optimizer.steps()
    }

    /// One optimiser step down the gradient of a scalar loss.
    ///
    /// # Errors
    /// [`RecipeError::Diverged`] where loss or gradient is not finite: every variable keeps its
    /// value, and a checkpoint of it is written.
    pub fn step(&mut self, loss: &Tensor) -> Result<StepReport, RecipeError> {
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(self.diverged(format!("the loss is {value}")));
        }
        let report = match self.optimizer.step(&self.variables, &loss.backward()?) {
            Ok(report) => report,
            Err(error @ OptimizerError::NotFinite { .. }) => {
                return Err(self.diverged(error.to_string()));
            }
            Err(error) => return Err(RecipeError::Model(error.to_string())),
        };
        self.loss_sum += value;
        self.loss_count += 1;
        if self.keep.as_ref().is_some_and(|keep| report.step.is_multiple_of(keep.every)) {
            self.save()?;
        }
        Ok(report)
    }

    fn diverged(&self, reason: String) -> RecipeError {
        let kept = match (&self.keep, self.save()) {
            (Some(keep), Ok(())) => format!(" in {}", keep.path(&self.phase).display()),
            _ => String::new(),
        };
        let (phase, step) = (self.phase.clone(), self.optimizer.steps() + 1);
        RecipeError::Diverged { phase, step, reason, kept }
    }

    /// Mean loss since the last call; NaN where no step was made.
    pub fn mean_loss(&mut self) -> f64 {
        let mean = self.loss_sum / self.loss_count as f64;
        (self.loss_sum, self.loss_count) = (0.0, 0);
        mean
    }

    /// Keeps a copy of the weights as they are if `score` (larger is better) is no worse than every
    /// one before: of equals the later has learned more.
    ///
    /// # Errors
    /// The checkpoint cannot be written.
    pub fn consider(&mut self, score: f64) -> Result<bool, RecipeError> {
        let is_best = self.best.as_ref().is_none_or(|(best, _)| score >= *best);
        if is_best {
            self.best = Some((score, self.copies()?));
            self.save()?;
        }
        Ok(is_best)
    }

    /// Ends the phase: the variables take the best weights considered, if any were.
    ///
    /// # Errors
    /// The checkpoint cannot be written.
    pub fn finish(self) -> Result<Option<f64>, RecipeError> {
        let variables = self.variables.clone();
        let Some((score, tensors)) = self.finish_as_is()? else { return Ok(None) };
        for (name, variable) in &variables {
            if let Some(tensor) = tensors.get(name) {
                variable.set(tensor)?;
            }
        }
        Ok(Some(score))
    }

    /// Ends the phase with the weights as they are, which another phase goes on from; returns the
    /// best considered, if any were.
    ///
    /// # Errors
    /// The checkpoint cannot be written.
    pub fn finish_as_is(self) -> Result<Option<Best>, RecipeError> {
        self.save()?;
        Ok(self.best)
    }

    fn copies(&self) -> Result<BTreeMap<String, Tensor>, RecipeError> {
        let copy = |(name, v): (&String, &Var)| Ok((name.clone(), v.as_detached_tensor().copy()?));
        self.variables.iter().map(copy).collect()
    }

    fn save(&self) -> Result<(), RecipeError> {
        let Some(keep) = &self.keep else { return Ok(()) };
        let mut tensors =
            self.optimizer.state().map_err(|error| RecipeError::Model(error.to_string()))?;
        tensors.extend(self.copies()?);
        let mut metadata = HashMap::from([
            (STEP.to_owned(), self.optimizer.steps().to_string()),
            (RUN.to_owned(), keep.run.clone()),
        ]);
        if let Some((score, best)) = &self.best {
            metadata.insert(BEST.to_owned(), score.to_bits().to_string());
            tensors.extend(best.iter().map(|(n, t)| (format!("{BEST_PREFIX}{n}"), t.clone())));
        }
        Ok(write_tensors(&keep.path(&self.phase), &tensors, metadata)?)
    }

    fn restore(&mut self, path: PathBuf, args: OptimizerArgs) -> Result<(), RecipeError> {
        let (mut tensors, metadata) = read_tensors(&path)?;
        if metadata.get(RUN) != self.keep.as_ref().map(|keep| &keep.run) {
            return Err(RecipeError::OtherRun { path });
        }
        let number = |key: &str| metadata.get(key).and_then(|text| text.parse::<u64>().ok());
        let step = number(STEP).ok_or_else(|| ModelFolderError::Malformed {
            path: path.clone(),
            reason: "it names no step".to_owned(),
        })?;
        for (name, variable) in &self.variables {
            let found = tensors.get(name).filter(|t| t.shape() == variable.shape());
            let Some(tensor) = found else {
                let reason = format!("missing; expected shape {:?}", variable.dims());
                return Err(ModelFolderError::Tensor { name: name.clone(), path, reason }.into());
            };
            variable.set(tensor)?;
        }
        self.optimizer = Optimizer::resume(args, &self.variables, step, &tensors)
            .map_err(|error| RecipeError::Model(error.to_string()))?;
        self.best = number(BEST).map(|bits| {
            let names = self.variables.keys();
            let best = names
                .filter_map(|n| Some((n.clone(), tensors.remove(&format!("{BEST_PREFIX}{n}"))?)));
            (f64::from_bits(bits), best.collect())
        });
        Ok(())
    }
}

/// Indices of the batch of one step (from 0) out of `count`: every pass is its own shuffle, and the
/// result depends on the arguments only.
///
/// The last batch of a pass may be smaller; `size` ≥ 1, and no index comes twice in one pass.
pub fn batch(seed: u64, phase: &str, step: u64, (count, size): (usize, usize)) -> Vec<usize> {
    let per_pass = steps_per_pass(count, size);
    let (pass, at) = (step / per_pass, (step % per_pass) as usize);
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut rng_of(seed, phase, pass));
    order.into_iter().skip(at * size.max(1)).take(size.max(1)).collect()
}

/// Steps of one pass over `count` items; at least 1.
pub fn steps_per_pass(count: usize, size: usize) -> u64 {
    (count.div_ceil(size.max(1)) as u64).max(1)
}

/// A generator of its own for each (seed, phase, number).
pub fn rng_of(seed: u64, phase: &str, number: u64) -> StdRng {
    let salt = u64::from(bucket(&number.to_string(), phase, u32::MAX));
    StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (salt << 20) ^ number)
}

#[cfg(test)]
mod tests;

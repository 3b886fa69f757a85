//! Learning from the log alone: what `serve` does by default. No generator and no judge is asked; an
//! update costs nothing but its own arithmetic.
//!
//! A batch of logged decisions → who answers (`answering`) → what selections are worth, cross-fitted
//! (`reward_model`) → gradient steps on the doubly robust value of the policy, held near the champion
//! while answers are few (`objective`) → votes on what to explore (`ensemble`) → the gate on later
//! decisions (`gate`).
//!
//! | part | from |
//! |---|---|
//! | doubly robust value | Dudík, Langford, Li 2011; `ips` and `snips` beside it are controls |
//! | clipped weights, variance penalty | Swaminathan, Joachims 2015 (POEM, eq. 7) |
//! | self-normalisation | Swaminathan, Joachims 2015; whole minibatches, after Joachims et al. 2018 |
//! | weight of an answer | inverse of the estimated chance to be answered (Saito 2020) |
//!
//! Changed, and why: β of the KL to the champion falls as 1 / answers, because the harm that an update
//! can do at a few hundred answers is the noise of its weights; steps after which the effective sample
//! size is under the floor are taken back.

mod answering;
mod config;
mod ensemble;
mod gate;
mod objective;
mod reward_model;
mod rows;

pub use config::{LoggedConfig, RewardModelConfig};

use crate::policy::head::Head;
use crate::policy::optimizer::{Optimizer, OptimizerArgs, OptimizerError};
use crate::recipes::online::carried_on;
use actors::ports::{Batch, LearnError, LearnReport};
use actors::types::{Episode, Sample};
use answering::Answering;
use candle_core::Device;
use objective::{Setting, Valued};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use reward_model::RewardModel;
use rows::{Counts, Row};

use gate::Direction;
pub(crate) use gate::examine;

/// Parts of an update after which the weights are looked at.
const PARTS: usize = 10;

/// Which estimate of the policy's value is climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Doubly robust.
    DoublyRobust,
    /// Importance weights alone, with the mean reward as the baseline.
    Weighted,
    /// Importance weights divided by their mean.
    SelfNormalised,
}

/// What an update knows that the gate needs: rewards predicted from the decisions it trained on.
pub(crate) struct Knowledge {
    model: Option<RewardModel>,
    answering: Answering,
    /// Mean reward of the training rows.
    reward_mean: f64,
    /// What the training rows say of the direction; empty without a model.
    earlier: Vec<Direction>,
    /// Its moments are where the next update starts.
    optimizer: Optimizer,
}

/// What is trained and how.
pub(crate) struct Recipe<'a> {
    pub config: &'a LoggedConfig,
    pub kind: Kind,
    /// Temperature of the softmax policy that is trained, > 0.
    pub temperature: f64,
    pub weight_decay: f64,
    pub gradient_norm_max: f64,
    pub device: &'a Device,
    pub seed: u64,
    /// Of the update before.
    pub before: Option<&'a Knowledge>,
}

/// Trains a head from the champion's on the batch.
///
/// # Errors
/// Too few answered decisions, or an arithmetic that fails or diverges.
pub(crate) fn update(
    recipe: &Recipe<'_>,
    champion: &Head,
    batch: &Batch,
) -> Result<(Head, LearnReport, Knowledge), LearnError> {
    train(recipe, champion, &batch.train, &batch.unanswered)
}

fn train(
    recipe: &Recipe<'_>,
    champion: &Head,
    samples: &[Sample],
    unanswered: &[Episode],
) -> Result<(Head, LearnReport, Knowledge), LearnError> {
    let (config, device) = (recipe.config, recipe.device);
    let width = champion.config().state_width();
    let (mut rows, counts) = rows::collect(samples, unanswered, width);
    let answering = rows::answering(config, &rows);
    rows::weigh(config, &mut rows, &answering);
    let supported = rows.iter().filter(|r| r.behaviour.is_some() && r.reward.is_some()).count();
    if supported < config.answered_min {
        return Err(LearnError::TooLittle(too_little(config, supported, &counts)));
    }
    let model = match recipe.kind {
        Kind::DoublyRobust => {
            let embedding = champion.config().embedding;
            RewardModel::fit(&config.reward_model, &rows, embedding, recipe.seed, device)?
        }
        Kind::Weighted | Kind::SelfNormalised => None,
    };
    let answered = rows.iter().filter(|row| row.reward.is_some());
    let (total, weight) = answered.fold((0.0, 0.0), |(total, weight), row| {
        (total + row.weight * row.reward.unwrap_or_default(), weight + row.weight)
    });
    let setting = Setting {
        config,
        kind: recipe.kind,
        temperature: recipe.temperature,
        champion,
        beta: config.kl_weight * (config.kl_answers / supported as f64).max(0.05),
        correction: supported as f64 / (supported as f64 + config.correction_answers),
        answered: supported as f64,
        reward_mean: total / weight.max(1e-9),
        device,
    };
    let valued = value(&rows, model.as_ref().filter(|m| m.explains()))?;
    let mut report = LearnReport {
        samples: rows.len() as u64,
        refused: counts.refused(),
        reward_mean: setting.reward_mean,
        ..LearnReport::default()
    };
    report.figures.extend(counts.by.iter().map(|(name, n)| ((*name).to_owned(), *n as f64)));
    report.figures.insert("answered_share".to_owned(), answering.share());
    report.figures.extend(rows::answered_figures(&rows));
    if let Some(model) = &model {
        report.figures.insert("reward_model_r_squared".to_owned(), model.r_squared.unwrap_or(0.0));
        report.figures.insert("reward_model_bias".to_owned(), model.bias);
    }
    let earlier = match model.as_ref().filter(|m| m.explains()) {
        Some(model) => gate::cross_fitted(recipe, champion, &rows, model)?,
        None => Vec::new(),
    };
    let (head, optimizer) = climb(recipe, &setting, &valued, &mut report)?;
    drop(valued);
    let head = match model.as_ref().filter(|m| m.explains()) {
        Some(model) => ensemble::fit(head, model, &rows, device).map_err(tensor)?,
        None => head,
    };
    let reward_mean = setting.reward_mean;
    Ok((head, report, Knowledge { model, answering, reward_mean, earlier, optimizer }))
}

fn too_little(config: &LoggedConfig, supported: usize, counts: &Counts) -> String {
    let (needed, list) = (config.answered_min, counts.list());
    format!(
        "{supported} answered decisions were drawn by chance with a known probability, {needed} needed \
         ({list}); more feedback or a larger share of exploration brings them"
    )
}

/// Every row with the values of its candidates, by a model that has not seen its query.
fn value<'a>(
    rows: &'a [Row<'a>],
    model: Option<&RewardModel>,
) -> Result<Vec<Valued<'a>>, LearnError> {
    let of = |row: &'a Row<'a>| {
        let values = model.map(|m| m.values(row)).transpose();
        values.map(|values| Valued { row, values }).map_err(tensor)
    };
    // Greedy decisions without a model teach nothing here.
    let is_useful = |row: &&Row<'_>| model.is_some() || row.behaviour.is_some();
    rows.iter().filter(is_useful).map(of).collect()
}

/// The gradient steps; the last of ten parts whose weights were sound is kept.
fn climb(
    recipe: &Recipe<'_>,
    setting: &Setting<'_>,
    valued: &[Valued<'_>],
    report: &mut LearnReport,
) -> Result<(Head, Optimizer), LearnError> {
    let config = recipe.config;
    let passes = config.passes * valued.len() as f64 / config.batch as f64;
    let total = config.steps.max(passes as usize);
    let mut rng = StdRng::seed_from_u64(recipe.seed);
    let (head, variables) = setting.champion.trainable().map_err(tensor)?;
    let args = OptimizerArgs {
        rate: config.learning_rate as f32,
        weight_decay: recipe.weight_decay as f32,
        clip_norm: recipe.gradient_norm_max,
        warmup_steps: total as u64 / 10,
        total_steps: total as u64,
        ..OptimizerArgs::default()
    };
    let before = recipe.before.map(|knowledge| &knowledge.optimizer);
    let mut optimizer = carried_on(args, &variables, before);
    let mut kept = head.snapshot().map_err(tensor)?;
    let mut order: Vec<usize> = Vec::new();
    for part in 0..PARTS {
        let steps = total * (part + 1) / PARTS - total * part / PARTS;
        let mut totals = Totals::default();
        for _ in 0..steps {
            if order.len() < config.batch {
                order = (0..valued.len()).collect();
                order.shuffle(&mut rng);
            }
            let chunk = order.split_off(order.len().saturating_sub(config.batch));
            let batch: Vec<&Valued<'_>> = chunk.iter().map(|&i| &valued[i]).collect();
            let step = objective::loss(setting, &head, &batch, &mut rng).map_err(tensor)?;
            let Some(step) = step else { continue };
            let loss = f64::from(step.loss.to_scalar::<f32>().map_err(tensor)?);
            if !loss.is_finite() {
                let reason = format!("the loss is {loss}");
                return Err(LearnError::Diverged { step: report.steps, reason });
            }
            let gradients = step.loss.backward().map_err(tensor)?;
            optimizer.step(&variables, &gradients).map_err(|error| match error {
                OptimizerError::NotFinite { .. } => {
                    LearnError::Diverged { step: report.steps, reason: error.to_string() }
                }
                other => LearnError::Model(other.to_string()),
            })?;
            report.steps += 1;
            totals.add(loss, &step);
        }
        if totals.ess < config.ess_min {
            report.figures.insert("parts_taken_back".to_owned(), (PARTS - part) as f64);
            break;
        }
        kept = head.snapshot().map_err(tensor)?;
        totals.write(report);
    }
    Ok((kept, optimizer))
}

/// Sums over one part of the steps.
#[derive(Default)]
struct Totals {
    steps: f64,
    loss: f64,
    kl: f64,
    ess: f64,
    clipped: f64,
    weighted: f64,
}

impl Totals {
    fn add(&mut self, loss: f64, step: &objective::Step) {
        self.steps += 1.0;
        self.loss += loss;
        self.kl += step.kl;
        self.ess += step.figures.ess;
        self.clipped += step.figures.clipped as f64;
        self.weighted += step.figures.rows as f64;
    }

    fn write(&self, report: &mut LearnReport) {
        let steps = self.steps.max(1.0);
        report.loss = self.loss / steps;
        report.kl = self.kl / steps;
        report.clip_fraction = self.clipped / self.weighted.max(1.0);
        report.figures.insert("ess".to_owned(), self.ess);
    }
}

fn tensor(error: candle_core::Error) -> LearnError {
    LearnError::Model(error.to_string())
}

#[cfg(test)]
mod tests;

//! What the recipes over selections share: minibatches of lists, the steps taken in them, the
//! optimiser's settings, and one report.
//!
//! Functions only: the loops are the recipes' own. Knows no reward.

use super::fit::{Point, RecipeError, rng_of, steps_per_pass};
use super::instance::Instance;
use super::optimise::Choice;
use super::rollout::pad;
use crate::policy::features::SCALARS;
use crate::policy::head::{Head, HeadOutput};
use crate::policy::optimizer::OptimizerArgs;
use crate::policy::trajectories::{Recorded, Trajectories};
use actors::ports::Environment;
use actors::types::SelectionLimits;
use candle_core::{Device, Tensor};
use rand::Rng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// What a recipe works with.
pub struct Tools<'a> {
    /// Rewards of selections.
    pub environment: &'a dyn Environment,
    /// Where the head is trained.
    pub device: &'a Device,
    /// Where checkpoints go; `None` keeps none.
    pub keep: Option<&'a super::fit::Keep>,
    /// Told of every point of every phase.
    pub progress: &'a mut dyn FnMut(&str, Point),
}

/// How long and how fast a phase trains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Passes over the questions; 0 leaves the phase out.
    pub epochs: u64,
    /// Peak learning rate; warmed up over a tenth of the steps, then falls to 0.
    pub learning_rate: f64,
    /// Questions a step.
    pub batch_queries: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm.
    pub gradient_norm_max: f64,
    /// Share of state columns hidden at random, in [0, 1).
    pub dropout: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            epochs: 4,
            learning_rate: 1e-3,
            batch_queries: 32,
            weight_decay: 0.05,
            gradient_norm_max: 1.0,
            dropout: 0.0,
        }
    }
}

impl Schedule {
    /// The optimiser's settings for a phase over `count` questions.
    pub fn optimizer(&self, count: usize) -> OptimizerArgs {
        let total = self.epochs * steps_per_pass(count, self.batch_queries);
        OptimizerArgs {
            rate: self.learning_rate as f32,
            weight_decay: self.weight_decay as f32,
            clip_norm: self.gradient_norm_max,
            warmup_steps: total / 10,
            total_steps: total,
            ..OptimizerArgs::default()
        }
    }

    /// Steps of the phase.
    pub fn steps(&self, count: usize) -> u64 {
        self.epochs * steps_per_pass(count, self.batch_queries)
    }

    /// Names the first field out of range, under `name`.
    pub fn validate(&self, name: &str) -> Result<(), RecipeError> {
        let range = |field: &str, ok: bool, expected: &str| in_range(name, field, ok, expected);
        range("epochs", self.epochs <= 1000, "at most 1000")?;
        let rate = self.learning_rate > 0.0 && self.learning_rate < 1.0;
        range("learning_rate", rate, "above 0 and below 1")?;
        range("batch_queries", (1..=4096).contains(&self.batch_queries), "1 to 4096")?;
        range("weight_decay", (0.0..=1.0).contains(&self.weight_decay), "0 to 1")?;
        range("gradient_norm_max", self.gradient_norm_max > 0.0, "above 0")?;
        range("dropout", (0.0..1.0).contains(&self.dropout), "0 to below 1")
    }
}

/// An error that names the setting unless `ok`.
pub fn in_range(group: &str, field: &str, ok: bool, expected: &str) -> Result<(), RecipeError> {
    if ok {
        return Ok(());
    }
    let setting = if group.is_empty() { field.to_owned() } else { format!("{group}.{field}") };
    Err(RecipeError::Setting { setting, expected: expected.to_owned() })
}

/// Lists padded to one length, on the device.
pub struct Lists {
    states: Tensor,
    present: Tensor,
    /// Padded length.
    pub n: usize,
}

impl Lists {
    /// The lists of a minibatch; `dropout` of the encoder's columns hidden, chosen by (seed, phase,
    /// step).
    pub fn new(
        batch: &[&Instance],
        width: usize,
        (dropout, draw): (f64, (u64, &str, u64)),
        device: &Device,
    ) -> Result<Self, RecipeError> {
        let lists: Vec<_> = batch.iter().map(|i| &i.states).collect();
        let (mut states, present, n) = pad(&lists, width, device)?;
        if dropout > 0.0 {
            let (seed, phase, step) = draw;
            let mut rng = rng_of(seed, phase, step);
            let columns = hidden_columns((batch.len(), width), dropout, &mut rng, device)?;
            states = states.broadcast_mul(&columns)?;
        }
        Ok(Self { states, present, n })
    }

    /// Outputs of a head for these lists.
    pub fn forward(&self, head: &Head) -> Result<HeadOutput, RecipeError> {
        Ok(head.forward(&self.states, &self.present)?)
    }
}

/// (B, 1, width) factors that hide columns of the encoder's state, the same ones in the whole list:
/// the head must not lean on single dimensions of the trunk. The scalar features, which come last,
/// stay as they are; what is left of the others is scaled up by 1 / (1 − dropout).
pub fn hidden_columns(
    (lists, width): (usize, usize),
    dropout: f64,
    rng: &mut StdRng,
    device: &Device,
) -> candle_core::Result<Tensor> {
    let embedding = width.saturating_sub(SCALARS.len());
    let keep = (1.0 / (1.0 - dropout)) as f32;
    let mut factors = vec![1f32; lists * width];
    for list in factors.chunks_mut(width.max(1)) {
        list[..embedding].fill_with(|| if rng.random::<f64>() < dropout { 0.0 } else { keep });
    }
    Tensor::from_vec(factors, (lists, 1, width), device)
}

/// Selections of a minibatch as tensors: `(position of the instance in the batch, order)` each.
pub fn trajectories(
    batch: &[&Instance],
    selections: &[(usize, &[u32])],
    (n, limits): (usize, SelectionLimits),
    device: &Device,
) -> Result<Trajectories, RecipeError> {
    let recorded: Vec<Recorded<'_>> = selections
        .iter()
        .map(|&(list, order)| Recorded {
            list: list as u32,
            candidates: batch[list].len(),
            masks: batch[list].masks(limits),
            order,
        })
        .collect();
    Trajectories::new(&recorded, n, device).map_err(|error| RecipeError::Model(error.to_string()))
}

/// (R, T) f32 from rows of different lengths, 0 beyond their end.
pub fn rows(rows: &[Vec<f64>], width: usize, device: &Device) -> Result<Tensor, RecipeError> {
    let mut values = vec![0f32; rows.len() * width];
    for (row, given) in rows.iter().enumerate() {
        for (at, value) in given.iter().take(width).enumerate() {
            values[row * width + at] = *value as f32;
        }
    }
    Ok(Tensor::from_vec(values, (rows.len(), width), device)?)
}

/// Credits laid over the steps of a selection: one a document, and the last again for the stop.
///
/// A reward is that of a prefix, so a document's step has the credit of the prefix it completes; the
/// stop ends with the whole selection and has its credit.
pub fn over_steps(credits: &[f64], documents: usize, steps: usize) -> Vec<f64> {
    let last = credits.last().copied().unwrap_or(0.0);
    let of = |step: usize| match credits.len() {
        1 => last,
        _ if step < documents => credits.get(step).copied().unwrap_or(last),
        _ => last,
    };
    (0..steps).map(of).collect()
}

/// One phase as the report has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub phase: String,
    /// Steps made.
    pub steps: u64,
    /// Questions, pairs or selections that it learned from.
    pub examples: usize,
    /// Loss and validation reward over the steps.
    pub curve: Vec<Point>,
    /// Best validation reward, whose weights were taken.
    pub best: Option<f64>,
    /// How much of that choice is noise; `None` where nothing was measured.
    pub choice: Option<Choice>,
}

/// What a recipe did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecipeReport {
    /// The recipe.
    pub recipe: String,
    /// Phases in order.
    pub phases: Vec<PhaseReport>,
    /// Trials put to the environment; see its cache counts for how many the reader answered.
    pub trials: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use actors::types::CandidateStates;

    #[test]
    fn credits_lie_over_documents_and_the_stop() {
        assert_eq!(over_steps(&[0.1, 0.2], 2, 3), [0.1, 0.2, 0.2]);
        assert_eq!(over_steps(&[0.1, 0.2], 2, 2), [0.1, 0.2], "a forced end is no step");
        assert_eq!(over_steps(&[0.7], 3, 4), [0.7; 4], "one credit is everyone's");
        assert_eq!(over_steps(&[0.7], 0, 1), [0.7], "stopping at once");
    }

    #[test]
    fn dropout_hides_columns_of_the_encoder_and_no_scalar_feature() {
        use super::super::toy;
        let mut instances = toy::instances(8, 1);
        let width = instances[0].states.width();
        for instance in &mut instances {
            instance.states = CandidateStates::new(width, vec![1.0; 5 * width]).unwrap();
        }
        let batch: Vec<&Instance> = instances.iter().collect();
        let lists = Lists::new(&batch, width, (0.5, (1, "phase", 3)), &Device::Cpu).unwrap();
        let states = lists.states.to_vec3::<f32>().unwrap();
        let (mut hidden, mut masks) = (0, std::collections::HashSet::new());
        for list in &states {
            for row in list {
                assert_eq!(row, &list[0], "a list has one mask");
                assert!(row[toy::EMBEDDING..].iter().all(|v| *v == 1.0), "{row:?}");
                assert!(row[..toy::EMBEDDING].iter().all(|v| *v == 0.0 || *v == 2.0));
            }
            let mask: Vec<bool> = list[0][..toy::EMBEDDING].iter().map(|v| *v == 0.0).collect();
            hidden += mask.iter().filter(|h| **h).count();
            masks.insert(mask);
        }
        // 32 columns at one half: between 6 and 26 but for a chance of 1 in 2,000.
        assert!((6..=26).contains(&hidden) && masks.len() > 2, "{hidden} hidden, {masks:?}");
    }

    #[test]
    fn a_schedule_names_what_is_out_of_range() {
        let schedule = Schedule { dropout: 1.0, ..Schedule::default() };
        let error = schedule.validate("clone").unwrap_err().to_string();
        assert!(error.contains("`clone.dropout` must be 0 to below 1"), "{error}");
        assert!(Schedule::default().validate("clone").is_ok());
    }
}

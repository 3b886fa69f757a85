//! The generator's side of DynamicRAG: the answer head trained by SFT, then by DPO.
//!
//! Paper: DynamicRAG (arXiv 2505.07233), sections 2.2 and 3.3, and the pair construction of its
//! released code. Knows losses, heads and examples; no file, no index, no policy.
//!
//! With P(a | q, D) of `policy::answer_head` over the answers of the passages D, "none", or the
//! labels, and D drawn as a policy might give it:
//!
//! - SFT: `L = −E[ln Σ_a w(a) P(a | q, D)]`, where w(a) is 1 for an answer that equals a gold answer
//!   (EM), its F1 where that reaches a threshold, else 0; where no answer of D is right, the right
//!   one is "none", with a smaller weight. For a label it is the cross-entropy of the gold label.
//! - DPO: `L = −E[ln σ(β (ln P(g)/P_ref(g) − ln P(r)/P_ref(r)))] − α E[ln P(g)]`, where g are the gold
//!   answers in D, r a wrong answer in D, and P_ref the generator after SFT.
//!
//! | constant | here | source |
//! |---|---|---|
//! | β | 0.1 | LLaMA-Factory's default, which the released yaml keeps |
//! | α | 0.0 | the same default (`pref_ftx`); raise it where both likelihoods fall |
//! | contexts of a DPO question | 8 | trajectories sampled per question (released code) |
//! | schedule | 10% warm-up, linear fall | the paper's is a cosine; on so few steps they are alike |
//! | learning rates | 1e-3, 3e-4 | ours: a head of 60,000 weights, not a language model (1e-5, 5e-6) |
//! | sizes of D | 1, 3, 5, 10, 20 | the cuts that evaluation compares |
//!
//! What we changed, and why. The paper's contexts are up to 15 documents that the expert calls
//! relevant; here they are drawn from the candidates by relevance with Gumbel noise (a Plackett–Luce
//! sample, which is how the policy draws) and a share uniformly, so that the generator meets bad
//! contexts too. The released code takes as rejected the first sampled answer that is not the gold
//! string, which may stem from the question before; here it is the most probable wrong answer among
//! those the SFT generator gives over the contexts of the same question, if the context holds it.
//! Answers come from passages, so a question whose contexts never hold a gold answer gives no pair,
//! and a long answer, which is no span, is not trained at all.

mod contexts;
mod examples;
mod figures;
mod losses;
mod pairs;

pub use contexts::draw as draw_context;
pub use examples::{Example, wanted};
pub use figures::{Figures, answers, figures, margin_rule, mean_likelihood};
pub use losses::{Rows, preference_loss, sft_loss};
pub use pairs::{Pair, pairs};

use super::fit::{self, Fit, Keep, RecipeError, rng_of};
use crate::policy::answer_head::AnswerHead;
use crate::policy::optimizer::OptimizerArgs;
use actors::types::PolicySnapshot;
use candle_core::Var;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the first phase, as in progress and checkpoints.
pub const SFT: &str = "generator-sft";
/// Name of the second phase.
pub const DPO: &str = "generator-dpo";

/// The numbers of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseSettings {
    /// Optimiser steps; 0 leaves the phase out.
    pub steps: u64,
    /// Contexts (SFT) or pairs (DPO) a step.
    pub batch: usize,
    /// Largest step size.
    pub rate: f32,
}

impl Default for PhaseSettings {
    fn default() -> Self {
        Self { steps: 600, batch: 16, rate: 1e-3 }
    }
}

impl PhaseSettings {
    fn optimizer(&self) -> OptimizerArgs {
        OptimizerArgs {
            rate: self.rate,
            warmup_steps: self.steps / 10,
            total_steps: self.steps,
            ..OptimizerArgs::default()
        }
    }
}

/// Which weights move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trained {
    /// All that an answer is read from, the list-aware part included.
    #[default]
    All,
    /// What only the generator has: where the list-aware part is a policy's, that stays as it is.
    Own,
}

/// The numbers of a run; two runs with equal settings, weights and examples are the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorSettings {
    /// Chooses batches and contexts.
    pub seed: u64,
    /// Which weights move.
    pub trained: Trained,
    /// Supervised fine-tuning.
    pub sft: PhaseSettings,
    /// Preference optimisation from the SFT weights.
    pub dpo: PhaseSettings,
    /// Numbers of documents of a context, one drawn for each; each ≥ 1.
    pub sizes: Vec<usize>,
    /// Share of contexts drawn uniformly, in [0, 1]; the others follow the relevance.
    pub uniform_share: f64,
    /// Temperature of the draws by relevance, > 0.
    pub temperature: f32,
    /// Least F1 at which an answer counts as nearly right, in (0, 1]; 1: only equal answers count.
    pub soft_f1_min: f32,
    /// Weight of a context that holds no right answer, ≥ 0.
    pub none_weight: f32,
    /// Inverse temperature β of DPO, > 0.
    pub beta: f64,
    /// Weight α ≥ 0 of the gold answer's likelihood in DPO.
    pub sft_weight: f64,
    /// Contexts drawn for each question to find DPO's pairs in, ≥ 1.
    pub contexts: usize,
    /// Steps between looks at the validation examples, ≥ 1.
    pub validate_every: u64,
}

impl Default for GeneratorSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            trained: Trained::All,
            sft: PhaseSettings::default(),
            dpo: PhaseSettings { steps: 300, rate: 3e-4, ..PhaseSettings::default() },
            sizes: vec![1, 3, 5, 10, 20],
            uniform_share: 0.25,
            temperature: 1.0,
            soft_f1_min: 0.5,
            none_weight: 0.3,
            beta: 0.1,
            sft_weight: 0.0,
            contexts: 8,
            validate_every: 50,
        }
    }
}

impl GeneratorSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting out of its range, with the range.
    pub fn check(&self) -> Result<(), RecipeError> {
        let (low, high) = (f64::from(self.soft_f1_min), f64::from(self.none_weight));
        let phase = |p: &PhaseSettings| p.batch > 0 && p.rate.is_finite() && p.rate > 0.0;
        let rules = [
            ("sft", phase(&self.sft), "a batch of at least 1 and a rate above 0"),
            ("dpo", phase(&self.dpo), "a batch of at least 1 and a rate above 0"),
            ("sizes", !self.sizes.is_empty() && !self.sizes.contains(&0), "numbers above 0"),
            ("uniform_share", (0.0..=1.0).contains(&self.uniform_share), "from 0 to 1"),
            ("temperature", self.temperature.is_finite() && self.temperature > 0.0, "above 0"),
            ("soft_f1_min", low > 0.0 && low <= 1.0, "above 0, at most 1"),
            ("none_weight", high.is_finite() && high >= 0.0, "at least 0"),
            ("beta", self.beta.is_finite() && self.beta > 0.0, "above 0"),
            ("sft_weight", self.sft_weight.is_finite() && self.sft_weight >= 0.0, "at least 0"),
            ("contexts", self.contexts > 0, "at least 1"),
            ("validate_every", self.validate_every > 0, "at least 1"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            None => Ok(()),
            Some((setting, _, expected)) => Err(RecipeError::Setting {
                setting: setting.to_owned(),
                expected: expected.to_owned(),
            }),
        }
    }
}

/// One look at a phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Look {
    /// [`SFT`] or [`DPO`].
    pub phase: &'static str,
    /// Steps done.
    pub step: u64,
    /// Of these.
    pub steps: u64,
    /// Mean loss since the look before, nats; `None` before the first step.
    pub loss: Option<f64>,
    /// What chooses between looks, larger is better: the mean log-likelihood of the right answers
    /// (SFT, nats), the mean F1 (DPO); `None` without validation examples.
    pub validation: Option<f64>,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The weights after SFT.
    pub sft: AnswerHead,
    /// The weights after DPO; equal to `sft` where that phase was left out.
    pub dpo: AnswerHead,
    /// Pairs that DPO trained on; 0 where SFT left no mistake to learn from.
    pub pairs: usize,
}

/// What is trained on, and what chooses between the weights of a phase.
#[derive(Debug, Clone, Copy)]
pub struct Examples<'a> {
    /// Trained on.
    pub training: &'a [Example],
    /// Chooses the best look of each phase; where it is empty the last weights stay.
    pub validation: &'a [Example],
}

/// Trains `start` by SFT and then by DPO; `look` is told of both. A killed run that is started again
/// with the same arguments ends in the same weights.
///
/// # Errors
/// A setting out of range, examples that teach nothing, a loss that is not finite, a checkpoint of
/// another run.
pub fn train(
    start: &AnswerHead,
    examples: Examples<'_>,
    settings: &GeneratorSettings,
    keep: Option<&Keep>,
    look: &mut dyn FnMut(Look),
) -> Result<Outcome, RecipeError> {
    settings.check()?;
    let sft = fine_tune(start, examples, settings, keep, look)?;
    if settings.dpo.steps == 0 {
        return Ok(Outcome { dpo: sft.clone(), sft, pairs: 0 });
    }
    let pairs = pairs(&sft, examples.training, settings)?;
    let count = pairs.len();
    if pairs.is_empty() {
        tracing::warn!("the generator makes no mistake that it could learn from; DPO is left out");
        return Ok(Outcome { dpo: sft.clone(), sft, pairs: 0 });
    }
    let dpo = prefer(&sft, (examples, &pairs), settings, keep, look)?;
    Ok(Outcome { sft, dpo, pairs: count })
}

/// Everything that decides a run, for [`Keep::new`].
///
/// # Errors
/// Weights that are not finite.
pub fn fingerprint(
    start: &AnswerHead,
    examples: Examples<'_>,
    settings: &GeneratorSettings,
) -> Result<Vec<u8>, RecipeError> {
    let weights = crate::policy::answer_head::to_bytes(start, None);
    let weights = weights.map_err(|error| RecipeError::Model(error.to_string()))?;
    let mut identity = PolicySnapshot::digest_of(&weights).0.into_bytes();
    identity.extend(format!("{settings:?}").into_bytes());
    for part in [examples.training, examples.validation] {
        identity.extend(part.iter().flat_map(Example::fingerprint));
        identity.push(b'|');
    }
    Ok(identity)
}

fn fine_tune(
    start: &AnswerHead,
    examples: Examples<'_>,
    settings: &GeneratorSettings,
    keep: Option<&Keep>,
    look: &mut dyn FnMut(Look),
) -> Result<AnswerHead, RecipeError> {
    let taught: Vec<&Example> =
        examples.training.iter().filter(|example| example.is_taught()).collect();
    if settings.sft.steps == 0 {
        return Ok(start.snapshot()?);
    }
    if taught.is_empty() {
        return Err(RecipeError::Nothing {
            phase: SFT.to_owned(),
            reason:
                "no question has candidates and a short answer or a label; give other questions"
                    .to_owned(),
        });
    }
    let (head, variables) = start.trainable()?;
    let mut fit = Fit::start(SFT, &moving(variables, settings), settings.sft.optimizer(), keep)?;
    let mut watch = Watch {
        phase: SFT,
        settings,
        validate: &mut |head| mean_likelihood(head, examples.validation, settings),
        look,
    };
    watch.first(&head, &mut fit)?;
    while fit.steps_done() < settings.sft.steps {
        let step = fit.steps_done();
        let chosen = fit::batch(settings.seed, SFT, step, (taught.len(), settings.sft.batch));
        let mut rng = rng_of(settings.seed, "generator-sft-contexts", step);
        let rows: Vec<(&Example, Vec<usize>)> = chosen
            .into_iter()
            .map(|at| (taught[at], draw_context(taught[at], settings, &mut rng)))
            .collect();
        let rows = Rows::new(&head, &rows)?;
        fit.step(&sft_loss(&head, &rows, settings)?)?;
        watch.after(&head, &mut fit, settings.sft.steps)?;
    }
    fit.finish()?;
    Ok(head.snapshot()?)
}

fn prefer(
    reference: &AnswerHead,
    (examples, pairs): (Examples<'_>, &[Pair]),
    settings: &GeneratorSettings,
    keep: Option<&Keep>,
    look: &mut dyn FnMut(Look),
) -> Result<AnswerHead, RecipeError> {
    let (head, variables) = reference.trainable()?;
    let mut fit = Fit::start(DPO, &moving(variables, settings), settings.dpo.optimizer(), keep)?;
    let mut watch = Watch {
        phase: DPO,
        settings,
        validate: &mut |head| figures::mean_f1(head, examples.validation, &settings.sizes),
        look,
    };
    watch.first(&head, &mut fit)?;
    while fit.steps_done() < settings.dpo.steps {
        let step = fit.steps_done();
        let chosen = fit::batch(settings.seed, DPO, step, (pairs.len(), settings.dpo.batch));
        let batch: Vec<&Pair> = chosen.into_iter().map(|at| &pairs[at]).collect();
        let rows: Vec<(&Example, Vec<usize>)> = batch
            .iter()
            .map(|pair| (&examples.training[pair.example], pair.context.clone()))
            .collect();
        let rows = Rows::new(&head, &rows)?;
        fit.step(&preference_loss(&head, &rows, &batch, settings)?.loss)?;
        watch.after(&head, &mut fit, settings.dpo.steps)?;
    }
    fit.finish()?;
    Ok(head.snapshot()?)
}

/// The variables that this run moves.
fn moving(variables: BTreeMap<String, Var>, settings: &GeneratorSettings) -> BTreeMap<String, Var> {
    let is_moved = |name: &String| settings.trained == Trained::All || name.starts_with("answer.");
    variables.into_iter().filter(|(name, _)| is_moved(name)).collect()
}

type Validate<'a> = dyn FnMut(&AnswerHead) -> Result<Option<f64>, RecipeError> + 'a;

/// Looks at a phase: validates, keeps the best, tells.
struct Watch<'a> {
    phase: &'static str,
    settings: &'a GeneratorSettings,
    validate: &'a mut Validate<'a>,
    look: &'a mut dyn FnMut(Look),
}

impl Watch<'_> {
    /// The start counts too: a phase that only does harm leaves the weights as they were.
    fn first(&mut self, head: &AnswerHead, fit: &mut Fit) -> Result<(), RecipeError> {
        if fit.steps_done() > 0 {
            return Ok(());
        }
        self.see(head, fit, (0, None))
    }

    fn after(&mut self, head: &AnswerHead, fit: &mut Fit, steps: u64) -> Result<(), RecipeError> {
        let step = fit.steps_done();
        if !step.is_multiple_of(self.settings.validate_every) && step != steps {
            return Ok(());
        }
        let loss = Some(fit.mean_loss());
        self.see(head, fit, (step, loss))
    }

    fn see(
        &mut self,
        head: &AnswerHead,
        fit: &mut Fit,
        (step, loss): (u64, Option<f64>),
    ) -> Result<(), RecipeError> {
        let validation = (self.validate)(head)?;
        if let Some(score) = validation {
            fit.consider(score)?;
        }
        let phase = if self.phase == SFT { &self.settings.sft } else { &self.settings.dpo };
        (self.look)(Look { phase: self.phase, step, steps: phase.steps, loss, validation });
        Ok(())
    }
}

#[cfg(test)]
mod tests;

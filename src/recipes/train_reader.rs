//! Fine-tunes an extractive reader: span cross-entropy plus relevance, on positives and negatives.
//!
//! Owns the loop: batches, loss, checkpoints. Knows no file format of questions, no command line.
//! Every batch is a function of (seed, step), so a run resumed from a checkpoint gives the same
//! weights, bit for bit, as one that was never stopped.
//!
//! Loss of a batch of B pairs with logits s (start), e (end) over each pair's tokens:
//! `mean_b[(CE(s_b, start_b) + CE(e_b, end_b)) / 2] + mean_b[BCE(rel_b, positive_b)]`, where a
//! negative's start and end are its `[CLS]` token (SQuAD 2.0's "no answer").

mod checkpoint;
mod examples;

pub use examples::TrainingQuestion;

use crate::policy::encoder::{EncoderError, PackedBatch, Trainable, Weights};
use crate::policy::model_folder::{ModelFolder, ModelFolderError, Precision, write_folder};
use crate::policy::optimizer::{Optimizer, OptimizerArgs, OptimizerError, StepReport};
use crate::policy::reader::{PairEncoder, ReaderArgs, ReaderError, ReaderModel, ReaderOutput};
use actors::types::{Digest, Document};
use candle_core::{Device, Tensor};
use checkpoint::Checkpoint;
use examples::{BatchTargets, Examples};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Why training stopped early.
#[derive(Debug, thiserror::Error)]
pub enum TrainReaderError {
    /// The loss is no longer a number.
    #[error(
        "loss is {loss} at step {step}; lower the rate (now {rate}) or resume from a checkpoint"
    )]
    Diverged {
        /// Step, from 1.
        step: u64,
        /// The loss.
        loss: f32,
        /// Largest step size asked for.
        rate: f32,
    },
    /// Nothing to learn from.
    #[error(
        "none of {questions} questions has a positive passage that holds one of its answers within \
         {max_tokens} tokens, and a passage beside it"
    )]
    NoExamples {
        /// Questions given.
        questions: usize,
        /// Longest sequence.
        max_tokens: usize,
    },
    /// The checkpoint belongs to another run.
    #[error(
        "checkpoint {path} was made with other data or settings; remove it, or ask for the same run"
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A model folder or checkpoint cannot be read or written.
    #[error(transparent)]
    Folder(#[from] ModelFolderError),
    /// Tokenising failed or limits do not fit.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// The model does not fit or failed.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A step failed.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
}

impl From<candle_core::Error> for TrainReaderError {
    fn from(error: candle_core::Error) -> Self {
        Self::Encoder(error.into())
    }
}

/// What to train, on what, and how.
#[derive(Debug, Clone)]
pub struct TrainReaderArgs {
    /// Model folder to start from.
    pub base: PathBuf,
    /// Model folder to write; checkpoints lie in it too.
    pub out: PathBuf,
    /// Questions with answers.
    pub questions: Vec<TrainingQuestion>,
    /// Pool that the questions refer to.
    pub passages: Vec<Document>,
    /// The numbers of the run.
    pub settings: TrainReaderSettings,
}

/// The numbers of a training run; two runs with equal settings and data are the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainReaderSettings {
    /// Chooses negatives and the order of examples.
    pub seed: u64,
    /// Optimizer steps; 0 only writes the base again in `precision`.
    pub steps: u64,
    /// Questions a step; each gives one positive and one negative pair.
    pub batch_questions: usize,
    /// Which weights move.
    pub trainable: Trainable,
    /// Step sizes; `total_steps` is set to `steps`.
    pub optimizer: OptimizerArgs,
    /// Limits of pair encoding.
    pub reader: ReaderArgs,
    /// Steps between checkpoints; 0 writes none but when stopped.
    pub checkpoint_every: u64,
    /// Random passages among which a negative is sought where the candidates have none.
    pub negative_draws: usize,
    /// How the result is stored.
    pub precision: Precision,
}

impl Default for TrainReaderSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 1_000,
            batch_questions: 16,
            trainable: Trainable::FromLayer(2),
            optimizer: OptimizerArgs { warmup_steps: 100, ..OptimizerArgs::default() },
            reader: ReaderArgs::default(),
            checkpoint_every: 200,
            negative_draws: 64,
            precision: Precision::F16,
        }
    }
}

/// One finished step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Progress {
    /// Steps done, from 1.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Loss of this step's batch, before the step.
    pub loss: f32,
    /// Step size used.
    pub rate: f32,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// Pairs a second since start or resumption.
    pub pairs_per_second: f64,
    /// Estimate of the time left, in seconds.
    pub seconds_left: f64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Steps done, those before a resumption included.
    pub steps: u64,
    /// Whether all steps were done; otherwise a checkpoint was written and no model.
    pub finished: bool,
    /// Step that was resumed from, if any.
    pub resumed_from: Option<u64>,
    /// Questions that gave an example.
    pub examples: usize,
    /// Mean loss of the steps of this call; `None` where there was none.
    pub mean_loss: Option<f64>,
    /// SHA-256 of the weights written.
    pub digest: Option<Digest>,
}

/// Trains from `args.base` and writes a model folder to `args.out`.
///
/// `progress` is called after each step; `Break` writes a checkpoint and stops. Where `args.out`
/// holds a checkpoint of the same run, training goes on from it.
pub fn train_reader(
    args: &TrainReaderArgs,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report, TrainReaderError> {
    let settings = &args.settings;
    let base = ModelFolder::load(&args.base, &Device::Cpu)?;
    if settings.steps == 0 {
        let digest = write(args, &base, &base.tensors)?;
        return Ok(Report {
            steps: 0,
            finished: true,
            resumed_from: None,
            examples: 0,
            mean_loss: None,
            digest: Some(digest),
        });
    }
    let encoder = PairEncoder::new(base.tokenizer.clone(), &base.config, &settings.reader)?;
    let examples = Examples::build(args, &encoder)?;
    let mut run = Run::start(args, &base, &examples)?;
    let resumed_from = (run.optimizer.steps() > 0).then(|| run.optimizer.steps());
    let (mut loss_sum, mut done) = (0.0, 0u64);
    let started = tokio::time::Instant::now();
    let mut stopped = false;
    while !stopped && run.optimizer.steps() < settings.steps {
        let (loss, report) = run.step(&encoder, &examples)?;
        loss_sum += f64::from(loss);
        done += 1;
        let seconds = started.elapsed().as_secs_f64();
        let flow = progress(Progress {
            step: report.step,
            steps: settings.steps,
            loss,
            rate: report.rate,
            gradient_norm: report.gradient_norm,
            pairs_per_second: (done * 2) as f64 * settings.batch_questions as f64 / seconds,
            seconds_left: seconds / done as f64 * (settings.steps - report.step) as f64,
        });
        stopped = flow.is_break() && report.step < settings.steps;
        let due =
            settings.checkpoint_every > 0 && report.step.is_multiple_of(settings.checkpoint_every);
        if stopped || due {
            run.checkpoint.save(&run.weights, &run.optimizer)?;
        }
    }
    let mut digest = None;
    if !stopped {
        digest = Some(write(args, &base, &run.weights.snapshot()?)?);
        run.checkpoint.remove()?;
    }
    Ok(Report {
        steps: run.optimizer.steps(),
        finished: !stopped,
        resumed_from,
        examples: examples.len(),
        mean_loss: (done > 0).then(|| loss_sum / done as f64),
        digest,
    })
}

fn write(
    args: &TrainReaderArgs,
    base: &ModelFolder,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<Digest, TrainReaderError> {
    let precision = args.settings.precision;
    write_folder(&args.out, &base.config, &base.tokenizer, tensors, precision)?;
    Ok(ModelFolder::load(&args.out, &Device::Cpu)?.digest)
}

/// What moves during a run.
struct Run<'a> {
    settings: &'a TrainReaderSettings,
    weights: Weights,
    model: ReaderModel,
    optimizer: Optimizer,
    checkpoint: Checkpoint,
}

impl<'a> Run<'a> {
    fn start(
        args: &'a TrainReaderArgs,
        base: &ModelFolder,
        examples: &Examples,
    ) -> Result<Self, TrainReaderError> {
        let settings = &args.settings;
        let weights = Weights::trainable(base.tensors.clone(), settings.trainable)?;
        let model = ReaderModel::new(&base.config, &weights)?;
        let numbers = OptimizerArgs { total_steps: settings.steps, ..settings.optimizer.clone() };
        let checkpoint = Checkpoint::of(args, &base.digest, examples);
        let optimizer = match checkpoint.restore(&weights, &numbers)? {
            Some(optimizer) => optimizer,
            None => Optimizer::new(numbers, weights.variables()),
        };
        Ok(Self { settings, weights, model, optimizer, checkpoint })
    }

    fn step(
        &mut self,
        encoder: &PairEncoder,
        examples: &Examples,
    ) -> Result<(f32, StepReport), TrainReaderError> {
        let settings = self.settings;
        let (step, size) = (self.optimizer.steps(), settings.batch_questions.max(1));
        let (pairs, targets) = examples.batch(encoder, settings.seed, step, size)?;
        let batch = PackedBatch::new(pairs.iter().map(|pair| &pair.sequence), &Device::Cpu)?;
        let output = self.model.forward(&batch)?;
        let loss = loss(&output, &batch, &targets)?;
        let value = loss.to_scalar::<f32>()?;
        if !value.is_finite() {
            let rate = settings.optimizer.rate;
            return Err(TrainReaderError::Diverged { step: step + 1, loss: value, rate });
        }
        let gradients = loss.backward()?;
        let report = self.optimizer.step(self.weights.variables(), &gradients)?;
        Ok((value, report))
    }
}

/// The scalar loss of the module's documentation.
fn loss(
    output: &ReaderOutput,
    batch: &PackedBatch,
    targets: &BatchTargets,
) -> candle_core::Result<Tensor> {
    let mut normalisers = Vec::with_capacity(targets.spans.len());
    let mut chosen = Vec::with_capacity(2 * targets.spans.len());
    for ((start, len), (first, last)) in batch.offsets().spans().zip(&targets.spans) {
        normalisers.push(output.span.narrow(0, start, len)?.log_sum_exp(0)?);
        chosen.extend([2 * (start + first) as u32, 2 * (start + last) as u32 + 1]);
    }
    let device = output.span.device();
    let chosen = output.span.flatten_all()?.index_select(&Tensor::new(chosen, device)?, 0)?;
    let span = (Tensor::cat(&normalisers, 0)? - chosen)?.mean_all()?;
    let relevant = Tensor::new(targets.relevant.as_slice(), device)?;
    let rel = candle_nn::loss::binary_cross_entropy_with_logit(&output.rel, &relevant)?;
    span + rel
}

#[cfg(test)]
mod tests;

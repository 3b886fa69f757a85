//! `regrade train-generator`: trains the answer head on question files, by SFT and then by DPO.
//!
//! Owns its flags, what is written where, and the table of figures; the recipe is
//! `recipes::generator`.

mod figures;

use super::progress::Progress;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::datasets::{self, Question, Selection, Split, VERDICTS};
use crate::policy::answer_head::{self, AnswerHead, Wanted};
use crate::policy::policy_folder;
use crate::policy::serving::{self, PolicyWeights};
use crate::recipes::fit::{Keep, RecipeError};
use crate::recipes::generator::{
    self, DPO, Example, Examples, GeneratorSettings, Outcome, SFT, Trained,
};
use crate::recipes::instance::{Instance, lay_out, split_validation};
use crate::wiring::{self, Lab};
use actors::compute::{Compute, ComputeMode};
use actors::types::{PolicySnapshot, PolicyVersion};
use candle_core::Device;
use figures::table;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;
/// Where the weights after SFT alone lie in the folder of the run.
const SFT_FOLDER: &str = "sft";

/// Flags of `regrade train-generator`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Question files with gold answers.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// Where the answer head goes, that of SFT alone below it in `sft`. A checkpoint of the same run
    /// found there is gone on from.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Policy folder to share weights with: the answer head then lies on the policy's own, and the
    /// policy is written beside it. Without it the answer head has weights of its own.
    #[arg(long, value_name = "DIR")]
    pub policy: Option<PathBuf>,
    /// Trains only what the generator has for itself, so that a shared policy stays as it is.
    #[arg(long, requires = "policy")]
    pub freeze_policy: bool,
    /// Documents retrieved for each question.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub top_n: u32,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Optimiser steps of SFT.
    #[arg(long, default_value_t = GeneratorSettings::default().sft.steps)]
    pub sft_steps: u64,
    /// Optimiser steps of DPO; 0 leaves it out.
    #[arg(long, default_value_t = GeneratorSettings::default().dpo.steps)]
    pub dpo_steps: u64,
    /// Compares margin rule, SFT and DPO on the test part of the same files at k = 1, 3, 5, 10, 20.
    #[arg(long)]
    pub evaluate: bool,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Which questions.
    #[command(flatten)]
    pub selection: Selection,
    /// Configuration.
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// Trains the answer head and writes it.
///
/// # Errors
/// Files, models or settings that cannot be used, or a training that failed.
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = args.settings.load(Vec::new())?;
    let failed = |doing: &'static str| move |e| CliError::failed(doing, e);
    let all =
        datasets::load_questions(&args.questions).map_err(failed("cannot load the questions"))?;
    let passages =
        datasets::load_passages(&args.passages).map_err(failed("cannot load the passages"))?;
    let tested = tested(&args, &all)?;
    let questions = datasets::select(all, &args.selection);
    let top_n = args.top_n as usize;
    let pairs = (questions.len() + tested.len()) * top_n;
    let lab = wiring::lab(&config, &passages, pairs)
        .await
        .map_err(|e| CliError::failed("cannot set up training", e))?;
    let work = work(&args, &lab, &questions).await?;
    let start = work.start.clone();
    let (folder, policy) = (args.out.clone(), work.policy.clone());
    let trainer = Compute::start("train-generator", ComputeMode::Thread, 1, ())
        .map_err(|e| CliError::failed("cannot start the training thread", e))?;
    let (outcome, keep) = trainer
        .run(move |_: &mut ()| train(&work, &folder))
        .await
        .map_err(|e| CliError::failed("the training thread is gone", e))?
        .map_err(|e| CliError::failed("training stopped", e))?;
    let digests = write(&args, &lab, policy.as_ref(), &outcome)?;
    keep.clear(&[SFT, DPO]).map_err(|e| CliError::failed("cannot remove the checkpoints", e))?;
    let mut report = json!({
        "out": args.out, "seed": args.seed, "questions": questions.len(), "pairs": outcome.pairs,
        "sft_digest": digests.0, "digest": digests.1, "shared": policy.is_some(),
    });
    say(&report)?;
    if args.evaluate {
        let examples = read(&lab, &instances(&lab, &tested, top_n).await?)?;
        let heads = [("untrained", &start), ("sft", &outcome.sft), ("dpo", &outcome.dpo)];
        let table = table(&heads, &examples, top_n)
            .map_err(|e| CliError::failed("cannot score the answers", e))?;
        say(&table.text)?;
        report["evaluation"] = json!(table.rows);
    }
    super::write_report(args.report.as_deref(), &report)
}

/// The test part of the same files; empty where no evaluation was asked for.
fn tested(args: &Args, questions: &[Question]) -> Result<Vec<Question>, CliError> {
    if !args.evaluate {
        return Ok(Vec::new());
    }
    if args.selection.split != Split::Train {
        return Err(CliError::Usage(
            "--evaluate needs --split train: what is evaluated is never trained on".to_owned(),
        ));
    }
    let test = Selection { split: Split::Test, ..args.selection };
    Ok(datasets::select(questions.to_vec(), &test))
}

/// A run before its first step.
struct Work {
    start: AnswerHead,
    /// The policy that the head is shared with.
    policy: Option<PolicySnapshot>,
    training: Vec<Example>,
    validation: Vec<Example>,
    settings: GeneratorSettings,
}

async fn work(args: &Args, lab: &Lab, questions: &[Question]) -> Result<Work, CliError> {
    let mut settings = GeneratorSettings { seed: args.seed, ..GeneratorSettings::default() };
    settings.sft.steps = args.sft_steps;
    settings.dpo.steps = args.dpo_steps;
    settings.sizes.retain(|&size| size <= args.top_n as usize);
    if args.freeze_policy {
        settings.trained = Trained::Own;
    }
    let laid_out = instances(lab, questions, args.top_n as usize).await?;
    let (training, validation) = split_validation(laid_out);
    let (training, validation) = (read(lab, &training)?, read(lab, &validation)?);
    let labels = labels(training.iter().chain(&validation));
    let model = |e: candle_core::Error| CliError::failed("cannot make an answer head", e);
    let Some(folder) = &args.policy else {
        let width = lab.reader.width();
        let start = AnswerHead::untrained(width, &labels, args.seed, &lab.device).map_err(model)?;
        return Ok(Work { start, policy: None, training, validation, settings });
    };
    let policy = policy_folder::read(folder)
        .map_err(|e| CliError::failed("cannot read the policy to share weights with", e))?;
    let weights = serving::from_snapshot(&policy, &lab.device)
        .map_err(|e| CliError::failed("cannot share this policy's weights", e))?;
    if weights.trunk.is_some() {
        return Err(CliError::because(format!(
            "policy {} has a trunk of its own, and a generator reads with the model folder: share \
             the weights of a policy trained with `policy.trainable = \"head\"`",
            folder.display()
        )));
    }
    let start = AnswerHead::on(weights.head, &labels, args.seed, &lab.device).map_err(model)?;
    Ok(Work { start, policy: Some(policy), training, validation, settings })
}

/// Retrieves and reads the questions.
async fn instances(
    lab: &Lab,
    questions: &[Question],
    top_n: usize,
) -> Result<Vec<Instance>, CliError> {
    let mut progress = Progress::start("questions", Some(questions.len() as u64));
    let mut last = 0;
    let mut advance = |done: usize, _: usize| {
        progress.advance((done - last) as u64, &json!({}));
        last = done;
    };
    let (index, reader) = (&*lab.index, &*lab.reader);
    let laid_out = lay_out(index, reader, questions, top_n, &mut advance).await;
    let instances = laid_out.map_err(unusable)?;
    progress.finish();
    Ok(instances)
}

fn read(lab: &Lab, instances: &[Instance]) -> Result<Vec<Example>, CliError> {
    let examples = instances.iter().map(|instance| Example::of(instance, &lab.reader));
    examples.collect::<Result<_, _>>().map_err(unusable)
}

fn unusable(error: RecipeError) -> CliError {
    CliError::failed("cannot lay out the questions", error)
}

/// Every label that a question may want, in the order they come up; the verdicts of fact
/// verification where none wants any.
fn labels<'a>(examples: impl Iterator<Item = &'a Example>) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for example in examples {
        if let Wanted::Label(wanted) = &example.wanted {
            let new: Vec<_> = wanted.iter().filter(|l| !labels.contains(l)).cloned().collect();
            labels.extend(new);
        }
    }
    if labels.is_empty() { VERDICTS.map(str::to_owned).to_vec() } else { labels }
}

/// Blocking; shows each look.
fn train(work: &Work, folder: &Path) -> Result<(Outcome, Keep), RecipeError> {
    let examples = Examples { training: &work.training, validation: &work.validation };
    let identity = generator::fingerprint(&work.start, examples, &work.settings)?;
    let keep = Keep::new(folder.to_owned(), &identity, CHECKPOINT_EVERY);
    let steps = work.settings.sft.steps + work.settings.dpo.steps;
    let mut progress = Progress::start("steps", Some(steps));
    let (mut phase, mut last) = ("", 0);
    let outcome =
        generator::train(&work.start, examples, &work.settings, Some(&keep), &mut |look| {
            if look.phase != phase {
                (phase, last) = (look.phase, 0);
            }
            progress.advance(look.step - last, &json!(look));
            last = look.step;
        })?;
    progress.finish();
    Ok((outcome, keep))
}

/// Writes both heads; returns their digests, that of SFT first.
fn write(
    args: &Args,
    lab: &Lab,
    policy: Option<&PolicySnapshot>,
    outcome: &Outcome,
) -> Result<(String, String), CliError> {
    let sft = args.out.join(SFT_FOLDER);
    let both = [(sft.as_path(), SFT, &outcome.sft), (args.out.as_path(), DPO, &outcome.dpo)];
    let [sft, dpo] = both.map(|(folder, recipe, head)| {
        let policy = policy.map(|policy| moved(policy, head, recipe)).transpose()?;
        let trained_on = (recipe, lab.reader.digest());
        answer_head::write(folder, head, trained_on, policy.as_ref())
            .map(|digest| digest.0)
            .map_err(|e| CliError::failed("cannot keep the answer head", e))
    });
    Ok((sft?, dpo?))
}

/// The policy as it is after its head was trained with the generator: itself where nothing moved.
fn moved(
    policy: &PolicySnapshot,
    head: &AnswerHead,
    recipe: &str,
) -> Result<PolicySnapshot, CliError> {
    let known = serving::from_snapshot(policy, &Device::Cpu)
        .map_err(|e| CliError::failed("cannot read the policy's weights", e))?;
    let weights = PolicyWeights { head: head.head().clone(), ..known };
    let bytes = serving::to_bytes(&weights).map_err(CliError::because)?;
    if PolicySnapshot::digest_of(&bytes) == policy.digest {
        return Ok(policy.clone());
    }
    let version = PolicyVersion(policy.version.0 + 1);
    Ok(PolicySnapshot::new(version, Some(policy.version), recipe, bytes))
}

#[cfg(test)]
mod tests;

//! `regrade train`: trains a policy on question files, from what the generator does with documents.

pub mod papers;
pub mod smart_rag;

use super::progress::Progress;
use super::settings::ConfigArgs;
use super::{CliError, evaluate, say};
use crate::config::Trainable;
use crate::datasets::{self, Question, Selection, Split};
use crate::policy::policy_folder;
use crate::policy::serving::{self, EncoderPolicy};
use crate::recipes::offline::{self, Event, Plan, Setting};
use crate::recipes::online::OnlineLearner;
use crate::wiring::{self, Lab};
use actors::types::PolicySnapshot;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Flags of `regrade train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How the policy is trained; each recipe has a section of settings of its name, `online` the
    /// section `learner`.
    #[arg(long)]
    pub recipe: Recipe,
    /// Question files with gold answers.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// Policy folder to start from; without it an untrained policy on `policy.model`.
    #[arg(long, value_name = "DIR")]
    pub init: Option<PathBuf>,
    /// Where trained policies go: a folder, with `-SEED` added for each of several seeds.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Documents retrieved for each question.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub top_n: u32,
    /// Times the questions are served and learned from.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seeds; one policy is trained for each, on the same readings.
    #[arg(long, value_delimiter = ',', default_value = "0", value_name = "SEED,…")]
    pub seeds: Vec<u64>,
    /// Compares what was trained with the baselines on the test part of the same files, on the
    /// readings at hand.
    #[arg(long)]
    pub evaluate: bool,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// What the papers' recipes need beside.
    #[command(flatten)]
    pub papers: papers::Flags,
    /// What `smart_rag` needs beside.
    #[command(flatten)]
    pub smart_rag: smart_rag::Flags,
    /// Which questions.
    #[command(flatten)]
    pub selection: Selection,
    /// Configuration.
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// The recipes of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Recipe {
    /// What production runs, fed from files: served, judged, learned from, with the loss that
    /// `learner.objective` names (`rrpo`, `dpo`, `grpo` or `sft`).
    Online,
    /// An expert's order and number of documents imitated, then preferred among by rewards (DPO).
    DynamicRag,
    /// Prefix rewards against the reference's greedy selection, at a fixed number of documents.
    Rrpo,
    /// Selections of a question compared with each other: the control.
    Grpo,
    /// Gate, rewrites and selection as one policy: warm-up, then PPO.
    SmartRag,
}

/// Trains one policy a seed.
///
/// # Errors
/// Files, models or settings that cannot be used, or a training that failed.
pub async fn run(args: Args) -> Result<(), CliError> {
    let mut config = args.settings.load(Vec::new())?;
    match args.recipe {
        Recipe::Online => {}
        Recipe::SmartRag => return smart_rag::run(args, config).await,
        Recipe::DynamicRag | Recipe::Rrpo | Recipe::Grpo => return papers::run(args, config).await,
    }
    let failed = |doing: &'static str| move |e| CliError::failed(doing, e);
    let questions =
        datasets::load_questions(&args.questions).map_err(failed("cannot load the questions"))?;
    let passages =
        datasets::load_passages(&args.passages).map_err(failed("cannot load the passages"))?;
    let tested = tested(&args, &questions)?;
    let questions = datasets::select(questions, &args.selection);
    let pairs = (questions.len() + tested.len()) * args.top_n as usize;
    let lab = wiring::lab(&config, &passages, pairs)
        .await
        .map_err(|e| CliError::failed("cannot set up training", e))?;
    let setting = Setting {
        index: Arc::clone(&lab.index),
        generator: Arc::clone(&lab.generator),
        judge: Arc::clone(&lab.judge),
        top_n: args.top_n as usize,
        limits: config.service.limits,
        exploration: config.service.exploration,
    };
    let mut report = Vec::new();
    let mut policies = Vec::new();
    for &seed in &args.seeds {
        config.learner.seed = seed;
        let start = start(&args, &lab, seed)?;
        let mut policy = EncoderPolicy::new(Arc::clone(&lab.reader), &start, lab.device.clone())
            .map_err(|e| CliError::failed("cannot start from these weights", e))?;
        let environment = Arc::clone(&lab.environment);
        let device = lab.device.clone();
        let learner = OnlineLearner::new(config.learner.with_trials(), &start, environment, device)
            .map_err(|e| CliError::failed("cannot start from these weights", e))?;
        let learner = match config.policy.trainable {
            Trainable::Head => learner,
            Trainable::Full => learner.with_trunk(Arc::clone(&lab.reader)),
        };
        let plan = Plan { questions: &questions, rounds: args.rounds as usize, start };
        let mut rng = StdRng::seed_from_u64(seed);
        let mut watch = Watch::new(seed, questions.len());
        let trained =
            offline::train(&setting, &mut policy, learner, plan, &mut rng, &mut |e| watch.see(e))
                .await
                .map_err(|e| CliError::failed("training stopped", e))?;
        let folder = folder(&args, seed);
        policy_folder::write(&folder, &trained)
            .map_err(|e| CliError::failed("cannot keep the policy", e))?;
        let summary = json!({
            "seed": seed, "policy": folder, "version": trained.version, "digest": trained.digest,
            "recipe": trained.recipe, "questions": questions.len(), "rounds": watch.rounds,
        });
        say(&summary)?;
        report.push(summary);
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        policies.push((name.to_string_lossy().into_owned(), trained));
    }
    let mut report = json!({ "runs": report });
    if args.evaluate {
        let (top_n, limits) = (args.top_n as usize, config.service.limits);
        let of = evaluate::compare(&lab, policies, &tested, (top_n, limits, args.seeds[0])).await?;
        report["evaluation"] =
            serde_json::to_value(of).map_err(|e| CliError::failed("cannot write the report", e))?;
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

fn start(args: &Args, lab: &Lab, seed: u64) -> Result<PolicySnapshot, CliError> {
    match &args.init {
        Some(folder) => {
            policy_folder::read(folder).map_err(|e| CliError::failed("cannot read --init", e))
        }
        None => serving::first_snapshot(lab.reader.width(), seed, &lab.device)
            .map_err(|e| CliError::because(format!("cannot make an untrained policy: {e}"))),
    }
}

fn folder(args: &Args, seed: u64) -> PathBuf {
    if args.seeds.len() == 1 {
        return args.out.clone();
    }
    let mut name = args.out.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{seed}"));
    args.out.with_file_name(name)
}

/// Turns events into progress and keeps the rounds for the report.
struct Watch {
    seed: u64,
    progress: Progress,
    done: usize,
    rounds: Vec<serde_json::Value>,
}

impl Watch {
    fn new(seed: u64, questions: usize) -> Self {
        let progress = Progress::start("questions", Some(questions as u64));
        Self { seed, progress, done: 0, rounds: Vec::new() }
    }

    fn see(&mut self, event: Event) {
        match event {
            Event::Served { done, total } => {
                let step = done.saturating_sub(self.done) as u64;
                self.progress.advance(step, &json!({ "seed": self.seed }));
                self.done = if done == total { 0 } else { done };
            }
            Event::Examined { round, report, examination } => {
                let figures = json!({
                    "seed": self.seed, "round": round, "report": report, "gate": examination,
                });
                self.progress.advance(0, &figures);
                self.rounds.push(figures);
            }
            Event::Failed { round, reason } => {
                let figures = json!({ "seed": self.seed, "round": round, "failed": reason });
                self.progress.advance(0, &figures);
                self.rounds.push(figures);
            }
        }
    }
}

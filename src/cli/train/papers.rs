//! `regrade train --recipe dynamic_rag | rrpo | grpo`: a recipe over laid-out questions.

use super::{Args, CliError, Recipe, evaluate, folder, say, start, tested};
use crate::cli::progress::Progress;
use crate::config::{Config, DynamicRagConfig, GrpoConfig, RrpoConfig};
use crate::datasets;
use crate::policy::pointwise::PointwiseScorer;
use crate::policy::policy_folder;
use crate::policy::serving::{self, PolicyWeights};
use crate::recipes::fit::{Keep, Point, RecipeError};
use crate::recipes::instance::{Instance, lay_out, split_validation};
use crate::recipes::lists::{RecipeReport, Tools};
use crate::recipes::{dynamic_rag, grpo, rrpo};
use crate::wiring::{self, Lab};
use actors::types::{Document, PolicySnapshot, PolicyVersion, SelectionLimits};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 50;

/// Flags of these recipes alone.
#[derive(Debug, Default, clap::Args)]
pub struct Flags {
    /// Folder of a monoT5 checkpoint (`config.json`, `model.safetensors`, `tokenizer.json`) that is
    /// the expert of `dynamic_rag`; without it the cross-encoder of `policy.model` is.
    #[arg(long, value_name = "DIR")]
    pub expert: Option<PathBuf>,
}

/// Trains one policy a seed, and measures them where `--evaluate` asks for it.
pub(super) async fn run(args: Args, config: Config) -> Result<(), CliError> {
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
    let mut progress = Progress::start("questions", Some(questions.len() as u64));
    let mut told = 0;
    let all = lay_out(&*lab.index, &lab.reader, &questions, args.top_n as usize, &mut |done, _| {
        progress.advance((done - told) as u64, &json!({ "phase": "laid out" }));
        told = done;
    })
    .await
    .map_err(|e| CliError::failed("cannot lay out the questions", e))?;
    let all: Vec<Instance> = all.into_iter().filter(|i| !i.is_empty()).collect();
    let (train, validation) = split_validation(all);
    let experts = match args.recipe {
        Recipe::DynamicRag => experts(&args, &lab, &train)?,
        _ => Vec::new(),
    };
    let (mut runs, mut policies) = (Vec::new(), Vec::new());
    for &seed in &args.seeds {
        let work = Work { config: &config, lab: &lab, experts: &experts, seed };
        let (trained, report) = work.train(&args, &train, &validation, &mut progress)?;
        let folder = folder(&args, seed);
        policy_folder::write(&folder, &trained)
            .map_err(|e| CliError::failed("cannot keep the policy", e))?;
        let summary = json!({
            "seed": seed, "policy": folder, "version": trained.version, "digest": trained.digest,
            "recipe": trained.recipe, "questions": questions.len(), "rounds": [report],
        });
        say(&summary)?;
        runs.push(summary);
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        policies.push((name.to_string_lossy().into_owned(), trained));
    }
    let mut report = json!({
        "runs": runs, "expert": expert_name(&args), "reader": lab.reader.counters(),
    });
    if args.evaluate {
        let of = (args.top_n as usize, limits(args.recipe, &config), args.seeds[0]);
        let of = evaluate::compare(&lab, policies, &tested, of).await?;
        report["evaluation"] =
            serde_json::to_value(of).map_err(|e| CliError::failed("cannot write the report", e))?;
    }
    crate::cli::write_report(args.report.as_deref(), &report)
}

/// What the expert is called in the report; `None` where the recipe has none.
fn expert_name(args: &Args) -> Option<String> {
    let is_asked = args.recipe == Recipe::DynamicRag;
    let name = match &args.papers.expert {
        Some(folder) => format!("monoT5 in {}", folder.display()),
        None => "the cross-encoder of policy.model".to_owned(),
    };
    is_asked.then_some(name)
}

/// What masks a policy of this recipe when it serves.
fn limits(recipe: Recipe, config: &Config) -> SelectionLimits {
    match recipe {
        Recipe::DynamicRag => config.dynamic_rag.limits,
        Recipe::Rrpo => config.rrpo.limits,
        Recipe::Grpo => config.grpo.limits,
        Recipe::Online | Recipe::SmartRag => config.service.limits,
    }
}

/// The expert's score of every candidate, in [0, 1].
fn experts(args: &Args, lab: &Lab, train: &[Instance]) -> Result<Vec<Vec<f32>>, CliError> {
    let failed = |e| CliError::failed("the expert cannot score the training questions", e);
    let scorer: Arc<dyn PointwiseScorer> = match &args.papers.expert {
        Some(folder) => wiring::mono_t5(folder, &lab.device)
            .map_err(|e| CliError::failed("cannot load --expert", e))?,
        None => Arc::clone(&lab.reader) as Arc<dyn PointwiseScorer>,
    };
    let score = |instance: &Instance| {
        let documents: Vec<&Document> = instance.candidates.iter().map(|c| &c.document).collect();
        let scores = scorer.score(&instance.query.text, &documents).map_err(failed)?;
        Ok(scores.into_iter().map(|score| scorer.probability(score)).collect())
    };
    train.iter().map(score).collect()
}

/// One training.
struct Work<'a> {
    config: &'a Config,
    lab: &'a Lab,
    experts: &'a [Vec<f32>],
    seed: u64,
}

impl Work<'_> {
    fn train(
        &self,
        args: &Args,
        train: &[Instance],
        validation: &[Instance],
        progress: &mut Progress,
    ) -> Result<(PolicySnapshot, RecipeReport), CliError> {
        let first = start(args, self.lab, self.seed)?;
        let start = serving::from_snapshot(&first, &self.lab.device)
            .map_err(|e| CliError::failed("cannot start from these weights", e))?;
        if start.trunk.is_some() {
            return Err(CliError::Usage(
                "--init has a trunk of its own; this recipe trains heads on policy.model"
                    .to_owned(),
            ));
        }
        let keep = self.keep(args, &first, train);
        let seed = self.seed;
        let mut told = |phase: &str, point: Point| {
            let Point { step, loss, reward } = point;
            let figures = json!({
                "seed": seed, "phase": phase, "step": step, "loss": loss, "reward": reward,
            });
            progress.advance(0, &figures);
        };
        let tools = Tools {
            environment: &*self.lab.environment,
            device: &self.lab.device,
            keep: keep.as_ref(),
            progress: &mut told,
        };
        let (head, report) = self
            .recipe(args.recipe, &start, (train, validation), tools)
            .map_err(|e| CliError::failed("training stopped", e))?;
        let bytes = serving::to_bytes(&PolicyWeights { head, ..start })
            .map_err(|e| CliError::because(format!("cannot export the weights: {e}")))?;
        let version = PolicyVersion(first.version.0 + 1);
        let name = report.recipe.clone();
        Ok((PolicySnapshot::new(version, Some(first.version), name, bytes), report))
    }

    /// Checkpoints where a folder was given; everything that decides the run names it.
    fn keep(&self, args: &Args, first: &PolicySnapshot, train: &[Instance]) -> Option<Keep> {
        let folder = args.smart_rag.checkpoints.as_ref()?.join(self.seed.to_string());
        let Config { dynamic_rag, rrpo, grpo, judge, .. } = self.config;
        let mut identity = format!(
            "{:?} {} {} {dynamic_rag:?} {rrpo:?} {grpo:?} {judge:?}",
            args.recipe, self.seed, first.digest
        )
        .into_bytes();
        for instance in train {
            identity.extend(instance.query.id.as_str().bytes().chain([0]));
        }
        Some(Keep::new(folder, &identity, CHECKPOINT_EVERY))
    }

    fn recipe(
        &self,
        recipe: Recipe,
        start: &PolicyWeights,
        (train, validation): (&[Instance], &[Instance]),
        mut tools: Tools<'_>,
    ) -> Result<(crate::policy::head::Head, RecipeReport), RecipeError> {
        let instances: Vec<&Instance> = train.iter().collect();
        let validation: Vec<&Instance> = validation.iter().collect();
        let (seed, tools) = (self.seed, &mut tools);
        match recipe {
            Recipe::Rrpo => {
                let config = RrpoConfig { seed, ..self.config.rrpo.clone() };
                rrpo::train(&config, &start.head, &instances, &validation, tools)
            }
            Recipe::Grpo => {
                let config = GrpoConfig { seed, ..self.config.grpo.clone() };
                grpo::train(&config, &start.head, &instances, &validation, tools)
            }
            Recipe::DynamicRag | Recipe::Online | Recipe::SmartRag => {
                let config = DynamicRagConfig { seed, ..self.config.dynamic_rag.clone() };
                let lessons: Vec<dynamic_rag::Lesson<'_>> = train
                    .iter()
                    .zip(self.experts)
                    .map(|(instance, expert)| dynamic_rag::Lesson { instance, expert })
                    .collect();
                dynamic_rag::train(&config, &start.head, &lessons, &validation, tools)
            }
        }
    }
}

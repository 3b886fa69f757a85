//! `regrade evaluate`: policies and fixed-k baselines on the same questions, paired, with intervals.

use super::progress::Progress;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::datasets::{self, Question, Selection};
use crate::evaluate::{self, Contender, Report};
use crate::policy::fixed::FixedK;
use crate::policy::policy_folder;
use crate::policy::serving::{self, EncoderPolicy};
use crate::wiring::{self, Lab};
use actors::types::{PolicySnapshot, SelectionLimits};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Fixed cuts of the retrieval order that every policy is compared with.
const FIXED: [usize; 5] = [1, 3, 5, 10, 20];

/// Flags of `regrade evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policy folders to compare.
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    pub policy: Vec<PathBuf>,
    /// Question files with gold answers.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// Documents retrieved for each question.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub top_n: u32,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: PathBuf,
    /// Seed of the untrained policy.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Which questions.
    #[command(flatten)]
    pub selection: Selection,
    /// Configuration.
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// Evaluates the policies, prints the table and writes the report.
///
/// # Errors
/// Files, models or policies that cannot be used.
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = args.settings.load(Vec::new())?;
    let failed = |doing: &'static str| move |e| CliError::failed(doing, e);
    let questions =
        datasets::load_questions(&args.questions).map_err(failed("cannot load the questions"))?;
    let passages =
        datasets::load_passages(&args.passages).map_err(failed("cannot load the passages"))?;
    let questions = datasets::select(questions, &args.selection);
    if questions.is_empty() {
        return Err(CliError::Usage(
            "no question is left; widen --split, --half or --limit".to_owned(),
        ));
    }
    let top_n = args.top_n as usize;
    // One question at a time: its pairs are read by the first policy and known to the others.
    let lab = wiring::lab(&config, &passages, 64 * top_n)
        .await
        .map_err(|e| CliError::failed("cannot set up the evaluation", e))?;
    let policies = args
        .policy
        .iter()
        .map(|folder| {
            let snapshot = policy_folder::read(folder)
                .map_err(|e| CliError::failed("cannot read a policy folder", e))?;
            let name = folder.file_name().unwrap_or(folder.as_os_str());
            Ok((name.to_string_lossy().into_owned(), snapshot))
        })
        .collect::<Result<Vec<_>, CliError>>()?;
    let limits = config.service.limits;
    let report = compare(&lab, policies, &questions, (top_n, limits, args.seed)).await?;
    super::write_report(Some(&args.report), &report)
}

/// Compares policies with fixed cuts and the untrained policy, prints the table and returns the
/// report. The last argument is candidates a question, masks, and the seed of the untrained policy.
pub(super) async fn compare(
    lab: &Lab,
    policies: Vec<(String, PolicySnapshot)>,
    questions: &[Question],
    (top_n, limits, seed): (usize, SelectionLimits, u64),
) -> Result<Report, CliError> {
    let mut contenders = contenders(lab, policies, (top_n, seed))?;
    let (index, generator) = (&*lab.index, &*lab.generator);
    let setting = evaluate::Setting { index, generator, top_n, limits };
    let mut progress = Progress::start("questions", Some(questions.len() as u64));
    let scores = evaluate::score(&setting, &mut contenders, questions, &mut |done, total| {
        if done % 10 == 0 || done == total {
            progress.advance((done - (done - 1) / 10 * 10) as u64, &json!({}));
        }
    })
    .await
    .map_err(|e| CliError::failed("the evaluation stopped", e))?;
    progress.finish();
    let names: Vec<String> = contenders.iter().map(|c| c.name.clone()).collect();
    let report = Report::new(seed, &names, &scores, questions);
    say(evaluate::table(&report).trim_end())?;
    Ok(report)
}

fn contenders(
    lab: &Lab,
    policies: Vec<(String, PolicySnapshot)>,
    (top_n, seed): (usize, u64),
) -> Result<Vec<Contender>, CliError> {
    let fixed = FIXED
        .iter()
        .filter(|&&k| k <= top_n)
        .map(|&k| Contender { name: format!("retrieval_k{k}"), policy: Box::new(FixedK::new(k)) });
    let mut contenders: Vec<Contender> = fixed.collect();
    let untrained = serving::first_snapshot(lab.reader.width(), seed, &lab.device)
        .map_err(|e| CliError::because(format!("cannot make an untrained policy: {e}")))?;
    for (name, snapshot) in [("untrained".to_owned(), untrained)].into_iter().chain(policies) {
        let policy = EncoderPolicy::new(Arc::clone(&lab.reader), &snapshot, lab.device.clone())
            .map_err(|e| CliError::failed(format!("cannot serve policy `{name}`"), e))?;
        contenders.push(Contender { name, policy: Box::new(policy) });
    }
    Ok(contenders)
}

//! `regrade evaluate`: policies and baselines on the same questions, paired, with intervals.

mod contenders;

use super::progress::Progress;
use super::report_file;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::datasets::{self, Question, Selection};
use crate::evaluate::{self, Contender, Exam, Report, page};
use crate::policy::policy_folder;
use crate::wiring::{self, Lab};
use actors::types::{PolicySnapshot, SelectionLimits};
use serde_json::json;
use std::path::PathBuf;

/// Flags of `regrade evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policy folders to compare. Those that differ by a number at the end alone (`mine-0`,
    /// `mine-1`), or are given one name, are runs of one contender.
    #[arg(
        long, required_unless_present = "baselines", num_args = 1.., value_name = "[NAME=]DIR"
    )]
    pub policy: Vec<String>,
    /// Question files with gold answers.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// Baselines to compare with; without any the fixed cuts k = 1, 3, 5, 10, 20 that --top-n
    /// allows, and the untrained policy.
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "NAME,…")]
    pub baselines: Vec<String>,
    /// The contender that all others are compared with; without one the best fixed cut.
    #[arg(long, value_name = "NAME")]
    pub against: Option<String>,
    /// Documents retrieved for each question.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub top_n: u32,
    /// Graded judgements by question id, TREC or BEIR, for nDCG, hits and recall.
    #[arg(long, value_name = "FILE")]
    pub qrels: Option<PathBuf>,
    /// Grade from which a judged document counts as relevant for hits and recall.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub relevant_from: i32,
    /// Most questions that may fail before the evaluation stops; a failed one is scored for nobody
    /// and counted in the report.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub failures_max: usize,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: PathBuf,
    /// Where the report is written as a page with plots, one file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Reports of `regrade train` whose reward curves go on the page.
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "html")]
    pub training: Vec<PathBuf>,
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
    let curves = report_file::curves(&args.training)?;
    let questions =
        datasets::load_questions(&args.questions).map_err(failed("cannot load the questions"))?;
    let passages =
        datasets::load_passages(&args.passages).map_err(failed("cannot load the passages"))?;
    let qrels = match &args.qrels {
        Some(path) => {
            Some(datasets::load_qrels(path).map_err(failed("cannot load the judgements"))?)
        }
        None => None,
    };
    let questions = datasets::select(questions, &args.selection);
    if questions.is_empty() {
        return Err(CliError::Usage(
            "no question is left; widen --split, --half or --limit".to_owned(),
        ));
    }
    let policies = policies(&args.policy)?;
    let top_n = args.top_n as usize;
    // One question at a time: its pairs are read by the first policy and known to the others.
    let lab = wiring::lab(&config, &passages, 64 * top_n)
        .await
        .map_err(|e| CliError::failed("cannot set up the evaluation", e))?;
    let named = if args.baselines.is_empty() {
        contenders::default_baselines(top_n)
    } else {
        args.baselines.clone()
    };
    let of = (top_n, args.seed);
    let mut all: Vec<Contender> = named
        .iter()
        .map(|name| contenders::baseline(&lab, name, &questions, of))
        .collect::<Result<_, _>>()?;
    for (name, snapshot) in &policies {
        all.push(contenders::trained(&lab, name, snapshot)?);
    }
    is_there(&all, args.against.as_deref())?;
    let exam = Exam {
        qrels: qrels.as_ref(),
        relevant_from: args.relevant_from,
        failures_max: args.failures_max,
        ..Exam::of(&questions)
    };
    let asked = (&exam, (top_n, config.service.limits, args.seed));
    let mut report = measured(&lab, &mut all, asked, args.against.as_deref()).await?;
    report.extra.insert("top_n".to_owned(), json!(top_n));
    super::write_report(Some(&args.report), &report)?;
    report_file::write_page(args.html.as_deref(), &report, &page::Extras { curves })
}

/// A baseline that nobody is would come to light after hours of work.
fn is_there(all: &[Contender], against: Option<&str>) -> Result<(), CliError> {
    match against {
        Some(name) if all.iter().all(|contender| contender.name != name) => {
            let names: Vec<&str> = all.iter().map(|contender| contender.name.as_str()).collect();
            Err(CliError::Usage(format!(
                "--against `{name}` is not one of the contenders {}",
                names.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

/// The policies of some folders, each under the name of its contender.
fn policies(given: &[String]) -> Result<Vec<(String, PolicySnapshot)>, CliError> {
    let folders: Vec<_> = given.iter().map(|given| contenders::named_folder(given)).collect();
    let own = |folder: &std::path::Path| {
        folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned()
    };
    let names: Vec<String> = folders.iter().map(|(_, folder)| own(folder)).collect();
    let names = contenders::contenders_of(&names);
    let read = |((given, folder), name): (&(Option<&str>, &std::path::Path), String)| {
        let snapshot = policy_folder::read(folder)
            .map_err(|e| CliError::failed("cannot read a policy folder", e))?;
        Ok((given.map_or(name, str::to_owned), snapshot))
    };
    folders.iter().zip(names).map(read).collect()
}

/// Compares policies with fixed cuts and the untrained policy, prints the table and returns the
/// report. Policies of one name, or of names that differ by a number at the end alone, are runs of
/// one contender. The last argument is candidates a question, masks, and the seed of the untrained
/// policy.
pub(super) async fn compare(
    lab: &Lab,
    policies: Vec<(String, PolicySnapshot)>,
    questions: &[Question],
    (top_n, limits, seed): (usize, SelectionLimits, u64),
) -> Result<Report, CliError> {
    let names = contenders::default_baselines(top_n);
    let baseline = |name: &String| contenders::baseline(lab, name, questions, (top_n, seed));
    let mut all: Vec<Contender> = names.iter().map(baseline).collect::<Result<_, _>>()?;
    let (names, snapshots): (Vec<String>, Vec<PolicySnapshot>) = policies.into_iter().unzip();
    for (name, snapshot) in contenders::contenders_of(&names).iter().zip(&snapshots) {
        all.push(contenders::trained(lab, name, snapshot)?);
    }
    measured(lab, &mut all, (&Exam::of(questions), (top_n, limits, seed)), None).await
}

/// Asks, shows progress, prints the table.
pub(super) async fn measured(
    lab: &Lab,
    contenders: &mut [Contender],
    (exam, (top_n, limits, seed)): (&Exam<'_>, (usize, SelectionLimits, u64)),
    against: Option<&str>,
) -> Result<Report, CliError> {
    let (index, generator) = (&*lab.index, &*lab.generator);
    let setting = evaluate::Setting { index, generator, top_n, limits };
    let mut progress = Progress::start("questions", Some(exam.questions.len() as u64));
    let scores = evaluate::score(&setting, contenders, exam, &mut |done, total| {
        if done % 10 == 0 || done == total {
            progress.advance((done - (done - 1) / 10 * 10) as u64, &json!({}));
        }
    })
    .await
    .map_err(|e| CliError::failed("the evaluation stopped", e))?;
    progress.finish();
    let report = Report::new(seed, scores, against)
        .map_err(|e| CliError::failed("cannot make the report", e))?;
    say(evaluate::table(&report).trim_end())?;
    Ok(report)
}

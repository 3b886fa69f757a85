//! `regrade evaluate-retrieval`: how high the passages stand that hold the answer.

use super::progress::Progress;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::config::{Config, IndexKind};
use crate::datasets::{self, Qrels, Selection};
use crate::evaluate::retrieval::{self, RetrievalReport, Retriever, retrieval_table};
use crate::wiring;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Passages written in one call.
const BATCH: usize = 500;

/// Flags of `regrade evaluate-retrieval`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Question files, or folders in the layout of BEIR.
    #[arg(long, required_unless_present = "run", num_args = 1.., value_name = "FILE")]
    questions: Vec<PathBuf>,
    /// Passage files, indexed in memory; without any, the index of the configuration is asked.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    passages: Vec<PathBuf>,
    /// Graded judgements by question id, TREC or BEIR; without any, a question's `positives`.
    #[arg(long, value_name = "FILE")]
    qrels: Option<PathBuf>,
    /// TREC runs of other systems, scored by `--qrels`; nothing is searched then.
    #[arg(
        long, num_args = 1.., value_name = "FILE", requires = "qrels",
        conflicts_with_all = ["questions", "passages"]
    )]
    run: Vec<PathBuf>,
    /// Which of bm25, dense, hybrid; without any, all that the configuration has.
    #[arg(long, num_args = 1.., value_name = "NAME", conflicts_with = "run")]
    retriever: Vec<String>,
    /// Passages asked for.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(20..=1_000))]
    depth: u32,
    /// Grade from which a document counts as relevant for hits, recall and reciprocal rank.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    relevant_from: i32,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Which questions.
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    settings: ConfigArgs,
}

/// Evaluates, prints the table and writes the report.
///
/// # Errors
/// Files that cannot be read, an index or embedder that cannot be used, a search that fails.
pub async fn run(args: Args) -> Result<(), CliError> {
    let qrels = match &args.qrels {
        None => None,
        Some(path) => Some(
            datasets::load_qrels(path)
                .map_err(|e| CliError::failed("cannot load the judgements", e))?,
        ),
    };
    let report = match &qrels {
        Some(qrels) if !args.run.is_empty() => runs(&args, qrels)?,
        _ => searches(&args, qrels.as_ref()).await?,
    };
    say(retrieval_table(&report).trim_end())?;
    super::write_report(args.report.as_deref(), &report)
}

fn runs(args: &Args, qrels: &Qrels) -> Result<RetrievalReport, CliError> {
    let mut report: Option<RetrievalReport> = None;
    for path in &args.run {
        let run = datasets::load_run(path).map_err(|e| CliError::failed("cannot load a run", e))?;
        let scored = retrieval::score_run(&name_of(path), &run, qrels, args.relevant_from);
        match &mut report {
            None => report = Some(scored),
            Some(report) => report.retrievers.extend(scored.retrievers),
        }
    }
    report.ok_or_else(|| CliError::Usage("--run names no file".to_owned()))
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

async fn searches(args: &Args, qrels: Option<&Qrels>) -> Result<RetrievalReport, CliError> {
    let mut config = args.settings.load(Vec::new())?;
    let questions = datasets::load_questions(&args.questions)
        .map_err(|e| CliError::failed("cannot load the questions", e))?;
    let questions = datasets::select(questions, &args.selection);
    let grades = retrieval::grades_of(&questions, qrels);
    let is_known = |grades: &&retrieval::Grades| grades.values().any(|g| *g >= args.relevant_from);
    let asked = grades.iter().filter(is_known).count() as u64;
    if asked == 0 {
        return Err(CliError::Usage(
            "no question has a passage that is known to be relevant; give files with `positives`, \
             or --qrels with the ids of these questions"
                .to_owned(),
        ));
    }
    if !args.passages.is_empty() {
        config.index.kind = IndexKind::Memory;
    }
    let retrievers = retrievers(args, &config).await?;
    let mut progress = Progress::start("questions", Some(asked));
    let mut unreported = 0;
    let depth = (args.depth as usize, args.relevant_from);
    let mut advance = |count: usize| {
        unreported += count as u64;
        if unreported >= asked.div_ceil(100) {
            progress.advance(std::mem::take(&mut unreported), &json!({}));
        }
    };
    let report = retrieval::retrieve(&retrievers, (&questions, &grades), depth, &mut advance)
        .await
        .map_err(|e| CliError::failed("the evaluation stopped", e))?;
    progress.advance(unreported, &json!({}));
    progress.finish();
    Ok(report)
}

/// The ways to search, over the passages given or the index of the configuration.
async fn retrievers(args: &Args, config: &Config) -> Result<Vec<Retriever>, CliError> {
    let mut retrievers = wiring::retrievers(config)
        .await
        .map_err(|e| CliError::failed("cannot open the index", e))?;
    let names: Vec<String> = retrievers.iter().map(|r| r.name.clone()).collect();
    if let Some(name) = args.retriever.iter().find(|name| !names.contains(name)) {
        return Err(CliError::Usage(format!(
            "--retriever `{name}` is not one of {}; dense and hybrid need `[index.embedder]`",
            names.join(", ")
        )));
    }
    if !args.passages.is_empty() {
        let passages = datasets::load_passages(&args.passages)
            .map_err(|e| CliError::failed("cannot load the passages", e))?;
        let mut progress = Progress::start("passages", Some(passages.len() as u64));
        for batch in passages.chunks(BATCH) {
            // Every way searches the same index.
            if let Some(first) = retrievers.first() {
                first
                    .index
                    .upsert(batch)
                    .await
                    .map_err(|e| CliError::failed("cannot index the passages", e))?;
            }
            progress.advance(batch.len() as u64, &json!({}));
        }
        progress.finish();
    }
    if !args.retriever.is_empty() {
        retrievers.retain(|retriever| args.retriever.contains(&retriever.name));
    }
    Ok(retrievers)
}

//! `regrade headroom`: how much a policy could gain on a data set, before anything is trained.

use super::bench_papers::Terminal;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::bench::headroom;
use crate::datasets::{self, Selection};
use crate::wiring;
use std::path::PathBuf;

/// Flags of `regrade headroom`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with `NAME.questions.jsonl.gz` and the pool `GROUP.passages.jsonl.gz` that they name.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Data sets.
    #[arg(long, required = true, value_delimiter = ',', value_name = "NAME,…")]
    pub dataset: Vec<String>,
    /// Documents retrieved for each question.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub top_n: u32,
    /// Folder that keeps what was laid out, as arrays: states, F1, margin, tokens and relevance of
    /// each candidate.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Seed of the sets drawn for the check and of the intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Which questions.
    #[command(flatten)]
    pub selection: Selection,
    /// Configuration; `generator.reader.store` names a file in which readings are kept, so that a
    /// second run reads nothing again.
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// Reads what is not read yet and prints the figures of each data set.
///
/// # Errors
/// Files, models or settings that cannot be used.
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = args.settings.load(Vec::new())?;
    let failed = |e| CliError::failed("cannot measure the headroom", e);
    let top_n = args.top_n as usize;
    let lab = wiring::lab(&config, &[], wiring::PAIRS_KEPT)
        .await
        .map_err(|e| CliError::failed("cannot set up the reader", e))?;
    let mut all = Vec::with_capacity(args.dataset.len());
    for dataset in &args.dataset {
        let (questions, index) =
            headroom::load(&args.data, dataset, &config).await.map_err(failed)?;
        let questions = datasets::select(questions, &args.selection);
        let mut terminal = Terminal::default();
        let laid = headroom::lay(dataset, &questions, (&*index, &lab), top_n, &mut terminal)
            .await
            .map_err(failed)?;
        if let Some(folder) = &args.keep {
            headroom::keep(folder, dataset, &laid).map_err(failed)?;
        }
        let found =
            headroom::measure(dataset, &laid, &*lab.generator, args.seed).await.map_err(failed)?;
        say(headroom::table(std::slice::from_ref(&found)).trim_end())?;
        all.push(found);
    }
    super::write_report(args.report.as_deref(), &all)
}

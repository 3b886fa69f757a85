//! `regrade bench-drift`: continual learning on two streams that drift, and the detectors over them.

use super::bench_papers::Terminal;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::bench::drift::{self, Folder, Plan};
use crate::wiring;
use std::path::PathBuf;

/// Flags of `regrade bench-drift`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with the question and passage files of squad-du-test, squadshifts-newwiki and
    /// squadshifts-amazon, and `raw/realtimeqa`.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Folder of the run; started again with the same one it goes on where it was.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Questions a block. The warm-up takes twice as many, forgetting is measured on as many.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(16..=10_000))]
    pub limit: u32,
    /// Blocks of RealTimeQA.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub blocks: u32,
    /// Candidates a question.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub top_n: u32,
    /// Blocks that an update learns from, the newest.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub window: u32,
    /// Questions of each domain that the detectors watch.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub watched: u32,
    /// Seeds of training.
    #[arg(long, value_delimiter = ',', default_value = "0,1", value_name = "SEED,…")]
    pub seeds: Vec<u64>,
    /// Configuration.
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// Plays whatever is not done, prints the table and writes the report.
///
/// # Errors
/// Files, models or settings that cannot be used, or a training that stopped.
pub async fn run(args: Args) -> Result<(), CliError> {
    let plan = Plan {
        limit: args.limit as usize,
        blocks: args.blocks as usize,
        top_n: args.top_n as usize,
        window: args.window as usize,
        watched: args.watched as usize,
        seeds: args.seeds,
    };
    let failed = |e| CliError::failed("the figure stopped; run it again to go on", e);
    let mut config = args.settings.load(Vec::new())?;
    let folder = Folder::take(&args.out, &plan).map_err(failed)?;
    config.generator.reader.store.get_or_insert_with(|| Folder::readings(&args.out));
    let lab = wiring::lab(&config, &[], wiring::PAIRS_KEPT)
        .await
        .map_err(|e| CliError::failed("cannot set up the figure", e))?;
    let mut terminal = Terminal::default();
    let report = drift::run(&folder, (&args.data, &plan), (&lab, &config), &mut terminal)
        .await
        .map_err(failed)?;
    say(drift::table(&report).trim_end())?;
    super::write_report(Some(&args.out.join("report.json")), &report)
}

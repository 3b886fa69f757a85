//! `regrade bench-feedback`: what a service learns from thumbs, on real questions.

use super::bench_papers::Terminal;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::bench::feedback::{self, Arm, DATASETS, Folder, Plan};
use crate::config::Config;
use crate::evaluate::users::Temper;
use crate::wiring;
use actors::types::{Exploration, SelectionLimits};
use std::path::PathBuf;

/// Flags of `regrade bench-feedback`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with the question files of the data sets and the passage files of their pools.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Folder of the run; started again with the same one it goes on where it was.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Data sets.
    #[arg(
        long, value_delimiter = ',', value_name = "NAME,…",
        default_values_t = DATASETS.map(|(name, _)| name.to_owned())
    )]
    pub datasets: Vec<String>,
    /// Most questions of each part (train, test) of each data set.
    #[arg(long, default_value_t = 600, value_name = "N")]
    pub limit: usize,
    /// Documents retrieved for each question.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub top_n: u32,
    /// Decisions after which the serving policy is measured.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,…",
        default_value = "1000,3000,10000,30000"
    )]
    pub decisions: Vec<usize>,
    /// Factor by which decisions grow from one update to the next.
    #[arg(long, default_value_t = 1.5, value_name = "FACTOR")]
    pub growth: f64,
    /// Share of the answers that users say something about.
    #[arg(long, default_value_t = 0.3, value_name = "SHARE")]
    pub share: f64,
    /// Chance that what they say is turned round.
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub flips: f64,
    /// Most decisions between an answer and what is said of it.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub delay: usize,
    /// Requests in flight at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub concurrency: u32,
    /// Who learns: `frozen`, `oracle`, or an objective of `learner.objective`.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", default_value = "frozen,dr,oracle")]
    pub arms: Vec<String>,
    /// Times that `oracle` is trained on the right answers to all training questions.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// What users are like.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "honest")]
    pub users: Vec<Temper>,
    /// Seeds.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2", value_name = "SEED,…")]
    pub seeds: Vec<u64>,
    /// Configuration.
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// Plays whatever is not done, prints the table and writes the report.
///
/// # Errors
/// Files, models or settings that cannot be used, or a course that stopped.
pub async fn run(args: Args) -> Result<(), CliError> {
    let plan = plan(&args)?;
    let failed = |e| CliError::failed("the figure stopped; run it again to go on", e);
    let mut config = args.settings.load_over(&defaults(), Vec::new())?;
    let folder = Folder::take(&args.out, &plan).map_err(failed)?;
    config.generator.reader.store.get_or_insert_with(|| Folder::readings(&args.out));
    let lab = wiring::lab(&config, &[], wiring::PAIRS_KEPT)
        .await
        .map_err(|e| CliError::failed("cannot set up the figure", e))?;
    let mut terminal = Terminal::default();
    let material =
        feedback::load(&args.data, &plan, (&lab, &config), &mut terminal).await.map_err(failed)?;
    let report = feedback::run(&folder, &plan, (&lab, &config), &material, &mut terminal)
        .await
        .map_err(failed)?;
    say(feedback::table(&report).trim_end())?;
    super::write_report(Some(&args.out.join("report.json")), &report)
}

fn plan(args: &Args) -> Result<Plan, CliError> {
    let usage = |e: String| Err(CliError::Usage(e));
    if args.decisions.is_empty() || args.decisions.contains(&0) {
        return usage("--decisions needs whole numbers above 0, as in 1000,3000".to_owned());
    }
    if !(args.growth > 1.0 && args.growth.is_finite()) {
        return usage(format!("--growth {} must be above 1", args.growth));
    }
    for (flag, share) in [("--share", args.share), ("--flips", args.flips)] {
        if !(0.0..=1.0).contains(&share) {
            return usage(format!("{flag} {share} must lie in [0, 1]"));
        }
    }
    for name in &args.arms {
        Arm::named(name).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    let mut decisions = args.decisions.clone();
    decisions.sort_unstable();
    decisions.dedup();
    Ok(Plan {
        datasets: args.datasets.clone(),
        limit: args.limit,
        top_n: args.top_n as usize,
        decisions,
        growth: args.growth,
        share: args.share,
        flips: args.flips,
        delay: args.delay,
        concurrency: args.concurrency as usize,
        rounds: args.rounds as usize,
        arms: args.arms.clone(),
        users: args.users.clone(),
        seeds: args.seeds.clone(),
    })
}

/// What differs from the built-in defaults unless the configuration says otherwise: enough memory
/// for what the longest course says, and a window that silence is over soon.
fn defaults() -> Config {
    let mut config = Config::default();
    config.service.limits = SelectionLimits { k_min: 1, k_max: 5, token_budget: 2_048 };
    config.service.exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.05 };
    config.service.judge.join_window_ms = 15_000;
    config.service.judge.pending_max = 50_000;
    config.service.replay_buffer.capacity = 50_000;
    config.service.replay_buffer.waiting_max = 50_000;
    config.service.learner.train_max = 12_000;
    config.service.learner.holdout_max = 3_000;
    config
}

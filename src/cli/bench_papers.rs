//! `regrade bench-papers`: the papers' table over a folder of question and passage files.

use super::progress::Progress;
use super::settings::ConfigArgs;
use super::{CliError, report_file, say};
use crate::bench::{self, Entrant, Folder, Plan, Watch};
use crate::evaluate::{page, table};
use crate::recipes::fit::Point;
use crate::wiring;
use serde_json::json;
use std::path::PathBuf;

/// Questions of each part of each benchmark in the quick form.
const QUICK_LIMIT: usize = 24;

/// Flags of `regrade bench-papers`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with `NAME.questions.jsonl.gz` and `POOL.passages.jsonl.gz`: nq, nq-gold, triviaqa,
    /// hotpotqa, hotpotqa-open, 2wikimqa-open, fm2, eli5-lfqa and asqa-qafeedback; wiki, multihop,
    /// fever and long.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Folder of the run; started again with the same one it goes on where it was.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seeds of every recipe.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2", value_name = "SEED,…")]
    pub seeds: Vec<u64>,
    /// Most questions of each part (train, test) of each benchmark.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Documents retrieved for each question.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub top_n: u32,
    /// Who enters; without any every baseline and every recipe but those under noise.
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "NAME,…")]
    pub entrants: Vec<String>,
    /// Few questions, one seed and short training: under ten minutes on two cores. Shows that
    /// everything runs; its figures mean nothing.
    #[arg(long, conflicts_with_all = ["limit", "seeds"])]
    pub quick: bool,
    /// Configuration.
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// Trains and measures whoever is not done, prints the table and writes the reports.
///
/// # Errors
/// Files, models or settings that cannot be used, or a training that stopped.
pub async fn run(args: Args) -> Result<(), CliError> {
    let entrants = if args.entrants.is_empty() {
        Entrant::defaults().into_iter().map(str::to_owned).collect()
    } else {
        args.entrants
    };
    let named: Vec<Entrant> = entrants
        .iter()
        .map(|name| Entrant::named(name))
        .collect::<Result<_, _>>()
        .map_err(|error| CliError::Usage(error.to_string()))?;
    let plan = Plan {
        limit: if args.quick { Some(QUICK_LIMIT) } else { args.limit },
        top_n: args.top_n as usize,
        seeds: if args.quick { vec![0] } else { args.seeds },
        entrants,
        quick: args.quick,
    };
    let failed = |e| CliError::failed("the table stopped; run it again to go on", e);
    let mut config = args.settings.load(Vec::new())?;
    let folder = Folder::take(&args.out, &plan).map_err(failed)?;
    config.generator.reader.store.get_or_insert_with(|| Folder::readings(&args.out));
    let lab = wiring::lab(&config, &[], wiring::PAIRS_KEPT)
        .await
        .map_err(|e| CliError::failed("cannot set up the table", e))?;
    let mut terminal = Terminal::default();
    let loaded =
        bench::load(&args.data, &plan, (&lab, &config), &mut terminal).await.map_err(failed)?;
    let report = bench::run(&folder, &plan, (&lab, &config), &loaded, &mut terminal)
        .await
        .map_err(failed)?;
    say(table(&report).trim_end())?;
    super::write_report(Some(&args.out.join("report.json")), &report)?;
    let curves = report_file::curves(&folder.trainings(&named, &plan.seeds))?;
    let page = args.out.join("report.html");
    report_file::write_page(Some(&page), &report, &page::Extras { curves })
}

/// Progress on stderr, with an estimate of the time left in each part.
#[derive(Default)]
pub(super) struct Terminal {
    part: Option<(String, Progress, usize)>,
}

impl Watch for Terminal {
    fn step(&mut self, what: &str, (done, total): (usize, usize), name: &str) {
        let part = format!("{what} {}", if what == "entrants" { "" } else { name });
        // The training part of a data set is read, then the test part under the same name.
        let is_over = |(known, _, at): &(String, Progress, usize)| *known != part || done < *at;
        if self.part.as_ref().is_none_or(is_over) {
            let progress = Progress::start(what, Some(total as u64));
            if let Some((_, old, _)) = self.part.replace((part, progress, 0)) {
                old.finish();
            }
        }
        if let Some((_, progress, at)) = &mut self.part {
            let step = done.saturating_sub(*at) as u64;
            *at = done;
            progress.advance(step, &json!({ "at": name }));
        }
    }

    fn point(&mut self, entrant: &str, phase: &str, point: Point) {
        if let Some((_, progress, _)) = &mut self.part {
            let (step, loss, reward) = (point.step, point.loss, point.reward);
            let figures = json!({
                "at": entrant, "phase": phase, "step": step, "loss": loss, "reward": reward,
            });
            progress.advance(0, &figures);
        }
    }
}

//! `regrade compare`: contenders of several reports over the same questions, against one baseline.

use super::report_file::{self, name_of};
use super::{CliError, say};
use crate::evaluate::{self, Report, ScoreTable, page, scores};
use serde_json::json;
use std::path::PathBuf;

/// Flags of `regrade compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Reports of `regrade evaluate`, `regrade train --evaluate`, `regrade demo` or this command.
    #[arg(required = true, num_args = 1.., value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// The contender that all others are compared with; without one the best fixed cut.
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Compare over the questions that all reports have, where they differ.
    #[arg(long)]
    pub intersect: bool,
    /// Where the joined report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where it is written as a page with plots, one file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Further reports of `regrade train` whose reward curves go on the page.
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "html")]
    pub training: Vec<PathBuf>,
}

/// Joins the reports, prints the table and writes what was asked for.
///
/// # Errors
/// A file that is no report or holds no scores, reports about other questions, a baseline that is
/// in none.
pub async fn run(args: Args) -> Result<(), CliError> {
    let mut tables: Vec<(String, ScoreTable)> = Vec::new();
    let mut seed = 0;
    for path in &args.reports {
        let report = report_file::read(path)?;
        seed = report.seed;
        tables.push((name_of(path), report.scores));
    }
    let all: Vec<PathBuf> = args.reports.iter().chain(&args.training).cloned().collect();
    let curves = report_file::curves(&all)?;
    let joined = scores::join(&tables, args.intersect)
        .map_err(|e| CliError::failed("cannot compare these reports", e))?;
    let baseline = args.baseline.as_deref();
    if let Some(name) = baseline.filter(|name| !joined.names().contains(name)) {
        return Err(CliError::Usage(format!(
            "--baseline `{name}` is in none of the reports; there are {}",
            joined.names().join(", ")
        )));
    }
    let dropped = tables.iter().map(|(_, t)| t.questions.len()).max().unwrap_or(0);
    let dropped = dropped.saturating_sub(joined.questions.len());
    let mut report = Report::new(seed, joined, baseline)
        .map_err(|e| CliError::failed("cannot make the report", e))?;
    let names: Vec<&String> = tables.iter().map(|(name, _)| name).collect();
    report.extra.insert("reports".to_owned(), json!(names));
    report.extra.insert("questions_not_common".to_owned(), json!(dropped));
    say(evaluate::table(&report).trim_end())?;
    super::write_report(args.report.as_deref(), &report)?;
    report_file::write_page(args.html.as_deref(), &report, &page::Extras { curves })
}

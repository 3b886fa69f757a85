//! The command line: one file a command, exit codes, and how errors are told.
//!
//! Knows the commands and nothing of what they do. Exit codes: 0 done, 1 failure, 64 usage,
//! 78 configuration.

pub mod audit;
pub mod bench_drift;
pub mod bench_feedback;
pub mod bench_papers;
pub mod check;
pub mod compare;
pub mod demo;
mod error;
pub mod evaluate;
pub mod evaluate_retrieval;
pub mod export;
pub mod headroom;
pub mod import;
pub mod index;
pub mod ope;
pub mod policy;
pub mod progress;
pub mod replay;
mod report_file;
pub mod serve;
mod settings;
pub mod train;
pub mod train_generator;
pub mod train_reader;

pub use error::CliError;

use clap::{Parser, Subcommand};

/// A RAG reranker that keeps learning from production traffic.
#[derive(Debug, Parser)]
#[command(name = "regrade", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Learn from bundled questions in a service of its own; print before and after.
    Demo(demo::Args),
    /// Answer, judge and learn.
    Serve(serve::Args),
    /// Bring the index to a corpus: send what is new or changed, delete what is gone.
    Index(index::Args),
    /// Push recorded questions through a service, in time order.
    Replay(replay::Args),
    /// Train a policy by a recipe.
    Train(train::Args),
    /// Train the answer head of the generator, by SFT and then by preferences.
    TrainGenerator(train_generator::Args),
    /// Train the extractive reader.
    TrainReader(train_reader::Args),
    /// Compare policies on questions, paired, with intervals.
    Evaluate(evaluate::Args),
    /// Train and measure every recipe and baseline on the benchmarks of the papers.
    BenchPapers(bench_papers::Args),
    /// Learn from what simulated users say of answers, in a whole service, and measure what it is worth.
    BenchFeedback(bench_feedback::Args),
    /// Say how much a policy could gain on a data set, before anything is trained.
    Headroom(headroom::Args),
    /// Compare continual learning with frozen weights and nightly training on streams that drift.
    BenchDrift(bench_drift::Args),
    /// Join reports over the same questions and compare their contenders with one baseline.
    Compare(compare::Args),
    /// Score retrieval: hits, recall, nDCG and MRR of terms, vectors and their fusion.
    EvaluateRetrieval(evaluate_retrieval::Args),
    /// Write training data for other trainers, or inputs to compare weights by.
    Export(export::Args),
    /// Take in weights that were trained elsewhere, checked against what they compute there.
    Import(import::Args),
    /// List, show, export and move policy versions.
    Policy(policy::Args),
    /// Check configuration files.
    Check(check::Args),
    /// Say what other policies would have earned on logged traffic.
    Ope(ope::Args),
    /// Balance a log: what came in, what became of it, what is missing.
    Audit(audit::Args),
}

/// Runs one command to its end.
///
/// # Errors
/// What stopped it; [`CliError::exit_code`] says how the process ends.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Index(args) => index::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Train(args) => train::run(args).await,
        Command::TrainGenerator(args) => train_generator::run(args).await,
        Command::TrainReader(args) => train_reader::run(args).await,
        Command::Evaluate(args) => evaluate::run(args).await,
        Command::BenchPapers(args) => bench_papers::run(args).await,
        Command::BenchFeedback(args) => bench_feedback::run(args).await,
        Command::Headroom(args) => headroom::run(args).await,
        Command::BenchDrift(args) => bench_drift::run(args).await,
        Command::Compare(args) => compare::run(args).await,
        Command::EvaluateRetrieval(args) => evaluate_retrieval::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Policy(args) => policy::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Ope(args) => ope::run(args).await,
        Command::Audit(args) => audit::run(args).await,
    }
}

/// Writes a report as one JSON document; nothing where no file was asked for.
fn write_report(
    path: Option<&std::path::Path>,
    report: &impl serde::Serialize,
) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    let failed = |e: std::io::Error| {
        CliError::failed(format!("cannot write the report to {}", path.display()), e)
    };
    let text = report_file::to_json(report).map_err(|e| failed(e.into()))?;
    std::fs::write(path, text).map_err(failed)
}

/// Writes one line of a command's result to stdout; a closed pipe is an ordinary failure.
fn say(line: impl std::fmt::Display) -> Result<(), CliError> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").map_err(|e| CliError::failed("cannot write to stdout", e))
}

//! `regrade train-reader`: trains the extractive reader, or stores one in another precision.
//!
//! Owns its flags and the way a run is watched and stopped; the loop is `recipes::train_reader`.

use super::progress::Progress;
use super::{CliError, say};
use crate::datasets::{self, Question, Selection};
use crate::policy::model_folder::Precision;
use crate::recipes::train_reader::{
    self, Report, TrainReaderArgs, TrainReaderSettings, TrainingQuestion,
};
use actors::compute::{Compute, ComputeMode};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flags of `regrade train-reader`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder to start from.
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// Question files with gold answers and positive passages; not needed with `--steps 0`.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files; not needed with `--steps 0`.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// Where the trained reader goes. A checkpoint of the same run found there is gone on from.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Optimiser steps; 0 only stores the base in `--precision`.
    #[arg(long, default_value_t = 1_000)]
    pub steps: u64,
    /// Questions a step; each gives one positive and one negative pair.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub batch: u32,
    /// Largest step size.
    #[arg(long, default_value_t = 2e-4, value_parser = parse_rate)]
    pub rate: f32,
    /// Steps between checkpoints; 0 writes one only when stopped.
    #[arg(long, default_value_t = 200, value_name = "STEPS")]
    pub checkpoint_every: u64,
    /// How the weights are stored.
    #[arg(long, value_enum, default_value = "f16")]
    pub precision: Stored,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Which questions.
    #[command(flatten)]
    pub selection: Selection,
}

/// The precisions of a model folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Stored {
    /// 4 bytes a weight.
    F32,
    /// 2 bytes a weight.
    F16,
    /// 1 byte a weight and one scale a row.
    Int8Rows,
}

impl From<Stored> for Precision {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => Precision::F32,
            Stored::F16 => Precision::F16,
            Stored::Int8Rows => Precision::Int8Rows,
        }
    }
}

fn parse_rate(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(rate) if rate > 0.0 && rate < 1.0 => Ok(rate),
        _ => Err("expected a number above 0 and below 1, as in `2e-4`".to_owned()),
    }
}

/// Trains the reader; Ctrl-C writes a checkpoint after the step under way and stops.
///
/// # Errors
/// Files or a model that cannot be used, a training that failed, or one that was stopped.
pub async fn run(args: Args) -> Result<(), CliError> {
    let work = work(&args)?;
    let steps = work.settings.steps;
    let is_stopped = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_stopped);
    let place = Compute::start("train-reader", ComputeMode::Thread, 1, ())
        .map_err(|e| CliError::failed("cannot start the training thread", e))?;
    let training = place.run(move |_: &mut ()| train(&work, &asked));
    tokio::pin!(training);
    let trained = tokio::select! {
        trained = &mut training => trained,
        () = interrupted() => {
            is_stopped.store(true, Ordering::Relaxed);
            training.await
        }
    };
    let report = trained
        .map_err(|e| CliError::failed("the training thread is gone", e))?
        .map_err(|e| CliError::failed("training stopped", e))?;
    say(json!({ "out": args.out, "report": report }))?;
    super::write_report(args.report.as_deref(), &report)?;
    if report.finished {
        return Ok(());
    }
    Err(CliError::because(format!(
        "stopped after step {} of {steps}; the checkpoint is in {}: run the same command again to \
         go on",
        report.steps,
        args.out.display()
    )))
}

/// Ends at the first Ctrl-C; never where the signal cannot be listened to, which then kills the
/// process as it does by default.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn work(args: &Args) -> Result<TrainReaderArgs, CliError> {
    let mut settings = TrainReaderSettings {
        seed: args.seed,
        steps: args.steps,
        batch_questions: args.batch as usize,
        checkpoint_every: args.checkpoint_every,
        precision: args.precision.into(),
        ..TrainReaderSettings::default()
    };
    settings.optimizer.rate = args.rate;
    let (mut questions, mut passages) = (Vec::new(), Vec::new());
    if args.steps > 0 {
        if args.questions.is_empty() || args.passages.is_empty() {
            return Err(CliError::Usage(
                "training needs --questions and --passages; only --steps 0 does without".to_owned(),
            ));
        }
        let loaded = datasets::load_questions(&args.questions)
            .map_err(|e| CliError::failed("cannot load the questions", e))?;
        questions = datasets::select(loaded, &args.selection);
        passages = datasets::load_passages(&args.passages)
            .map_err(|e| CliError::failed("cannot load the passages", e))?;
    }
    Ok(TrainReaderArgs {
        base: args.base.clone(),
        out: args.out.clone(),
        questions: questions.into_iter().map(to_train).collect(),
        passages,
        settings,
    })
}

fn to_train(question: Question) -> TrainingQuestion {
    TrainingQuestion {
        id: question.id,
        question: question.question,
        answers: question.answers,
        positives: question.positives,
        candidates: question.candidates,
    }
}

/// Blocking; shows each step and looks after it whether to go on.
fn train(
    work: &TrainReaderArgs,
    is_stopped: &AtomicBool,
) -> Result<Report, train_reader::TrainReaderError> {
    let mut progress = Progress::start("steps", Some(work.settings.steps));
    let mut last = 0;
    let report = train_reader::train_reader(work, &mut |step| {
        // A resumed run starts at its checkpoint: the first step counts for all before it.
        progress.advance(
            step.step - last,
            &json!({
                "loss": step.loss,
                "rate_now": step.rate,
                "gradient_norm": step.gradient_norm,
                "pairs_per_second": step.pairs_per_second,
            }),
        );
        last = step.step;
        if is_stopped.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    progress.finish();
    report
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::policy::fixture::write_tiny_model;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &[&str]) -> Args {
        let all = ["train-reader"].iter().chain(flags).copied();
        Command::try_parse_from(all).unwrap().args
    }

    #[tokio::test]
    async fn zero_steps_store_the_base_in_another_precision_without_any_question() {
        let folder = tempfile::tempdir().unwrap();
        let (base, out) = (folder.path().join("base"), folder.path().join("out"));
        write_tiny_model(&base, 3).unwrap();
        let (base, out) = (base.to_str().unwrap(), out.to_str().unwrap());
        let flags = ["--base", base, "--steps", "0", "--precision", "int8_rows", "--out", out];
        run(parse(&flags)).await.unwrap();
        let size = |dir: &str| {
            std::fs::metadata(std::path::Path::new(dir).join("model.safetensors")).unwrap().len()
        };
        assert!(size(out) < size(base));
    }

    #[tokio::test]
    async fn training_without_questions_is_a_usage_error() {
        let error = run(parse(&["--base", "b", "--out", "o"])).await.unwrap_err();
        assert_eq!(error.exit_code(), 64);
    }

    #[tokio::test]
    async fn a_run_trains_on_question_files_and_a_stop_leaves_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        write_tiny_model(&folder.path().join("base"), 3).unwrap();
        std::fs::write(
            at("q.jsonl"),
            "{\"id\":\"1\",\"question\":\"who is in?\",\"answers\":[\"bob\"],\"positives\":[\"a\"]}",
        )
        .unwrap();
        let passages =
            "{\"pid\":\"a\",\"text\":\"bob is in\"}\n{\"pid\":\"b\",\"text\":\"no one\"}";
        std::fs::write(at("p.jsonl"), passages).unwrap();
        let (base, out) = (at("base"), at("out"));
        let (questions, passages) = (at("q.jsonl"), at("p.jsonl"));
        let flags = [
            "--base",
            &base,
            "--out",
            &out,
            "--questions",
            &questions,
            "--passages",
            &passages,
            "--steps",
            "3",
            "--batch",
            "2",
        ];
        let args = parse(&flags);
        let stopped = train(&work(&args).unwrap(), &AtomicBool::new(true)).unwrap();
        assert_eq!((stopped.steps, stopped.finished), (1, false));
        let report = at("report.json");
        run(Args { report: Some(report.clone().into()), ..args }).await.unwrap();
        let written: serde_json::Value =
            serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        assert_eq!((&written["resumed_from"], &written["steps"]), (&json!(1), &json!(3)));
        assert!(folder.path().join("out/model.safetensors").is_file());
    }
}

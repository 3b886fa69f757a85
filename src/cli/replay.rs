//! `regrade replay`: pushes recorded questions through a whole service, in time order.
//!
//! The service is a real one in this process, in memory unless the configuration says otherwise.
//! Some of the gold answers come back later as feedback, so that it judges and learns on the way.

mod report;
mod schedule;
mod traffic;

use super::progress::Progress;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::config::{Config, IndexKind, LogKind};
use crate::{datasets, wiring};
use actors::service::{Service, ServiceHandle};
use actors::types::Exploration;
use report::Report;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use traffic::Traffic;

/// Passages added in one call.
const BATCH: usize = 1_000;
/// Longest wait for the judge to read what it was told, and then for the drain.
const SETTLE: Duration = Duration::from_secs(30);

/// Flags of `regrade replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Question files, JSON lines or SQuAD JSON, gzip or plain. They are asked in the order of
    /// `time_ms` (or an ISO 8601 `date` or `time`) where the files give one, else as they stand.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files the questions refer to.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// How fast: `max`, or a multiple of recorded time as in `10x`.
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    pub speed: Speed,
    /// Time from an answer to the feedback on it, milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pub feedback_delay_ms: u64,
    /// Share of answers that get feedback, in [0, 1]; drawn by the seed.
    #[arg(long, default_value_t = 0.85, value_parser = parse_share, value_name = "SHARE")]
    pub feedback_share: f64,
    /// Questions under way at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub concurrency: u32,
    /// At most this many questions, the first in time.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of which answers get feedback.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Configuration of the service.
    #[command(flatten)]
    pub(super) settings: ConfigArgs,
}

/// Replays the questions, prints the report and writes it.
///
/// # Errors
/// Files or models that cannot be used, or a service that does not start or stop. Questions that
/// get no answer are counted, not errors.
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = args.settings.load_over(&defaults(), Vec::new())?;
    let (report, drained) = replay(&args, &config).await?;
    say(&serde_json::to_value(&report).map_err(|e| CliError::failed("cannot write a report", e))?)?;
    super::write_report(args.report.as_deref(), &report)?;
    if drained {
        return Ok(());
    }
    Err(CliError::because(format!("the service did not drain within {} s", SETTLE.as_secs())))
}

/// Nothing stays behind, and chance has a part: greedy decisions teach nothing.
fn defaults() -> Config {
    let mut config = Config::default();
    config.index.kind = IndexKind::Memory;
    config.log.kind = LogKind::Memory;
    config.snapshots.url = "memory:".to_owned();
    config.service.exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.05 };
    config
}

async fn replay(args: &Args, config: &Config) -> Result<(Report, bool), CliError> {
    let failed = |doing: &'static str| move |e| CliError::failed(doing, e);
    let questions =
        datasets::load_questions(&args.questions).map_err(failed("cannot load the questions"))?;
    let passages =
        datasets::load_passages(&args.passages).map_err(failed("cannot load the passages"))?;
    let mut recorded = schedule::in_time_order(questions);
    recorded.truncate(args.limit.unwrap_or(usize::MAX));
    let parts =
        wiring::parts(config).await.map_err(|e| CliError::failed("cannot start the service", e))?;
    for batch in passages.chunks(BATCH) {
        let added = parts.ports.index.upsert(batch).await;
        added.map_err(|e| CliError::failed("cannot write to the index", e))?;
    }
    let handle = Service::start(parts.ports, config.service.clone())
        .await
        .map_err(|e| CliError::failed("cannot start the service", e))?;
    wait_until_ready(&handle).await?;

    let mut progress = Progress::start("questions", Some(recorded.len() as u64));
    let step = (recorded.len() / 200).max(1);
    let mut traffic = Traffic::new(handle.clone(), traffic::Plan::of(args));
    let mut shown = 0;
    traffic
        .ask(&recorded, &mut |done, f1| {
            if done - shown >= step || done == recorded.len() {
                progress.advance((done - shown) as u64, &json!({ "f1": f1 }));
                shown = done;
            }
        })
        .await;
    traffic.give_the_rest().await;
    progress.finish();
    traffic.settle(SETTLE).await;
    let report = Report::new(args.seed, &traffic, &handle.observe().await);
    let drained = handle.drain(SETTLE).await;
    Ok((report, drained.clean))
}

/// Traffic starts when the last champion serves, as a load balancer would have it.
async fn wait_until_ready(handle: &ServiceHandle) -> Result<(), CliError> {
    let until = tokio::time::Instant::now() + SETTLE;
    loop {
        let readiness = handle.ready().await;
        if readiness.ready {
            return Ok(());
        }
        if tokio::time::Instant::now() >= until {
            let reasons = readiness.reasons.join("; ");
            return Err(CliError::because(format!("the service does not get ready: {reasons}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How fast recorded traffic is pushed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as the service takes it.
    Max,
    /// This many times recorded time, > 0.
    Times(f64),
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let factor = text.strip_suffix('x').and_then(|number| number.parse::<f64>().ok());
    match factor {
        Some(factor) if factor.is_finite() && factor > 0.0 => Ok(Speed::Times(factor)),
        _ => Err("expected `max`, or a factor above 0 as in `10x`".to_owned()),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a share from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests;

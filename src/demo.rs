//! `regrade demo`: the whole service on the bundled questions, from the first answer to better ones.
//!
//! Starts a real service on embedded adapters, asks it the training questions, gives feedback late
//! and sometimes never, watches it learn and swap while it answers, and at the end compares the
//! learned policy with fixed-k baselines on questions whose facts were never asked. Owns the script
//! of the demonstration; everything it shows is done by the service itself.

mod latency;
mod traffic;

use crate::datasets::{self, Question, bucket};
use crate::evaluate::{self, Contender, Exam, Report};
use crate::policy::fixed::FixedK;
use crate::policy::serving::EncoderPolicy;
use crate::wiring::Parts;
use actors::service::{Service, ServiceConfig, ServiceHandle};
use actors::types::Document;
use candle_core::Device;
use std::sync::Arc;
use std::time::Duration;
use traffic::{Schedule, Traffic};

const PASSAGES: &[u8] = include_bytes!("../simulations/data/passages.jsonl");
const QUESTIONS: &[u8] = include_bytes!("../simulations/data/questions.jsonl");

/// Fixed cuts the learned policy is compared with.
const FIXED: [usize; 4] = [1, 3, 5, 10];

/// The bundled passages.
pub fn passages() -> Result<Vec<Document>, datasets::DatasetError> {
    datasets::read_passages("bundled passages", PASSAGES)
}

/// The bundled questions.
pub fn questions() -> Result<Vec<Question>, datasets::DatasetError> {
    datasets::read_questions("bundled questions", QUESTIONS)
}

/// How long the demonstration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoConfig {
    /// Seed of the order of questions, delays and exploration.
    pub seed: u64,
    /// Questions asked of the service.
    pub asked: usize,
    /// Questions held out for the closing table.
    pub held_out: usize,
    /// Requests in flight at once.
    pub concurrency: usize,
}

impl Default for DemoConfig {
    fn default() -> Self {
        Self { seed: 0, asked: 720, held_out: 300, concurrency: 2 }
    }
}

/// What a watcher is told while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum DemoEvent {
    /// Answers so far, with the mean F1 of the last hundred.
    Asked {
        /// So far.
        done: usize,
        /// Of these.
        total: usize,
        /// Mean token F1 of the last hundred answers, in [0, 1].
        recent_f1: f64,
    },
    /// New weights serve.
    Swapped {
        /// Their version.
        version: u64,
        /// After how many answers.
        after: usize,
        /// The gate's sentence.
        reason: String,
    },
    /// Held-out questions evaluated so far.
    Evaluated {
        /// So far.
        done: usize,
        /// Of these.
        total: usize,
    },
}

/// Splits the bundled questions by fact: no phrasing of a held-out fact is ever asked.
pub fn split(all: Vec<Question>, config: &DemoConfig) -> (Vec<Question>, Vec<Question>) {
    let salt = format!("demo-{}", config.seed);
    let key = |q: &Question| bucket(&q.id, &salt, u32::MAX);
    let (mut held_out, mut asked): (Vec<Question>, Vec<Question>) =
        all.into_iter().map(bundled).partition(|q| bucket(q.split_key(), "demo", 10) < 3);
    held_out.sort_by_key(key);
    asked.sort_by_key(key);
    held_out.truncate(config.held_out);
    asked.truncate(config.asked);
    (asked, held_out)
}

/// One data set in the report: ten domains of thirty questions each would say nothing apart.
fn bundled(question: Question) -> Question {
    Question { dataset: "bundled".to_owned(), ..question }
}

/// Runs the demonstration and returns its report.
pub async fn run(
    config: &DemoConfig,
    service: ServiceConfig,
    parts: Parts,
    mut watch: impl FnMut(DemoEvent),
) -> anyhow::Result<Report> {
    let (asked, held_out) = split(questions()?, config);
    let first = parts.first.clone();
    parts.ports.index.upsert(&passages()?).await?;
    let (top_n, limits) = (service.top_n, service.limits);
    let handle = Service::start(parts.ports.clone(), service).await?;

    let schedule = Schedule::new(config.seed);
    let mut traffic = Traffic::new(handle.clone(), schedule, config.concurrency);
    traffic.ask(&asked, &mut watch).await?;
    traffic.settle(Duration::from_secs(30), &mut watch).await?;
    let observed = handle.observe().await;
    let stamp = handle.policy();
    let learned = if stamp.version == first.version {
        first.clone()
    } else {
        parts.ports.snapshots.get(stamp.version).await?
    };
    let latency = traffic.latency();
    let (swaps, failed) = (traffic.swaps(), traffic.failed());
    stop(&handle).await;

    let mut contenders: Vec<Contender> = FIXED
        .iter()
        .map(|&k| Contender { name: format!("retrieval_k{k}"), policy: Box::new(FixedK::new(k)) })
        .collect();
    for (name, snapshot) in [("untrained", &first), ("learned", &learned)] {
        let policy = EncoderPolicy::new(Arc::clone(&parts.reader), snapshot, Device::Cpu)?;
        contenders.push(Contender { name: name.to_owned(), policy: Box::new(policy) });
    }
    let setting = evaluate::Setting {
        index: &*parts.ports.index,
        generator: &*parts.ports.generator,
        top_n,
        limits,
    };
    let exam = Exam::of(&held_out);
    let scores = evaluate::score(&setting, &mut contenders, &exam, &mut |done, total| {
        watch(DemoEvent::Evaluated { done, total });
    })
    .await?;
    let mut report = Report::new(config.seed, scores, None)?;
    report.swaps = swaps;
    report.failed_requests = failed;
    report.extra.insert("latency_ms".to_owned(), serde_json::to_value(latency)?);
    report.extra.insert("service".to_owned(), serde_json::to_value(observed)?);
    report.extra.insert("policy".to_owned(), serde_json::to_value(stamp)?);
    Ok(report)
}

async fn stop(handle: &ServiceHandle) {
    let drained = handle.drain(Duration::from_secs(20)).await;
    tracing::info!(?drained, "demo service stopped");
}

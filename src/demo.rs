//! `regrade demo`: the whole service on the bundled questions, from the first answer to better ones.
//!
//! Starts a real service on embedded adapters and asks it questions, some of them often, as users
//! do. Of a third of the answers it hears later whether the user was content, and nothing else: no
//! right answer is ever given. It learns and swaps while it answers, and at the end the learned
//! policy is compared with fixed-k baselines on questions about things that were never asked about.
//! Owns the script of the demonstration; everything it shows is done by the service itself.

mod latency;
mod traffic;

use crate::datasets::{self, Question, bucket};
use crate::evaluate::users::{Habits, Tells, Temper, Users};
use crate::evaluate::{self, BestDocument, Contender, Exam, PolicyRow, Report, ScoreTable};
use crate::policy::fixed::FixedK;
use crate::policy::serving::EncoderPolicy;
use crate::wiring::Parts;
use actors::service::{Service, ServiceConfig, ServiceHandle};
use actors::types::Document;
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use traffic::Traffic;

const PASSAGES: &[u8] = include_bytes!("../simulations/data/registers/passages.jsonl");
const QUESTIONS: &[u8] = include_bytes!("../simulations/data/registers/questions.jsonl");

/// The contestant that looks the right answer up.
const BEST: &str = "best_document";
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
    /// Seed of the order of questions, what users say, and exploration.
    pub seed: u64,
    /// Answers asked of the service.
    pub asked: usize,
    /// Different questions among them, at most.
    pub questions: usize,
    /// Questions held out for the closing table.
    pub held_out: usize,
    /// Requests in flight at once.
    pub concurrency: usize,
}

impl Default for DemoConfig {
    fn default() -> Self {
        Self { seed: 0, asked: 6_000, questions: 1_000, held_out: 600, concurrency: 2 }
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

/// What users of the demonstration are like: a thumb on a third of the answers, one in ten wrong,
/// some time later.
const HABITS: Habits =
    Habits { share: 0.33, flips: 0.1, delay: 60, temper: Temper::Honest, tells: Tells::Exact };

/// Splits the bundled questions by the thing they are about: nothing is ever asked about one that
/// is held out.
pub fn split(all: Vec<Question>, config: &DemoConfig) -> (Vec<Question>, Vec<Question>) {
    let salt = format!("demo-{}", config.seed);
    let key = |q: &Question| bucket(&q.id, &salt, u32::MAX);
    let (mut held_out, mut asked): (Vec<Question>, Vec<Question>) =
        all.into_iter().map(bundled).partition(|q| bucket(q.split_key(), "demo", 10) < 3);
    held_out.sort_by_key(key);
    asked.sort_by_key(key);
    held_out.truncate(config.held_out);
    asked.truncate(config.questions);
    (asked, held_out)
}

/// One data set in the report: six domains of some questions each would say little apart.
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

    let users = Users::new(&asked, HABITS, config.seed);
    let mut traffic = Traffic::new(handle.clone(), users, config.concurrency);
    traffic.ask(config.asked, &mut watch).await?;
    traffic.settle(Duration::from_secs(120), &mut watch).await?;
    let observed = handle.observe().await;
    let stamp = handle.policy();
    let learned = if stamp.version == first.version {
        first.clone()
    } else {
        parts.ports.snapshots.get(stamp.version).await?
    };
    let latency = traffic.latency();
    let (swaps, failed, said) = (traffic.swaps(), traffic.failed(), traffic.said());
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
    let best = vec![Contender { name: BEST.to_owned(), policy: Box::new(BestDocument) }];
    let best = evaluate::score(&setting, &mut { best }, &exam, &mut |_, _| {}).await?;
    let mut report = Report::new(config.seed, scores, None)?;
    report.swaps = swaps;
    report.failed_requests = failed;
    report.extra.insert("thumbs".to_owned(), said.into());
    report.extra.insert("headroom".to_owned(), serde_json::to_value(headroom(&report, &best))?);
    report.extra.insert("latency_ms".to_owned(), serde_json::to_value(latency)?);
    report.extra.insert("service".to_owned(), serde_json::to_value(observed)?);
    report.extra.insert("policy".to_owned(), serde_json::to_value(stamp)?);
    Ok(report)
}

/// What there was to learn, and how much of it was learned, in points of F1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Headroom {
    /// F1 of the best single document of each list: what the best policy would get.
    pub best_document: f64,
    /// F1 of the best fixed cut.
    pub best_cut: f64,
    /// Share of the difference that the learned policy closed; absent where there is none to close.
    pub closed: Option<f64>,
}

fn headroom(report: &Report, best: &ScoreTable) -> Headroom {
    let f1 = |row: &&PolicyRow| 100.0 * row.f1.unwrap_or(0.0);
    let rows = &report.policies;
    let is_cut = |row: &&PolicyRow| row.name.starts_with("retrieval_k");
    let best_cut = rows.iter().filter(is_cut).map(|row| f1(&row)).fold(0.0, f64::max);
    let learned = rows.iter().find(|row| row.name == "learned").map_or(0.0, |row| f1(&row));
    let column = best.contenders.iter().flat_map(|c| &c.runs).find_map(|run| run.get("f1"));
    let values: Vec<f64> = column.into_iter().flatten().flatten().copied().collect();
    let best_document = 100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64;
    let there_is = best_document - best_cut;
    let closed = (there_is > 1e-9).then(|| (learned - best_cut) / there_is);
    Headroom { best_document, best_cut, closed }
}

async fn stop(handle: &ServiceHandle) {
    let drained = handle.drain(Duration::from_secs(20)).await;
    tracing::info!(?drained, "demo service stopped");
}

#[cfg(test)]
mod tests;

//! `regrade demo`: a service of its own learns from the bundled questions; prints before and after.

use super::progress::Progress;
use super::{CliError, say};
use crate::config::{Config, IndexKind, Layers};
use crate::demo::{self, DemoConfig, DemoEvent, Headroom};
use crate::evaluate::{Report, table};
use crate::recipes::online::Objective;
use crate::wiring;
use actors::rollout::Path;
use actors::types::{Exploration, SelectionLimits};
use serde_json::json;
use std::path::PathBuf;

/// Flags of `regrade demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Model folder of reader and encoder.
    #[arg(long, default_value = "deploy/models/minilm-reader", value_name = "DIR")]
    pub model: PathBuf,
    /// Answers asked of the service.
    #[arg(long, default_value_t = DemoConfig::default().asked, value_name = "N")]
    pub asked: usize,
    /// Different questions among them, at most.
    #[arg(long, default_value_t = DemoConfig::default().questions, value_name = "N")]
    pub questions: usize,
    /// Questions held out for the closing table.
    #[arg(long, default_value_t = DemoConfig::default().held_out, value_name = "N")]
    pub held_out: usize,
}

/// Runs the demonstration, prints its table and writes its report.
///
/// # Errors
/// A model folder that cannot be loaded, or a service that does not start.
pub async fn run(args: Args) -> Result<(), CliError> {
    let failed = |doing: &'static str| move |e: std::io::Error| CliError::failed(doing, e);
    let folder = tempfile::Builder::new()
        .prefix("regrade-demo-")
        .tempdir()
        .map_err(failed("cannot make a temporary folder for the event log"))?;
    let config = settings(&args, folder.path())?;
    let parts =
        wiring::parts(&config).await.map_err(|e| CliError::failed("cannot set up the demo", e))?;
    let demo = DemoConfig {
        seed: args.seed,
        asked: args.asked,
        questions: args.questions,
        held_out: args.held_out,
        ..DemoConfig::default()
    };
    say(format!(
        "asking a fresh service {} times; for a third of the answers a thumb comes later, one in ten \
         of them wrong, and nothing else is ever said",
        demo.asked
    ))?;
    let mut watch = Watch::new(&demo);
    let report = demo::run(&demo, config.service, parts, |event| watch.see(event))
        .await
        .map_err(CliError::Failed)?;
    say(closing(&report))?;
    super::write_report(args.report.as_deref(), &report)
}

/// A service in a temporary folder that learns every few hundred rewards.
fn settings(args: &Args, folder: &std::path::Path) -> Result<Config, CliError> {
    let mut config = Config::load(&Layers::default())?;
    config.index.kind = IndexKind::Memory;
    config.log.folder = folder.join("log");
    config.snapshots.url = folder.join("policies").display().to_string();
    config.generator.model.clone_from(&args.model);
    config.policy.model.clone_from(&args.model);
    config.policy.seed = args.seed;
    config.learner.seed = args.seed;
    config.learner.objective = Objective::Dr;
    config.service.seed = Some(args.seed);
    config.service.top_n = 10;
    // Minutes of traffic are too few for a canary: here the held-out examination decides.
    config.service.promotion.path = Path::HeldOut;
    config.certificates.key_file = folder.join("certificates.key");
    // The reader answers from one document: which one is all there is to choose.
    config.service.limits = SelectionLimits { k_min: 1, k_max: 1, token_budget: 1_024 };
    config.service.exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.2 };
    config.service.learner.interval_ms = 0;
    config.service.learner.min_new_rewards = 300;
    // All lists have one document: their price says nothing.
    config.judge.weights.context_cost = 0.0;
    // One document is one step, so that importance weights are sound long before they are for lists.
    config.learner.logged.correction_answers = 1_000.0;
    config.service.judge.join_window_ms = 120_000;
    config.service.judge.poll_wait_ms = 100;
    config.service.replay_buffer.poll_wait_ms = 100;
    Ok(config)
}

/// What is said under the table.
fn closing(report: &Report) -> String {
    let extra = |name: &str| report.extra.get(name).cloned().unwrap_or_default();
    let headroom = serde_json::from_value(extra("headroom")).ok();
    format!(
        "\n{}\n{}\nlearned from {} thumbs; {} swaps while serving, {} failed requests; latency of the \
         answer path in ms: {}",
        table(report).trim_end(),
        headroom.map_or_else(String::new, |found: Headroom| told(&found)),
        extra("thumbs"),
        report.swaps,
        report.failed_requests,
        extra("latency_ms")
    )
}

/// What there was to learn.
fn told(found: &Headroom) -> String {
    let closed = found.closed.map_or_else(String::new, |share| {
        format!("; of the difference {:.0}% is learned", 100.0 * share)
    });
    format!(
        "the best single document of each list would give F1 {:.1}, the best fixed k gives {:.1}{closed}",
        found.best_document, found.best_cut
    )
}

/// Turns events into progress.
struct Watch {
    asking: Option<Progress>,
    evaluating: Option<Progress>,
    held_out: u64,
    asked: usize,
    evaluated: usize,
}

impl Watch {
    fn new(config: &DemoConfig) -> Self {
        let asking = Some(Progress::start("questions", Some(config.asked as u64)));
        let held_out = config.held_out as u64;
        Self { asking, evaluating: None, held_out, asked: 0, evaluated: 0 }
    }

    fn see(&mut self, event: DemoEvent) {
        match event {
            DemoEvent::Asked { done, recent_f1, .. } => {
                // A line for each of a thousand questions helps nobody off a terminal.
                let step = (done - self.asked) as u64;
                if let Some(progress) = self.asking.as_mut().filter(|_| done % 100 == 0) {
                    progress.advance(step, &json!({ "f1_of_last_100": round(recent_f1) }));
                    self.asked = done;
                }
            }
            DemoEvent::Swapped { version, after, reason } => {
                let figures = json!({ "swapped_to": version, "after": after, "gate": reason });
                if let Some(progress) = &mut self.asking {
                    progress.advance(0, &figures);
                }
            }
            DemoEvent::Evaluated { done, total } => {
                if let Some(progress) = self.asking.take() {
                    progress.finish();
                }
                let held_out = self.held_out.min(total as u64);
                let progress = self
                    .evaluating
                    .get_or_insert_with(|| Progress::start("held-out questions", Some(held_out)));
                if done % 20 == 0 || done == total {
                    progress.advance((done - self.evaluated) as u64, &json!({}));
                    self.evaluated = done;
                }
            }
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

//! Queries a second through Kafka with one process and with two, and what the way by the log adds
//! to the time of an answer.
//!
//! `cargo bench -p simulations --bench kafka_log [-- --bootstrap HOST:PORT --queries N]`; without
//! `--bootstrap` it starts a broker by `deploy/kafka-local/kafka.sh` and stops it afterwards. The
//! policy decides nothing and the generator answers at once, so what is measured is the service
//! around them: intake, episode, log. Prints one JSON line a figure and passes or fails nothing on
//! time; it fails where an answer is missing.

use actors::clock::Clock;
use actors::fakes::World;
use actors::ports::{EventConsumer, EventLog, NewRecord, SearchIndex as _, Stream};
use actors::service::{Overrides, Ports, Roles, Service, ServiceConfig, ServiceHandle};
use actors::types::{Document, Query};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use regrade::adapters::log_kafka::{KafkaLog, KafkaLogConfig};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kafka-local/kafka.sh");
/// Longest silence of the answers before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of the benchmark.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// Broker; without it one is started.
    #[arg(long, env = "REGRADE_BENCH_KAFKA")]
    bootstrap: Option<String>,
    /// Queries of each throughput run.
    #[arg(long, default_value_t = 20_000)]
    queries: u32,
    /// Queries of the latency run, one after the other.
    #[arg(long, default_value_t = 300)]
    single: u32,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Queries a process works on at once.
    #[arg(long, default_value_t = 256)]
    concurrency: usize,
    /// This process is a serving one, with its folder there.
    #[arg(long, hide = true)]
    node: Option<PathBuf>,
    /// Namespace of a serving process.
    #[arg(long, hide = true, default_value = "bench")]
    namespace: String,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    match (&options.node, &options.bootstrap) {
        (Some(folder), Some(bootstrap)) => runtime.block_on(node(&options, bootstrap, folder)),
        (Some(_), None) => bail!("a serving process needs --bootstrap"),
        (None, Some(bootstrap)) => runtime.block_on(measure(&options, bootstrap)),
        (None, None) => {
            let state = tempfile::tempdir()?;
            let bootstrap = script(&["up"], state.path())?;
            let measured = runtime.block_on(measure(&options, &bootstrap));
            script(&["down"], state.path())?;
            measured
        }
    }
}

fn script(command: &[&str], state: &Path) -> Result<String> {
    let mut run = Command::new("bash");
    run.arg(SCRIPT).args(command).arg("--state").arg(state).stdin(Stdio::null());
    let output = run.stderr(Stdio::inherit()).output().context("cannot run kafka.sh")?;
    ensure!(output.status.success(), "kafka.sh {command:?} failed");
    Ok(String::from_utf8(output.stdout)?.lines().last().unwrap_or_default().to_owned())
}

fn settings(options: &Options, bootstrap: &str, namespace: &str) -> KafkaLogConfig {
    KafkaLogConfig {
        bootstrap: bootstrap.to_owned(),
        namespace: namespace.to_owned(),
        partitions: options.partitions,
        ..KafkaLogConfig::default()
    }
}

async fn open(folder: &Path, config: KafkaLogConfig) -> Result<KafkaLog> {
    std::fs::create_dir_all(folder)?;
    Ok(KafkaLog::open(folder, "bench", config).await?)
}

/// A service with scripted models, fed by the log and by its door.
async fn serve(options: &Options, log: &KafkaLog) -> Result<ServiceHandle> {
    let world = World::default();
    let passage =
        Document { id: "p".into(), text: "paris is in france".to_owned(), ..Document::default() };
    world.index.upsert(&[passage]).await?;
    let mut config = ServiceConfig {
        roles: Roles { serve: true, judge: false, learn: false },
        ..ServiceConfig::default()
    };
    config.intake.enabled = true;
    config.intake.concurrency = options.concurrency;
    config.admission.in_flight_max = options.concurrency * 2;
    let ports = Ports { log: Arc::new(log.clone()), ..world.ports(Clock::System) };
    let service = Service::start(ports, config).await?;
    while !service.ready().await.ready {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(service)
}

/// A serving process: runs until its standard input closes.
async fn node(options: &Options, bootstrap: &str, folder: &Path) -> Result<()> {
    let log = open(folder, settings(options, bootstrap, &options.namespace)).await?;
    let service = serve(options, &log).await?;
    writeln!(std::io::stdout(), "ready")?;
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    service.drain(Duration::from_secs(10)).await;
    Ok(())
}

fn spawn(options: &Options, bootstrap: &str, namespace: &str, folder: &Path) -> Result<Child> {
    let child = Command::new(std::env::current_exe()?)
        .args(["--bootstrap", bootstrap, "--namespace", namespace])
        .args(["--partitions", &options.partitions.to_string()])
        .args(["--concurrency", &options.concurrency.to_string()])
        .arg("--node")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}

fn query(n: u32) -> Result<NewRecord> {
    let text = "is paris in france".to_owned();
    let query = Query { id: format!("q{n}").as_str().into(), text, ..Query::default() };
    let payload = serde_json::to_vec(&query)?;
    Ok(NewRecord { key: format!("q{n}"), payload, ..NewRecord::default() })
}

async fn ask(log: &KafkaLog, numbers: std::ops::Range<u32>) -> Result<()> {
    let records: Vec<NewRecord> = numbers.map(query).collect::<Result<_>>()?;
    for batch in records.chunks(1_000) {
        log.append(Stream::Queries, batch.to_vec()).await?;
    }
    Ok(())
}

/// Waits for the answers to so many queries; gives when the first and the last came.
async fn collect(answers: &mut dyn EventConsumer, count: u32) -> Result<(Instant, Instant)> {
    let mut seen = BTreeSet::new();
    let (mut first, mut last) = (None, Instant::now());
    while seen.len() < count as usize {
        let records = answers.poll(5_000, PATIENCE).await?;
        ensure!(!records.is_empty(), "{} of {count} answers came", seen.len());
        last = Instant::now();
        first.get_or_insert(last);
        seen.extend(records.into_iter().map(|record| record.key));
    }
    Ok((first.unwrap_or(last), last))
}

async fn measure(options: &Options, bootstrap: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = std::process::id();
    let mut rates = Vec::new();
    for processes in [1_u32, 2] {
        let namespace = format!("bench-{run}-{processes}");
        let place = folder.path().join(format!("ask-{processes}"));
        let log = open(&place, settings(options, bootstrap, &namespace)).await?;
        ask(&log, 0..options.queries).await?;
        let mut answers = log.follower("bench", &[Stream::Answers], None).await?;
        let mut children = Vec::new();
        for n in 0..processes {
            let own = folder.path().join(format!("node-{processes}-{n}"));
            children.push(spawn(options, bootstrap, &namespace, &own)?);
        }
        let (first, last) = collect(&mut *answers, options.queries).await?;
        for mut child in children {
            drop(child.stdin.take());
            child.wait()?;
        }
        let seconds = (last - first).as_secs_f64();
        rates.push(f64::from(options.queries) / seconds);
        let line = json!({
            "name": "kafka_throughput", "processes": processes, "queries": options.queries,
            "seconds": seconds, "ours": rates.last(), "unit": "queries/s",
        });
        writeln!(std::io::stdout(), "{line}")?;
    }
    let line = json!({ "name": "kafka_two_processes", "ratio": rates[1] / rates[0] });
    writeln!(std::io::stdout(), "{line}")?;
    latency(options, bootstrap, &folder.path().join("latency")).await
}

/// One query at a time, by the log and by the door in turn.
async fn latency(options: &Options, bootstrap: &str, folder: &Path) -> Result<()> {
    let namespace = format!("bench-{}-latency", std::process::id());
    let log = open(folder, settings(options, bootstrap, &namespace)).await?;
    let service = serve(options, &log).await?;
    let mut answers = log.follower("bench", &[Stream::Answers], None).await?;
    let (mut by_log, mut by_door) = (Vec::new(), Vec::new());
    // The first ones wait for the group to form.
    let warm_up = 20;
    for n in 0..options.single + warm_up {
        let began = Instant::now();
        ask(&log, n..n + 1).await?;
        collect(&mut *answers, 1).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let began = Instant::now();
        let text = "is paris in france".to_owned();
        service.answer(Query { text, ..Query::default() }, Overrides::default()).await?;
        if n >= warm_up {
            by_log.push(took);
            by_door.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    by_log.sort_by(f64::total_cmp);
    by_door.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], share: usize| sorted[(sorted.len() - 1) * share / 100];
    for share in [50, 95, 99] {
        let (log_ms, door_ms) = (at(&by_log, share), at(&by_door, share));
        let line = json!({
            "name": "kafka_latency", "percentile": share, "by_log_ms": log_ms,
            "by_door_ms": door_ms, "added_ms": log_ms - door_ms, "n": options.single,
        });
        writeln!(std::io::stdout(), "{line}")?;
    }
    service.drain(Duration::from_secs(10)).await;
    Ok(())
}

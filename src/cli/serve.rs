//! `regrade serve`: answer, judge and learn until told to stop.
//!
//! Owns the order of starting and stopping: configuration, telemetry, service, listener; then the
//! door closes first and the service drains behind it.

use super::settings::{ConfigArgs, FlagSetting};
use super::{CliError, say};
use crate::config::{Config, TelemetryConfig, TelemetryFormat};
use crate::gateway::{self, Parts};
use crate::wiring;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Upper bounds of the duration histograms, seconds.
const DURATION_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Flags of `regrade serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: ConfigArgs,
    /// Address and port; over `server.bind`.
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<SocketAddr>,
    /// What this process does; over `service.roles`.
    #[arg(long, value_delimiter = ',', value_name = "ROLE,…")]
    role: Vec<Role>,
    /// Print the resolved configuration as TOML and end.
    #[arg(long)]
    dry_run: bool,
}

/// One part of the work, for splitting it over machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Answers queries.
    Serve,
    /// Judges episodes.
    Judge,
    /// Trains candidates.
    Learn,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// A configuration that is wrong, a part that does not start, an address that is taken, or a drain
/// that did not end in time.
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = args.settings.load(flags(&args))?;
    if args.dry_run {
        return say(config.to_toml()?.trim_end());
    }
    start_logging(&config.telemetry)?;
    let metrics = start_metrics()?;
    let stop = Stop::listen()?;
    let service = wiring::service(&config)
        .await
        .map_err(|e| CliError::failed("cannot start the service", e))?;
    let bind = config.server.bind;
    let listener = TcpListener::bind(bind).await.map_err(|e| {
        CliError::failed(format!("cannot listen on {bind}; choose another with --bind"), e)
    })?;
    announce(&listener, &config)?;
    let parts = Parts {
        door: Arc::new(service.clone()),
        selection: config.service.limits,
        config: config.digest()?,
        limits: config.server.clone(),
        metrics,
        // Ids must not repeat from one start to the next.
        seed: rand::random(),
    };
    let served = gateway::run(listener, parts, stop.received()).await;
    // The service drains whatever became of the door; its log must not lose what it acknowledged.
    let drained = service.drain(Duration::from_millis(config.server.drain_deadline_ms)).await;
    tracing::info!(?drained, "stopped");
    served.map_err(|e| CliError::failed("cannot serve", e))?;
    if drained.clean {
        return Ok(());
    }
    Err(CliError::because(format!(
        "the service did not drain in time: {} queries abandoned; raise `server.drain_deadline_ms`",
        drained.abandoned
    )))
}

fn flags(args: &Args) -> Vec<FlagSetting> {
    let mut flags = Vec::new();
    if let Some(bind) = args.bind {
        flags.push(("--bind".to_owned(), "server.bind".to_owned(), bind.to_string()));
    }
    if !args.role.is_empty() {
        for (role, key) in [(Role::Serve, "serve"), (Role::Judge, "judge"), (Role::Learn, "learn")]
        {
            let key = format!("service.roles.{key}");
            flags.push(("--role".to_owned(), key, args.role.contains(&role).to_string()));
        }
    }
    flags
}

fn announce(listener: &TcpListener, config: &Config) -> Result<(), CliError> {
    let address =
        listener.local_addr().map_err(|e| CliError::failed("cannot read the bound address", e))?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "listening beyond loopback without authentication");
    }
    say(json!({ "listening": address, "config_digest": config.digest()? }))
}

fn start_logging(telemetry: &TelemetryConfig) -> Result<(), CliError> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&telemetry.filter))
        .with_writer(std::io::stderr)
        // Complaining of a stderr that cannot be written (a full disk) would be a panic.
        .log_internal_errors(false);
    let started = match telemetry.format {
        TelemetryFormat::Text => lines.try_init(),
        TelemetryFormat::Json => lines.json().try_init(),
    };
    started.map_err(|e| CliError::because(format!("cannot start logging: {e}")))
}

fn start_metrics() -> Result<PrometheusHandle, CliError> {
    PrometheusBuilder::new()
        .set_buckets(&DURATION_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|e| CliError::failed("cannot start metrics", e))
}

/// The signals that end a service.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Takes the signals over; before this one would kill the process.
    fn listen() -> Result<Self, CliError> {
        let open = |kind| signal(kind).map_err(|e| CliError::failed("cannot listen to signals", e));
        Ok(Self {
            terminate: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
        })
    }

    async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM received, draining"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT received, draining"),
        }
    }
}

//! `regrade policy`: what versions there are, what became of them, and their weights as a file.
//!
//! Reads the snapshot store and the log. Both belong to the service while it runs: the embedded log
//! lets nobody else in, and then versions are listed without their state.

use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::config::Config;
use crate::wiring::{self, WiringError};
use actors::ports::{LogError, SnapshotStore, Stream};
use actors::types::{PolicyRecord, PolicyVersion};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Records read from the log in one go.
const PAGE: usize = 1_000;

/// Flags of `regrade policy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Every version in the store, one JSON line each.
    List {
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// All that is known of one version.
    Show {
        /// The version's number.
        version: u64,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Write one version's weights to a safetensors file.
    Export {
        /// The version's number.
        version: u64,
        /// The file; it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Make a version the champion.
    Promote {
        /// The version's number.
        version: u64,
    },
    /// Return to the champion before.
    Rollback,
    /// Compare the weights of two versions.
    Diff {
        /// One version's number.
        left: u64,
        /// The other's.
        right: u64,
    },
}

/// Runs one action.
///
/// # Errors
/// A store that cannot be opened, a version that is not in it, or an action that is not built.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.action {
        Action::List { settings } => list(&settings.load(Vec::new())?).await,
        Action::Show { version, settings } => {
            show(&settings.load(Vec::new())?, PolicyVersion(version)).await
        }
        Action::Export { version, out, settings } => {
            export(&settings.load(Vec::new())?, PolicyVersion(version), &out).await
        }
        Action::Promote { version } => Err(not_built(&format!("promote {version}"))),
        Action::Rollback => Err(not_built("rollback")),
        Action::Diff { left, right } => Err(not_built(&format!("diff {left} {right}"))),
    }
}

fn not_built(action: &str) -> CliError {
    CliError::because(format!(
        "`regrade policy {action}` is not built yet; the learner's gate promotes by itself"
    ))
}

fn store(config: &Config) -> Result<Arc<dyn SnapshotStore>, CliError> {
    wiring::snapshots(config).map_err(|e| CliError::failed("cannot read policies", e))
}

async fn list(config: &Config) -> Result<(), CliError> {
    let store = store(config)?;
    let versions =
        store.list().await.map_err(|e| CliError::failed("cannot list the snapshot store", e))?;
    let history = history(config).await?;
    for version in versions {
        say(summary(version, history.get(&version).and_then(|records| records.last())))?;
    }
    Ok(())
}

fn summary(version: PolicyVersion, last: Option<&PolicyRecord>) -> Value {
    json!({
        "version": version,
        "state": last.map(|record| record.state),
        "parent": last.and_then(|record| record.parent),
        "recipe": last.map(|record| &record.recipe),
        "digest": last.map(|record| &record.digest),
        "reason": last.map(|record| &record.reason),
        "time_ms": last.map(|record| record.time_ms),
    })
}

async fn show(config: &Config, version: PolicyVersion) -> Result<(), CliError> {
    let snapshot = get(config, version).await?;
    let history = history(config).await?;
    say(json!({
        "version": snapshot.version,
        "parent": snapshot.parent,
        "recipe": snapshot.recipe,
        "digest": snapshot.digest,
        "bytes": snapshot.weights.len(),
        "history": history.get(&version),
    }))
}

async fn export(config: &Config, version: PolicyVersion, out: &Path) -> Result<(), CliError> {
    let snapshot = get(config, version).await?;
    let place = out.display().to_string();
    let cannot = |e| CliError::failed(format!("cannot write `{place}`; give another --out"), e);
    write_new(out, &snapshot.weights).map_err(cannot)?;
    say(json!({
        "version": snapshot.version,
        "digest": snapshot.digest,
        "file": out,
        "bytes": snapshot.weights.len(),
    }))
}

async fn get(
    config: &Config,
    version: PolicyVersion,
) -> Result<actors::types::PolicySnapshot, CliError> {
    let hint = format!("cannot read policy {version}; `regrade policy list` shows what there is");
    store(config)?.get(version).await.map_err(|e| CliError::failed(hint, e))
}

/// Writes a file that is not there yet, durable before it is reported; a half-written one goes.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create_new(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(path);
    }
    written
}

/// What the log says of each version, oldest first; empty where a running service has the log.
async fn history(config: &Config) -> Result<BTreeMap<PolicyVersion, Vec<PolicyRecord>>, CliError> {
    let cannot = |e| CliError::failed("cannot read the log of policies", e);
    let log = match wiring::log(config).await {
        Ok(log) => log,
        Err(WiringError::Log(LogError::InUse(reason))) => {
            tracing::warn!(reason, "states are not shown");
            return Ok(BTreeMap::new());
        }
        Err(error) => return Err(CliError::failed("cannot read the log of policies", error)),
    };
    // Never committed: the next call starts at the beginning again.
    let mut consumer = log.consumer("policy-cli", &[Stream::Policies]).await.map_err(cannot)?;
    let mut history: BTreeMap<PolicyVersion, Vec<PolicyRecord>> = BTreeMap::new();
    loop {
        let records = consumer.poll(PAGE, Duration::ZERO).await.map_err(cannot)?;
        if records.is_empty() {
            return Ok(history);
        }
        for record in &records {
            let policy: PolicyRecord = serde_json::from_slice(&record.payload).map_err(|e| {
                CliError::failed(format!("record {} is not a policy", record.offset), e)
            })?;
            history.entry(policy.version).or_default().push(policy);
        }
    }
}

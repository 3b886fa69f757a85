//! `regrade policy`: what versions there are, what became of them, their weights, and which serves.
//!
//! Reads the snapshot store and the log. The embedded log belongs to the service while it runs and
//! lets nobody else in: versions are then listed without their state, and none is moved.

mod change;
mod diff;
mod verify;

use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::config::{Config, LogKind};
use crate::policy::policy_folder;
use crate::wiring::{self, OperatorLog, WiringError};
use actors::ports::{LogError, SnapshotStore, Stream};
use actors::rollout::Board;
use actors::types::{PolicyRecord, PolicySnapshot, PolicyVersion};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
        // Another id than `version`, which is the flag that every command has.
        #[arg(id = "number", value_name = "VERSION")]
        version: u64,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Write one version's weights to a file, or to a policy folder for `regrade evaluate`.
    Export {
        /// The version's number.
        // Another id than `version`, which is the flag that every command has.
        #[arg(id = "number", value_name = "VERSION")]
        version: u64,
        /// A file ending in `.safetensors`, or a folder; it must not exist.
        #[arg(long, value_name = "FILE|DIR")]
        out: PathBuf,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Make a version the champion; every serving node follows.
    Promote {
        /// The version's number.
        // Another id than `version`, which is the flag that every command has.
        #[arg(id = "number", value_name = "VERSION")]
        version: u64,
        /// Take a version without certificate upon yourself, for this reason: it is signed and on
        /// record.
        #[arg(long, value_name = "REASON")]
        because: Option<String>,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Return to the champion before the present one, or to the untrained policy before the first.
    Rollback {
        /// A running service to ask; without it the log is changed, which an embedded one allows
        /// only while no service runs. `REGRADE_OPERATOR_TOKEN` holds the token, if it asks for one.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// Take this version back, from whatever state it is in, instead of the champion; with --url.
        #[arg(long = "candidate", value_name = "VERSION", requires = "url")]
        candidate: Option<u64>,
        /// Why, for the record.
        #[arg(long, value_name = "REASON")]
        because: Option<String>,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Hold a version's certificate against its signature, its weights and the log, bit for bit.
    Verify {
        /// The version's number.
        // Another id than `version`, which is the flag that every command has.
        #[arg(id = "number", value_name = "VERSION")]
        version: u64,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Print the public key that certificates of this configuration are signed with.
    Key {
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Compare the weights of two policies, tensor by tensor, one JSON line each.
    Diff {
        /// A version's number, or a policy folder.
        left: String,
        /// Another.
        right: String,
        #[command(flatten)]
        settings: ConfigArgs,
    },
}

/// Runs one action.
///
/// # Errors
/// A store or log that cannot be opened, a version that is not in it, or weights that do not fit.
pub async fn run(args: Args) -> Result<(), CliError> {
    let lines = match args.action {
        Action::List { settings } => list(&settings.load(Vec::new())?).await?,
        Action::Show { version, settings } => {
            vec![show(&settings.load(Vec::new())?, PolicyVersion(version)).await?]
        }
        Action::Export { version, out, settings } => {
            vec![export(&settings.load(Vec::new())?, PolicyVersion(version), &out).await?]
        }
        Action::Promote { version, because, settings } => {
            let (config, because) = (settings.load(Vec::new())?, because.as_deref());
            vec![change::promote(&config, PolicyVersion(version), because).await?]
        }
        Action::Rollback { url: Some(url), candidate, because, .. } => {
            let candidate = candidate.map(PolicyVersion);
            vec![change::rollback_at(&url, candidate, because.as_deref()).await?]
        }
        Action::Rollback { because, settings, .. } => {
            vec![change::rollback(&settings.load(Vec::new())?, because.as_deref()).await?]
        }
        Action::Key { settings } => {
            let signer = wiring::signer(&settings.load(Vec::new())?);
            let signer = signer.map_err(|e| CliError::failed("cannot read the signing key", e))?;
            vec![json!({ "public_key": signer.public_key() })]
        }
        Action::Verify { version, settings } => {
            let config = settings.load(Vec::new())?;
            let (lines, holds) = verify::verify(&config, PolicyVersion(version)).await?;
            lines.iter().try_for_each(say)?;
            if holds {
                return Ok(());
            }
            return Err(CliError::because(format!(
                "the log does not give what the certificate of v{version} claims"
            )));
        }
        Action::Diff { left, right, settings } => {
            let config = settings.load(Vec::new())?;
            diff::of(&policy(&config, &left).await?, &policy(&config, &right).await?)?
        }
    };
    lines.iter().try_for_each(say)
}

fn store(config: &Config) -> Result<Arc<dyn SnapshotStore>, CliError> {
    wiring::snapshots(config).map_err(|e| CliError::failed("cannot read policies", e))
}

async fn list(config: &Config) -> Result<Vec<Value>, CliError> {
    let store = store(config)?;
    let versions =
        store.list().await.map_err(|e| CliError::failed("cannot list the snapshot store", e))?;
    let history = history(config).await?;
    let champion = Board::of(&history).champion();
    let of = |version| {
        let last = history.iter().rev().find(|record| record.version == version);
        let mut line = summary(version, last);
        line["serves"] = json!(champion == Some(version));
        line
    };
    Ok(versions.into_iter().map(of).collect())
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

async fn show(config: &Config, version: PolicyVersion) -> Result<Value, CliError> {
    let snapshot = get(config, version).await?;
    let mut history = history(config).await?;
    history.retain(|record| record.version == version);
    Ok(json!({
        "version": snapshot.version,
        "parent": snapshot.parent,
        "recipe": snapshot.recipe,
        "digest": snapshot.digest,
        "bytes": snapshot.weights.len(),
        "history": history,
    }))
}

async fn export(config: &Config, version: PolicyVersion, out: &Path) -> Result<Value, CliError> {
    let snapshot = get(config, version).await?;
    let place = out.display().to_string();
    let hint = format!("cannot write `{place}`; give another --out");
    if out.extension().is_some_and(|extension| extension == "safetensors") {
        write_new(out, &snapshot.weights).map_err(|e| CliError::failed(hint, e))?;
    } else if out.exists() {
        return Err(CliError::because(format!("`{place}` exists; give another --out")));
    } else {
        policy_folder::write(out, &snapshot).map_err(|e| CliError::failed(hint, e))?;
    }
    Ok(json!({
        "version": snapshot.version,
        "digest": snapshot.digest,
        "out": out,
        "bytes": snapshot.weights.len(),
    }))
}

/// A policy by its version's number in the store, or by its folder.
pub(super) async fn policy(config: &Config, name: &str) -> Result<PolicySnapshot, CliError> {
    match name.strip_prefix('v').unwrap_or(name).parse() {
        Ok(version) => get(config, PolicyVersion(version)).await,
        Err(_) => policy_folder::read(Path::new(name)).map_err(|e| {
            CliError::failed(format!("`{name}` is neither a version nor a policy folder"), e)
        }),
    }
}

async fn get(config: &Config, version: PolicyVersion) -> Result<PolicySnapshot, CliError> {
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

/// What the log says of policies, oldest first; empty where a running service has the log.
async fn history(config: &Config) -> Result<Vec<PolicyRecord>, CliError> {
    if config.log.kind == LogKind::Memory {
        return Ok(Vec::new());
    }
    match OperatorLog::open(config).await {
        Ok(log) => records(&log).await,
        Err(WiringError::Log(LogError::InUse(reason))) => {
            tracing::warn!(reason, "states are not shown");
            Ok(Vec::new())
        }
        Err(error) => Err(CliError::failed("cannot read the log of policies", error)),
    }
}

async fn records(log: &OperatorLog) -> Result<Vec<PolicyRecord>, CliError> {
    let records = log
        .read(Stream::Policies)
        .await
        .map_err(|e| CliError::failed("cannot read the log of policies", e))?;
    let of = |record: &actors::ports::Record| {
        serde_json::from_slice(&record.payload)
            .map_err(|e| CliError::failed(format!("record {} is not a policy", record.offset), e))
    };
    records.iter().map(of).collect()
}

#[cfg(test)]
mod tests;

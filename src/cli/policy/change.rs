//! Which version is champion, and making another one so: records in the log, as the learner writes
//! them, which every serving node follows.

use super::{get, records, store};
use crate::cli::CliError;
use crate::config::{Config, LogKind};
use crate::policy::serving;
use crate::wiring::{self, OperatorLog, WiringError};
use actors::clock::Clock;
use actors::ports::{LogError, NewRecord, Stream};
use actors::types::{PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion, SCHEMA_VERSION};
use candle_core::Device;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The champions that led to the present one, which is the last. A version that became champion
/// again takes those after its first time back: they were rolled back.
pub(super) fn champions(records: &[PolicyRecord]) -> Vec<PolicyVersion> {
    let mut line: Vec<PolicyVersion> = Vec::new();
    for record in PolicyRecord::champions_of(records) {
        if record.version == PolicyVersion(0) {
            // The untrained policy comes before every other.
            line.clear();
        }
        match line.iter().position(|version| *version == record.version) {
            Some(earlier) => line.truncate(earlier + 1),
            None => line.push(record.version),
        }
    }
    line
}

/// Makes a version of the store champion.
pub(super) async fn promote(config: &Config, version: PolicyVersion) -> Result<Value, CliError> {
    let log = open(config, &format!("promote {version}")).await?;
    let snapshot = get(config, version).await?;
    let now = champions(&records(&log).await?).last().copied();
    if now == Some(version) {
        return Ok(json!({ "champion": version, "before": now, "changed": false }));
    }
    crown(config, &log, &snapshot, (now, "promoted by an operator")).await
}

/// Makes the champion before the present one champion again.
pub(super) async fn rollback(config: &Config) -> Result<Value, CliError> {
    let log = open(config, "roll back").await?;
    let line = champions(&records(&log).await?);
    let Some(now) = line.last().copied() else {
        return Err(CliError::because(
            "no version was ever made champion: the untrained policy serves, and there is nothing \
             before it",
        ));
    };
    let reason = (Some(now), "rolled back to by an operator");
    match line.len().checked_sub(2).and_then(|before| line.get(before)) {
        Some(before) => crown(config, &log, &get(config, *before).await?, reason).await,
        None if now == PolicyVersion(0) => Err(CliError::because(
            "the untrained policy is champion, and there is nothing before it",
        )),
        None => {
            let first = wiring::first_policy(config)
                .map_err(|e| CliError::failed("cannot make the untrained policy", e))?;
            crown(config, &log, &first, reason).await
        }
    }
}

async fn open(config: &Config, doing: &str) -> Result<OperatorLog, CliError> {
    if config.log.kind == LogKind::Memory {
        return Err(CliError::Usage(
            "`log.kind = \"memory\"` has no champion to move; give the --config of the service"
                .to_owned(),
        ));
    }
    OperatorLog::open(config).await.map_err(|error| match error {
        WiringError::Log(LogError::InUse(reason)) => CliError::because(format!(
            "cannot {doing} while a service has the log ({reason}): stop it (SIGTERM drains it), \
             run this again, and start it; `serve --role serve,judge` keeps the learner from \
             promoting over your choice"
        )),
        error => CliError::failed(format!("cannot {doing}"), error),
    })
}

/// Stores the snapshot (which is there already, but for the untrained policy) and writes the change
/// in one append, so that no reader sees half of it.
async fn crown(
    config: &Config,
    log: &OperatorLog,
    snapshot: &PolicySnapshot,
    (before, reason): (Option<PolicyVersion>, &str),
) -> Result<Value, CliError> {
    let version = snapshot.version;
    serving::from_snapshot(snapshot, &Device::Cpu)
        .map_err(|e| CliError::failed(format!("{version} cannot serve"), e))?;
    let stored = store(config)?.put(snapshot).await;
    let uri = stored.map_err(|e| CliError::failed(format!("cannot store {version}"), e))?;
    let mut changes = Vec::new();
    if let Some(before) = before {
        let old = get(config, before).await.ok();
        // A champion whose weights are lost is retired by its number alone.
        let old = old.unwrap_or_else(|| PolicySnapshot::new(before, None, "unknown", Vec::new()));
        let reason = format!("replaced by {version}, {reason}");
        changes.push(record(&old, "", PolicyState::Retired, &reason)?);
    }
    changes.push(record(snapshot, &uri, PolicyState::Champion, reason)?);
    log.append(Stream::Policies, changes)
        .await
        .map_err(|e| CliError::failed(format!("cannot make {version} champion"), e))?;
    Ok(json!({ "champion": version, "before": before, "changed": true, "uri": uri }))
}

fn record(
    snapshot: &PolicySnapshot,
    uri: &str,
    state: PolicyState,
    reason: &str,
) -> Result<NewRecord, CliError> {
    let time_ms = Clock::System.now_ms();
    let record = PolicyRecord {
        schema: SCHEMA_VERSION,
        version: snapshot.version,
        parent: snapshot.parent,
        recipe: snapshot.recipe.clone(),
        digest: snapshot.digest.clone(),
        uri: uri.to_owned(),
        state,
        // An operator's word holds whatever a learner did meanwhile.
        replaces: None,
        reason: reason.to_owned(),
        time_ms,
    };
    let payload = serde_json::to_vec(&record)
        .map_err(|e| CliError::failed("cannot write a policy as JSON", e))?;
    let (key, source) = (snapshot.version.to_string(), Stream::Policies.topic());
    let id = format!("{key}-{state:?}-{time_ms}").to_lowercase();
    let headers = [("ce_id", id.as_str()), ("ce_source", source), ("ce_type", source)];
    let headers: BTreeMap<String, String> =
        headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(NewRecord { key, headers, payload })
}

//! Making another version champion: records in the log, as the promoter writes them, which every
//! serving node follows.

use super::{get, records, store};
use crate::cli::CliError;
use crate::config::{Config, LogKind};
use crate::policy::serving;
use crate::wiring::{self, OperatorLog, WiringError};
use actors::clock::Clock;
use actors::ports::{LogError, NewRecord, Seal, Signature, Stream};
use actors::rollout::{self, Board, Grant, Issuer};
use actors::types::{PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion, StageEvidence};
use candle_core::Device;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes a version of the store champion: by the certificate that it has, or by an operator's word,
/// which is signed and on record.
pub(super) async fn promote(
    config: &Config,
    version: PolicyVersion,
    because: Option<&str>,
) -> Result<Value, CliError> {
    let log = open(config, &format!("promote {version}")).await?;
    let snapshot = get(config, version).await?;
    let board = Board::of(&records(&log).await?);
    let now = board.champion();
    if now == Some(version) {
        return Ok(json!({ "champion": version, "before": now, "changed": false }));
    }
    serving::from_snapshot(&snapshot, &Device::Cpu)
        .map_err(|e| CliError::failed(format!("{version} cannot serve"), e))?;
    let stored = store(config)?.put(&snapshot).await;
    let uri = stored.map_err(|e| CliError::failed(format!("cannot store {version}"), e))?;
    let known = board.standing(version).map(|standing| standing.record.clone());
    let now_ms = Clock::System.now_ms();
    let state = PolicyState::Champion;
    let known = known.filter(|record| record.digest == snapshot.digest);
    let mut record = known.unwrap_or_else(|| PolicyRecord::of(&snapshot, state, "", now_ms));
    (record.uri, record.state, record.share) = (uri.clone(), state, None);
    // An operator's word holds whatever a promoter did meanwhile.
    (record.step, record.replaces, record.time_ms) = (None, None, now_ms);
    record.reason = because.map_or_else(
        || "promoted by an operator on its certificate".to_owned(),
        |because| format!("promoted by an operator: {because}"),
    );
    let seal = seal(config)?;
    if let Err(fault) = certified(&record, Grant::Champion, &*seal) {
        let Some(because) = because else {
            return Err(CliError::because(format!(
                "{version} may not serve: {fault}. Let it earn a certificate (`regrade serve` \
                 leads it through its stages), or take it upon yourself with --because REASON, \
                 which is signed and on record"
            )));
        };
        let certificate = operators_word(config, seal, &mut record, (now, because))?;
        record.certificate = Some(Box::new(certificate));
    }
    // The new one first: a champion ends only by another in its place.
    let reason = format!("replaced by {version}, {}", record.reason);
    let mut changes = vec![record];
    if let Some(old) = now.and_then(|now| board.standing(now)) {
        changes.push(retired(&old.record, &reason, now_ms));
    }
    append(&log, &changes, &format!("make {version} champion")).await?;
    Ok(json!({ "champion": version, "before": now, "changed": true, "uri": uri }))
}

/// Makes the champion before the present one champion again.
pub(super) async fn rollback(config: &Config, because: Option<&str>) -> Result<Value, CliError> {
    let log = open(config, "roll back").await?;
    let board = Board::of(&records(&log).await?);
    let Some(now) = board.champion() else {
        return Err(CliError::because(
            "no version was ever made champion: the untrained policy serves, and there is nothing \
             before it",
        ));
    };
    let first = wiring::first_policy(config)
        .map_err(|e| CliError::failed("cannot make the untrained policy", e))?;
    let reason = because.unwrap_or("an operator said so");
    let Some(changes) = board.rollback(&first, reason, Clock::System.now_ms()) else {
        return Err(CliError::because(
            "the untrained policy is champion, and there is nothing before it",
        ));
    };
    let [restored, _] = &changes;
    let champion = restored.version;
    if champion == first.version {
        let stored = store(config)?.put(&first).await;
        stored.map_err(|e| CliError::failed("cannot store the untrained policy", e))?;
    } else {
        get(config, champion).await?;
    }
    append(&log, &changes, &format!("make {champion} champion")).await?;
    Ok(json!({ "champion": champion, "before": now, "changed": true, "uri": restored.uri }))
}

pub(super) fn seal(config: &Config) -> Result<Arc<dyn Seal>, CliError> {
    wiring::seal(config).map_err(|e| CliError::failed("cannot sign or verify certificates", e))
}

/// Whether the certificate of a record lets it do this.
pub(super) fn certified(
    record: &PolicyRecord,
    grant: Grant,
    seal: &dyn Seal,
) -> Result<(), rollout::Fault> {
    rollout::check(record, grant, |bytes, certificate| {
        let (key, signature) = (certificate.key.clone(), certificate.signature.clone());
        seal.verify(bytes, &Signature { key, signature }).map_err(|error| error.to_string())
    })
}

fn operators_word(
    config: &Config,
    seal: Arc<dyn Seal>,
    record: &mut PolicyRecord,
    (champion, because): (Option<PolicyVersion>, &str),
) -> Result<actors::types::Certificate, CliError> {
    // What speaks against it stays on record with the version; the certificate is the word alone.
    record.evidence = vec![StageEvidence {
        passed: true,
        reason: format!("an operator's word: {because}"),
        is_rederivable: false,
        ..StageEvidence::new(PolicyState::Candidate, 0)
    }];
    let issuer = Issuer {
        seal,
        config: config.service.rules(),
        node: format!("operator of {}", config.service.node),
    };
    let (state, now_ms) = (PolicyState::Champion, record.time_ms);
    let issued = issuer.certificate(record, (state, None), champion, now_ms);
    issued.map_err(|reason| CliError::because(format!("cannot certify: {reason}")))
}

fn retired(record: &PolicyRecord, reason: &str, time_ms: u64) -> PolicyRecord {
    let state = PolicyState::Retired;
    let reason = reason.to_owned();
    PolicyRecord { state, reason, step: None, replaces: None, time_ms, ..record.clone() }
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
            "cannot {doing} while a service has the log ({reason}): ask the service with \
             `regrade policy rollback --url http://…` (or `POST /v1/policies/rollback`), or stop it \
             (SIGTERM drains it), run this again, and start it"
        )),
        error => CliError::failed(format!("cannot {doing}"), error),
    })
}

/// Writes changes in one append, so that no reader sees half of them.
async fn append(log: &OperatorLog, changes: &[PolicyRecord], doing: &str) -> Result<(), CliError> {
    let new: Result<Vec<NewRecord>, CliError> = changes.iter().map(record).collect();
    let appended = log.append(Stream::Policies, new?).await;
    appended.map_err(|e| CliError::failed(format!("cannot {doing}"), e))
}

fn record(policy: &PolicyRecord) -> Result<NewRecord, CliError> {
    let payload = serde_json::to_vec(policy)
        .map_err(|e| CliError::failed("cannot write a policy as JSON", e))?;
    let (key, source) = (policy.version.to_string(), Stream::Policies.topic());
    let id = format!("{key}-{}-{}", policy.state.word(), policy.time_ms);
    let headers = [("ce_id", id.as_str()), ("ce_source", source), ("ce_type", source)];
    let headers: BTreeMap<String, String> =
        headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(NewRecord { key, headers, payload })
}

/// Makes a running service take a version back.
pub(super) async fn rollback_at(
    url: &str,
    version: Option<PolicyVersion>,
    because: Option<&str>,
) -> Result<Value, CliError> {
    let place = format!("{}/v1/policies/rollback", url.trim_end_matches('/'));
    let mut asked = json!({ "reason": because.unwrap_or_default() });
    if let Some(version) = version {
        asked["version"] = json!(version);
    }
    let hint = || format!("cannot ask `{place}`; is the service there?");
    let mut request = reqwest::Client::new().post(&place).json(&asked);
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.map_err(|e| CliError::failed(hint(), e))?;
    let status = response.status();
    let body: Value = response.json().await.map_err(|e| CliError::failed(hint(), e))?;
    if status.is_success() {
        return Ok(body);
    }
    let message = body["error"]["message"].as_str().unwrap_or("no reason given").to_owned();
    Err(CliError::because(format!("the service refused ({status}): {message}")))
}

/// Variable of the operator's token on this side.
const TOKEN: &str = "REGRADE_OPERATOR_TOKEN";

/// A snapshot that is the one on record.
pub(super) async fn on_record(
    config: &Config,
    record: &PolicyRecord,
) -> Result<PolicySnapshot, CliError> {
    let snapshot = get(config, record.version).await?;
    if snapshot.digest == record.digest {
        return Ok(snapshot);
    }
    Err(CliError::because(format!(
        "the store has digest {} for {}, on record is {}",
        snapshot.digest, record.version, record.digest
    )))
}

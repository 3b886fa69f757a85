//! `regrade policy verify VERSION`: a certificate held against the signature, the weights and the
//! log, figure by figure.

use super::change::{certified, on_record, seal};
use crate::cli::CliError;
use crate::config::Config;
use crate::evaluate::rederive::{Evidence, Rederived, StageCheck, rederive};
use crate::wiring::{self, OperatorLog};
use actors::ports::Stream;
use actors::rollout::{Board, Grant};
use actors::types::{PolicyState, PolicyVersion};
use serde_json::{Value, json};

/// One line a stage, and a last one with the verdict.
///
/// # Errors
/// No certificate, one that does not hold, records that are gone, or figures that differ.
pub(super) async fn verify(
    config: &Config,
    version: PolicyVersion,
) -> Result<(Vec<Value>, bool), CliError> {
    let failed = |e| CliError::failed("cannot verify: the log cannot be opened", e);
    let log = OperatorLog::open(config).await.map_err(failed)?;
    let board = Board::of(&super::records(&log).await?);
    let record = board.standing(version).map(|standing| standing.record.clone());
    let Some(record) = record else {
        return Err(CliError::because(format!("{version} is not on record")));
    };
    let Some(certificate) = record.certificate.clone() else {
        return Err(CliError::because(format!("{version} has no certificate")));
    };
    let claims = &certificate.claims;
    let grant = match claims.grants {
        PolicyState::Champion => Grant::Champion,
        _ => Grant::Canary(claims.share.unwrap_or_default()),
    };
    if let Err(fault) = certified(&record, grant, &*seal(config)?) {
        return Err(CliError::because(format!(
            "the certificate of {version} does not hold: {fault}"
        )));
    }
    let snapshot = on_record(config, &record).await?;
    let rules = config.service.rules();
    let is_derived = claims.stages.iter().any(|stage| stage.is_rederivable);
    if is_derived && rules != claims.config {
        return Err(CliError::because(format!(
            "{version} was decided under other rules (digest {}, now {rules}): give the \
             configuration of that time with --config",
            claims.config
        )));
    }
    let mut evidence = Evidence::default();
    for stream in [Stream::Episodes, Stream::Rewards, Stream::Shadows] {
        let read = log.read(stream).await;
        evidence.records.extend(read.map_err(|e| CliError::failed("cannot read the log", e))?);
    }
    let missing = evidence.missing(claims);
    if is_derived && !missing.is_empty() {
        return Err(CliError::because(format!(
            "the log no longer has what {version} was decided on: {}",
            missing.join(", ")
        )));
    }
    drop(log);
    let mut examiner =
        wiring::examiner(config).map_err(|e| CliError::failed("cannot examine again", e))?;
    let checks = tokio::task::block_in_place(|| {
        let rules = &config.service.promotion;
        rederive(claims, &snapshot, rules, &evidence, examiner.as_mut())
    });
    let checks = checks.map_err(|e| CliError::failed("cannot examine again", e))?;
    let holds = checks.iter().all(|check| check.outcome != Rederived::Different);
    let mut lines: Vec<Value> = checks.iter().map(line).collect();
    lines.push(json!({
        "version": version,
        "grants": claims.grants,
        "share": claims.share,
        "signed_by": certificate.key,
        "issuer": claims.issuer,
        "issued_ms": claims.issued_ms,
        "code": claims.code,
        "holds": holds,
    }));
    Ok((lines, holds))
}

fn line(check: &StageCheck) -> Value {
    json!(check)
}

//! `GET /v1/policies`: what became of every version, with evidence and certificate.
//! `POST /v1/policies/rollback`: takes one back, now.
//!
//! The second asks for the operator's token where `server.operator_token_env` names one.

use super::Gateway;
use super::body;
use super::error::ApiError;
use actors::rollout::Board;
use actors::types::{PolicyState, PolicyVersion};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The states in which a version may be, in order.
const STATES: [PolicyState; 7] = [
    PolicyState::Candidate,
    PolicyState::Parity,
    PolicyState::Offline,
    PolicyState::Shadow,
    PolicyState::Canary,
    PolicyState::Champion,
    PolicyState::Retired,
];

pub(super) async fn get(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, ApiError> {
    let board = gateway.within_deadline(async { Ok(gateway.door.board().await?) }).await?;
    Ok(Json(shown(&board)))
}

fn shown(board: &Board) -> Value {
    let all = STATES.iter().flat_map(|state| board.in_state(*state));
    let mut versions: Vec<Value> = all
        .map(|standing| {
            let record = &standing.record;
            json!({
                "version": record.version,
                "state": record.state,
                "share": record.share,
                "parent": record.parent,
                "recipe": record.recipe,
                "digest": record.digest,
                "reason": record.reason,
                "since_ms": record.time_ms,
                "changes": standing.step,
                "evidence": record.evidence,
                "certificate": record.certificate,
            })
        })
        .collect();
    versions.sort_by_key(|version| version["version"].as_u64());
    json!({
        "champion": board.champion(),
        "previous": board.previous(),
        "line": board.line(),
        "alarm_until_ms": board.alarm_until_ms(),
        "versions": versions,
    })
}

/// The request; `{}` takes the champion back.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RollbackRequest {
    /// The version to be taken back; absent: the champion.
    version: Option<PolicyVersion>,
    /// Why, for the record.
    reason: String,
}

pub(super) async fn rollback(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
) -> Result<Json<Value>, ApiError> {
    authorize(&gateway, &request)?;
    let done = gateway.within_deadline(async {
        let asked: RollbackRequest = body::read(request, &gateway.limits).await?;
        let reason = match asked.reason.trim() {
            "" => "rolled back by an operator",
            reason => reason,
        };
        let wait = Duration::from_millis(gateway.limits.request_deadline_ms);
        Ok(gateway.door.rollback(asked.version, reason, wait).await?)
    });
    Ok(Json(json!(done.await?)))
}

fn authorize(gateway: &Gateway, request: &Request<Body>) -> Result<(), ApiError> {
    let Some(variable) = &gateway.limits.operator_token_env else { return Ok(()) };
    let expected = std::env::var(variable).unwrap_or_default();
    if expected.is_empty() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "no_operator_token",
            format!("variable `{variable}` (`server.operator_token_env`) is not set here"),
        ));
    }
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Digests of equal length: how long the comparison takes says nothing of the token.
    let digest = |text: &str| actors::types::PolicySnapshot::digest_of(text.as_bytes());
    if digest(shown) == digest(&expected) {
        Ok(())
    } else {
        Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "operator_token",
            "send the operator's token as `authorization: Bearer …`",
        ))
    }
}

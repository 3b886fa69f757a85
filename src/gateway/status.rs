//! What operators and load balancers ask: is it alive, can it answer, what is it.

use super::error::ApiError;
use super::{Gateway, MODEL};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The process runs; says nothing of the service.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// The service can answer now: proven by a forward pass, not by a flag.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, ApiError> {
    if gateway.is_draining.load(Ordering::Relaxed) {
        return Err(not_ready("draining", "the service is stopping; ask another node"));
    }
    let readiness = gateway.within_deadline(async { Ok(gateway.door.ready().await) }).await?;
    if !readiness.ready {
        return Err(not_ready("not_ready", format!("not ready: {}", readiness.reasons.join("; "))));
    }
    Ok(Json(json!({ "status": "ready", "policy": gateway.door.policy() })))
}

fn not_ready(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
}

/// Prometheus text format.
pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    gateway.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], gateway.metrics.render())
}

/// Build, configuration and policy.
pub(super) async fn info(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    Json(json!({
        "name": MODEL,
        "version": env!("CARGO_PKG_VERSION"),
        "config_digest": gateway.config,
        "policy": gateway.door.policy(),
        "limits": gateway.limits,
    }))
}

/// The one model, in the shape OpenAI clients list models.
pub(super) async fn models(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    let policy = gateway.door.policy();
    Json(json!({
        "object": "list",
        "data": [{
            "id": MODEL,
            "object": "model",
            "created": 0,
            "owned_by": MODEL,
            "policy": policy,
        }],
    }))
}

//! `POST /v1/feedback`: a verdict on an earlier decision; stored before it is acknowledged.

use super::Gateway;
use super::body;
use super::error::ApiError;
use actors::types::{DecisionId, Feedback};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The request. `id` makes repeats harmless: a second one of the same id changes nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedbackRequest {
    decision_id: String,
    #[serde(default)]
    id: String,
    value: Option<f64>,
    #[serde(default)]
    references: Vec<String>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    time_ms: u64,
}

pub(super) async fn post(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let stored = gateway.within_deadline(async {
        let input: FeedbackRequest = body::read(request, &gateway.limits).await?;
        let feedback = admit(input)?;
        let decision_id = feedback.decision_id.clone();
        Ok((gateway.door.feedback(feedback).await?, decision_id))
    });
    let (id, decision_id) = stored.await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id, "decision_id": decision_id }))))
}

fn admit(input: FeedbackRequest) -> Result<Feedback, ApiError> {
    if input.decision_id.is_empty() {
        return Err(ApiError::field("decision_id", "send the `decision_id` of an answer"));
    }
    if input.value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        return Err(ApiError::field("value", "`value` must lie in 0..=1"));
    }
    if input.value.is_none() && input.references.is_empty() {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "empty_feedback",
            "the feedback says nothing: send `value`, `references`, or both",
        ));
    }
    Ok(Feedback {
        id: input.id,
        decision_id: DecisionId(input.decision_id),
        value: input.value,
        references: input.references,
        source: input.source,
        time_ms: input.time_ms,
    })
}

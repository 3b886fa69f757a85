//! `POST /v1/feedback`: what somebody says of an earlier decision; stored before it is acknowledged.

use super::Gateway;
use super::body;
use super::error::ApiError;
use actors::types::{DecisionId, DocumentId, Feedback, FeedbackKind};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The request. `id` makes repeats harmless: a second one of the same id on the same decision
/// changes nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedbackRequest {
    decision_id: String,
    #[serde(default)]
    id: String,
    kind: Option<FeedbackKind>,
    value: Option<f64>,
    #[serde(default)]
    references: Vec<String>,
    correction: Option<String>,
    #[serde(default)]
    documents: Vec<DocumentId>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    time_ms: u64,
}

/// 202 with `status` `joined`, `revised` or `pending` for what is stored; 200 for a repeat of what
/// the decision has already.
pub(super) async fn post(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let stored = gateway.within_deadline(async {
        let input: FeedbackRequest = body::read(request, &gateway.limits).await?;
        Ok(gateway.door.feedback(admit(input)?).await?)
    });
    let receipt = stored.await?;
    let status = if receipt.is_repeat { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(json!(receipt))))
}

fn admit(input: FeedbackRequest) -> Result<Feedback, ApiError> {
    let feedback = Feedback {
        id: input.id,
        decision_id: DecisionId(input.decision_id),
        kind: input.kind,
        value: input.value,
        references: input.references,
        correction: input.correction,
        documents: input.documents,
        source: input.source,
        time_ms: input.time_ms,
    };
    match feedback.check() {
        Ok(()) => Ok(feedback),
        Err(fault) if fault.field == Feedback::WHOLE => {
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "empty_feedback", fault.reason))
        }
        Err(fault) => Err(ApiError::field(fault.field, fault.to_string())),
    }
}

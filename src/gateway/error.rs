//! Every error of the wire: its status, its words, and the JSON that carries it.
//!
//! The body is `{"error": {message, type, param, code}}`, as OpenAI and vLLM clients expect.

use actors::service::{FeedbackError, OperatorError, ServiceError};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// One refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    /// Status line.
    pub(super) status: StatusCode,
    /// Stable word for programs.
    pub(super) code: &'static str,
    /// What was wrong and what to do, for people.
    pub(super) message: String,
    /// The field at fault, dotted.
    pub(super) param: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None }
    }

    /// 400 that names a field.
    pub(super) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_field", message).with_param(param)
    }

    pub(super) fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// 504 after the whole request's time.
    pub(super) fn deadline(ms: u64) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline",
            format!("no answer within {ms} ms; try again, or raise `server.request_deadline_ms`"),
        )
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            404 => "not_found_error",
            429 => "overloaded_error",
            503 => "unavailable_error",
            504 => "timeout_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": {
            "message": self.message,
            "type": self.kind(),
            "param": self.param,
            "code": self.code,
        }});
        let mut response = (self.status, axum::Json(body)).into_response();
        let may_retry =
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status);
        if may_retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Overloaded => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "overloaded",
                "too many queries at once; wait as long as `retry-after` says, or raise \
                 `service.admission.queue_max`",
            ),
            ServiceError::NotServing(reason) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_serving", reason)
            }
            ServiceError::Refused(reason) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", reason)
            }
            ServiceError::Unavailable { stage, reason } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                format!("stage `{stage}` is unavailable: {reason}"),
            ),
            ServiceError::Failed { stage, reason, timed_out } => {
                let (status, code) = match (timed_out, stage) {
                    (true, _) => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
                    (false, "retrieve" | "generate") => (StatusCode::BAD_GATEWAY, "failed"),
                    (false, "log") => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
                    (false, _) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
                };
                Self::new(status, code, format!("stage `{stage}` failed: {reason}"))
            }
        }
    }
}

impl From<FeedbackError> for ApiError {
    fn from(error: FeedbackError) -> Self {
        match error {
            FeedbackError::UnknownDecision(id) => Self::new(
                StatusCode::NOT_FOUND,
                "unknown_decision",
                format!(
                    "no decision `{id}` is known: send the `decision_id` of an answer that the \
                     log still holds"
                ),
            )
            .with_param("decision_id"),
            FeedbackError::Refused(fault) => {
                let message = fault.to_string();
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", message)
                    .with_param(fault.field)
            }
            full @ FeedbackError::Full(..) => {
                Self::new(StatusCode::CONFLICT, "too_much_feedback", full.to_string())
            }
            FeedbackError::Unavailable(reason) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason)
            }
        }
    }
}

impl From<OperatorError> for ApiError {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Refused(reason) => Self::new(StatusCode::CONFLICT, "refused", reason),
            OperatorError::Unavailable(reason) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason)
            }
        }
    }
}

//! What happens around every request: its id, its span, its counters, where its time went.

use super::Gateway;
use actors::service::Served;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use tracing::Instrument as _;

/// Counter of requests answered, by `route` and `status`.
pub const REQUESTS_TOTAL: &str = "regrade_http_requests_total";
/// Histogram of the time to answer a request, seconds, by `route`.
pub const REQUEST_DURATION_SECONDS: &str = "regrade_http_request_duration_seconds";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken from a client; a longer one is replaced.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Echoes or draws `x-request-id`, opens the span, counts.
pub(super) async fn observe(
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    // The template (`/v1/answer`), never the path itself: labels are closed sets.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let id = request_id(&request).unwrap_or_else(|| gateway.next_id("req"));
    let span = tracing::debug_span!("request", id, route);
    let started = tokio::time::Instant::now();
    let mut response = next.run(request).instrument(span).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!(REQUESTS_TOTAL, "route" => route.clone(), "status" => status).increment(1);
    metrics::histogram!(REQUEST_DURATION_SECONDS, "route" => route)
        .record(started.elapsed().as_secs_f64());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Milliseconds of each stage and of the whole, as replies carry them.
pub(super) fn timings(served: &Served) -> Value {
    json!({
        "retrieve_ms": served.timings.retrieve_ms,
        "decide_ms": served.timings.decide_ms,
        "generate_ms": served.timings.generate_ms,
        "total_ms": served.duration_ms,
    })
}

fn request_id(request: &Request<Body>) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    (!id.is_empty() && id.len() <= REQUEST_ID_CHARS_MAX).then(|| id.to_owned())
}

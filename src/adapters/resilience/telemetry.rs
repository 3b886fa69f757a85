//! The metrics of calls to other services. The label `target` is a closed set: one name an adapter.

use super::BreakerState;
use std::time::Duration;

const REQUESTS: &str = "regrade_remote_requests_total";
const SECONDS: &str = "regrade_remote_request_duration_seconds";
const RETRIES: &str = "regrade_remote_retries_total";
const BREAKER: &str = "regrade_breaker_state";

/// Every metric that is written here.
pub const METRICS: [&str; 4] = [REQUESTS, SECONDS, RETRIES, BREAKER];

/// One attempt is over; `outcome` is a word of the adapter's own closed set.
pub fn called(target: &'static str, outcome: &'static str, took: Duration) {
    metrics::counter!(REQUESTS, "target" => target, "outcome" => outcome).increment(1);
    metrics::histogram!(SECONDS, "target" => target).record(took.as_secs_f64());
}

/// A call was not made, because the circuit breaker is open.
pub fn not_admitted(target: &'static str) {
    let outcome = "not_admitted";
    metrics::counter!(REQUESTS, "target" => target, "outcome" => outcome).increment(1);
}

/// An attempt failed and will be repeated after `delay`.
pub(super) fn retries(
    target: &'static str,
    error: &dyn std::error::Error,
    attempt: u32,
    delay: Duration,
) {
    metrics::counter!(RETRIES, "target" => target).increment(1);
    tracing::warn!(service = target, %error, attempt, ?delay, "call failed, trying again");
}

/// A circuit breaker moved.
pub(super) fn breaker_moved(target: &'static str, state: BreakerState) {
    breaker_stands(target, state);
    tracing::warn!(service = target, ?state, "circuit breaker moved");
}

/// Where a circuit breaker stands.
pub(super) fn breaker_stands(target: &'static str, state: BreakerState) {
    let level = match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    };
    metrics::gauge!(BREAKER, "target" => target).set(level);
}

//! The metrics of an endpoint, by what it is used for (`generator`, `judge`, `rewriter`, …).

use super::{ChatError, ChatReply, ChatRequest};
use std::time::Duration;

const REQUESTS: &str = "regrade_chat_requests_total";
const SECONDS: &str = "regrade_chat_request_duration_seconds";
const RETRIES: &str = "regrade_chat_retries_total";
const TOKENS: &str = "regrade_chat_tokens_total";
const ESTIMATES: &str = "regrade_chat_usage_estimates_total";

/// All of them by name.
pub const METRICS: [&str; 6] = [REQUESTS, SECONDS, RETRIES, TOKENS, ESTIMATES, super::budget::USED];

/// A request is over.
pub(super) fn over(user: &'static str, result: Result<&ChatReply, &ChatError>, took: Duration) {
    let outcome = match result {
        Ok(_) => "ok",
        Err(error) => error.outcome(),
    };
    metrics::counter!(REQUESTS, "use" => user, "outcome" => outcome).increment(1);
    metrics::histogram!(SECONDS, "use" => user).record(took.as_secs_f64());
    let Ok(reply) = result else { return };
    let tokens = [("prompt", reply.usage.prompt), ("completion", reply.usage.completion)];
    for (kind, count) in tokens {
        metrics::counter!(TOKENS, "use" => user, "kind" => kind).increment(u64::from(count));
    }
    if reply.usage.is_estimated {
        metrics::counter!(ESTIMATES, "use" => user).increment(1);
    }
}

/// An attempt failed and is repeated after a pause.
pub(super) fn retried(user: &'static str, error: &ChatError, pause: Duration) {
    metrics::counter!(RETRIES, "use" => user).increment(1);
    tracing::warn!(user, %error, ?pause, "chat completion failed, trying again");
}

/// A request goes out; its texts stay out of the line.
pub(super) fn asked(user: &'static str, request: &ChatRequest) {
    let (messages, max_tokens) = (request.messages.len(), request.max_tokens);
    tracing::debug!(user, messages, max_tokens, "asking for a chat completion");
}

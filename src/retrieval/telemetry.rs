//! The metrics of retrieval that no actor sees: embedding and degraded searches.
//!
//! Labels are closed sets; never text of a query or document.

use super::Purpose;
use std::time::Duration;

/// Counter of texts embedded, by `purpose` (query, passage).
pub const EMBEDDED_TEXTS: &str = "regrade_embedder_texts_total";
/// Histogram of the time of one call, seconds, by `purpose`.
pub const EMBED_SECONDS: &str = "regrade_embedder_duration_seconds";
/// Counter of requests to an embedding server after the first, by `reason` (busy, broken, network).
pub const EMBED_RETRIES: &str = "regrade_embedder_retries_total";
/// Counter of searches that went on without dense vectors because the embedder failed.
pub const DEGRADED_SEARCHES: &str = "regrade_index_degraded_searches_total";

/// Every name above.
pub const METRICS: [&str; 4] = [EMBEDDED_TEXTS, EMBED_SECONDS, EMBED_RETRIES, DEGRADED_SEARCHES];

/// A call of an embedder gave vectors.
pub fn embedded(purpose: Purpose, texts: usize, took: Duration) {
    let purpose = match purpose {
        Purpose::Query => "query",
        Purpose::Passage => "passage",
    };
    metrics::counter!(EMBEDDED_TEXTS, "purpose" => purpose).increment(texts as u64);
    metrics::histogram!(EMBED_SECONDS, "purpose" => purpose).record(took.as_secs_f64());
}

/// A request to an embedding server is repeated.
pub fn embed_retried(reason: &'static str) {
    metrics::counter!(EMBED_RETRIES, "reason" => reason).increment(1);
}

/// A search goes on by terms alone.
pub fn search_degraded(error: &dyn std::error::Error) {
    metrics::counter!(DEGRADED_SEARCHES).increment(1);
    tracing::warn!(%error, "searching without dense vectors");
}

//! The HTTP door: routes, limits, health, metrics and the way down.
//!
//! Owns the wire and nothing behind it: every question goes to a [`Door`], which is the service. The
//! server takes its listener and its end as arguments, so a test binds port 0 and ends it at will.
//!
//! | route | what |
//! |---|---|
//! | `POST /v1/answer` | retrieve, select, answer |
//! | `POST /v1/rerank`, `/rerank`, `/v2/rerank` | select from given documents (Cohere, Jina shapes) |
//! | `POST /v1/feedback` | what somebody says of an earlier decision |
//! | `GET /v1/decisions/{id}` | a decision with its reward, all parts and revisions |
//! | `GET /v1/policies`, `POST /v1/policies/rollback` | what became of every version; take one back now |
//! | `GET /health/live`, `/health/ready` (`/health`, `/ping`) | process up; can it answer now |
//! | `GET /metrics`, `/info`, `/v1/models` | Prometheus text; build and policy; the model list |

mod answer;
mod body;
mod decisions;
mod door;
mod error;
mod feedback;
mod observe;
mod policies;
mod rerank;
mod status;

pub use door::Door;
pub use observe::{REQUEST_DURATION_SECONDS, REQUESTS_TOTAL};

use crate::config::ServerConfig;
use actors::types::{Digest, SelectionLimits, next_id};
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, post};
use error::ApiError;
use metrics_exporter_prometheus::PrometheusHandle;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Name of the one model this service offers, as in `GET /v1/models`.
pub const MODEL: &str = "regrade";

/// What a gateway is made of.
pub struct Parts {
    /// The service.
    pub door: Arc<dyn Door>,
    /// Limits of the wire.
    pub limits: ServerConfig,
    /// Limits of a selection unless a request lowers them.
    pub selection: SelectionLimits,
    /// Digest of the configuration in force, for `GET /info`.
    pub config: Digest,
    /// Where metrics are rendered from.
    pub metrics: PrometheusHandle,
    /// Seed of request and query ids.
    pub seed: u64,
}

/// State of all routes.
struct Gateway {
    door: Arc<dyn Door>,
    limits: ServerConfig,
    selection: SelectionLimits,
    config: Digest,
    metrics: PrometheusHandle,
    // Held for the drawing of one id, never across an await.
    rng: Mutex<StdRng>,
    is_draining: AtomicBool,
}

impl Gateway {
    fn next_id(&self, prefix: &str) -> String {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        next_id(prefix, &mut *rng)
    }

    /// Gives up on work at the deadline of a request.
    async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let ms = self.limits.request_deadline_ms;
        match tokio::time::timeout(Duration::from_millis(ms), work).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::deadline(ms)),
        }
    }
}

/// Why the server ended other than by draining.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The listener failed.
    #[error("the HTTP server stopped")]
    Io(#[from] std::io::Error),
    /// Requests were still under way at the deadline; they are cut off.
    #[error(
        "requests were still under way {ms} ms after the stop; raise `server.drain_deadline_ms`"
    )]
    DrainDeadline {
        /// The deadline.
        ms: u64,
    },
}

/// Serves until `stop` resolves, then lets requests under way finish within the drain deadline.
///
/// # Errors
/// When the listener fails, or requests outlive the deadline.
pub async fn run(
    listener: TcpListener,
    parts: Parts,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), GatewayError> {
    let ms = parts.limits.drain_deadline_ms;
    let gateway = Arc::new(Gateway {
        door: parts.door,
        limits: parts.limits,
        selection: parts.selection,
        config: parts.config,
        metrics: parts.metrics,
        rng: Mutex::new(StdRng::seed_from_u64(parts.seed)),
        is_draining: AtomicBool::new(false),
    });
    let (stopped, has_stopped) = oneshot::channel();
    let state = Arc::clone(&gateway);
    let graceful = async move {
        stop.await;
        state.is_draining.store(true, Ordering::Relaxed);
        // The receiver is gone only if the server ended first.
        let _ = stopped.send(());
    };
    let serve = axum::serve(listener, routes(gateway)).with_graceful_shutdown(graceful);
    tokio::select! {
        ended = async { serve.await } => Ok(ended?),
        () = deadline(has_stopped, ms) => Err(GatewayError::DrainDeadline { ms }),
    }
}

async fn deadline(has_stopped: oneshot::Receiver<()>, ms: u64) {
    match has_stopped.await {
        Ok(()) => tokio::time::sleep(Duration::from_millis(ms)).await,
        // The server ended first; its own branch reports that.
        Err(_) => std::future::pending().await,
    }
}

fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/answer", post(answer::post))
        .route("/v1/rerank", post(rerank::post))
        .route("/v2/rerank", post(rerank::post))
        .route("/rerank", post(rerank::post))
        .route("/v1/feedback", post(feedback::post))
        .route("/v1/decisions/{id}", get(decisions::get))
        .route("/v1/policies", get(policies::get))
        .route("/v1/policies/rollback", post(policies::rollback))
        .route("/health/live", get(status::live))
        .route("/health/ready", get(status::ready))
        .route("/health", get(status::ready))
        .route("/ping", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/info", get(status::info))
        .route("/v1/models", get(status::models))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&gateway), observe::observe))
        .with_state(gateway)
}

async fn unknown_route(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown_route",
        format!("no route `{}`; try /v1/answer, /v1/rerank, /v1/feedback, /health", uri.path()),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("`{}` does not answer {method}; see the `allow` header", uri.path()),
    )
}

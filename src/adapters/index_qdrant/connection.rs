//! The way to the server: one HTTP/2 connection, an API key, and one function through which every
//! call goes: timed, counted, retried, and guarded by the breaker.
//!
//! Uses the client stubs of `qdrant-client` on a channel of our own: its ready-made client repeats a
//! failed call once at once, which is one retry more than anybody counted. The channel connects
//! when it is first used, and again after a failure. Knows nothing of passages.

use super::config::QdrantConfig;
use super::failure::Failure;
use crate::adapters::resilience::{self, Breaker, Outcome, Retry};
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use rand::rngs::StdRng;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status};

/// The server's name in the metrics.
const TARGET: &str = "qdrant";
/// Largest reply that is read, bytes.
const REPLY_BYTES_MAX: usize = 256 << 20;
/// How often a silent connection is tested; one that does not answer is made anew.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) type Wire = InterceptedService<Channel, ApiKey>;

/// Adds the key to every call.
#[derive(Clone)]
pub(super) struct ApiKey(Option<MetadataValue<Ascii>>);

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

/// The services of the server.
#[derive(Clone)]
pub(super) struct Stubs {
    channel: Channel,
    key: ApiKey,
}

impl Stubs {
    fn wire(&self) -> Wire {
        InterceptedService::new(self.channel.clone(), self.key.clone())
    }

    pub(super) fn points(&self) -> PointsClient<Wire> {
        PointsClient::new(self.wire()).max_decoding_message_size(REPLY_BYTES_MAX)
    }

    pub(super) fn collections(&self) -> CollectionsClient<Wire> {
        CollectionsClient::new(self.wire())
    }

    pub(super) fn server(&self) -> QdrantClient<Wire> {
        QdrantClient::new(self.wire())
    }
}

/// What one call may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Longest attempt.
    pub(super) timeout: Duration,
    /// The end of the last attempt.
    pub(super) deadline: Instant,
    /// Whether the breaker is asked, and told.
    pub(super) is_guarded: bool,
}

/// The server and how it is called.
pub(super) struct Connection {
    stubs: Stubs,
    retry: Retry,
    breaker: Breaker,
}

impl Connection {
    /// Opens nothing yet; refuses an address or a key that cannot be one.
    pub(super) fn new(config: &QdrantConfig, rng: StdRng) -> Result<Self, Failure> {
        let wrong = |reason: String| {
            Failure::Misfit(format!("cannot use `index.qdrant.url` `{}`: {reason}", config.url))
        };
        let endpoint = Endpoint::from_shared(config.url.clone())
            .map_err(|error| wrong(error.to_string()))?
            .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let endpoint = if config.url.starts_with("https://") {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint.tls_config(tls).map_err(|error| wrong(error.to_string()))?
        } else {
            endpoint
        };
        let key = api_key(config)?;
        let stubs = Stubs { channel: endpoint.connect_lazy(), key: ApiKey(key) };
        Ok(Self {
            stubs,
            retry: Retry::new(TARGET, config.retry, rng),
            breaker: Breaker::new(TARGET, config.breaker),
        })
    }

    /// Makes a call, as often as the budget allows.
    pub(super) async fn call<Q, R, F>(
        &self,
        budget: Budget,
        request: &Q,
        send: impl Fn(Stubs, Q) -> F,
    ) -> Result<R, Failure>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = || self.attempt(budget, send(self.stubs.clone(), request.clone()));
        self.retry.run(budget.deadline, Failure::advice, attempt).await
    }

    async fn attempt<R>(
        &self,
        budget: Budget,
        call: impl Future<Output = Result<Response<R>, Status>>,
    ) -> Result<R, Failure> {
        let permit = match budget.is_guarded.then(|| self.breaker.admit()).transpose() {
            Ok(permit) => permit,
            Err(refused) => {
                resilience::not_admitted(TARGET);
                return Err(refused.into());
            }
        };
        let began = Instant::now();
        let time = budget.timeout.min(budget.deadline.saturating_duration_since(began));
        let result = match timeout(time, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Failure::from(status)),
            Err(_) => Err(Failure::Deadline(time)),
        };
        let (outcome, label) = match &result {
            Ok(_) => (Outcome::Success, "ok"),
            Err(failure) => (failure.outcome(), failure.label()),
        };
        resilience::called(TARGET, label, began.elapsed());
        if let Some(permit) = permit {
            permit.settle(outcome);
        }
        result
    }
}

fn api_key(config: &QdrantConfig) -> Result<Option<MetadataValue<Ascii>>, Failure> {
    let Some(name) = &config.api_key_env else { return Ok(None) };
    let misfit = |what: &str| {
        Failure::Misfit(format!(
            "the environment variable `{name}` of `index.qdrant.api_key_env` {what}"
        ))
    };
    let key = std::env::var(name).map_err(|_| misfit("is not set"))?;
    let mut key = MetadataValue::try_from(key.trim())
        .map_err(|_| misfit("holds characters that a key cannot have"))?;
    key.set_sensitive(true);
    if config.url.starts_with("http://") {
        tracing::warn!(url = config.url, "the API key goes over a connection without TLS");
    }
    Ok(Some(key))
}

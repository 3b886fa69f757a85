//! One request from permit to reply: who may ask now, under which deadline, and when to ask again.

use super::wire::{Body, Gathered};
use super::{
    Budget, ChatError, ChatFailure, ChatReply, ChatRequest, EndpointConfig, Finish, TokenUsage,
    body, estimated_tokens, metrics, retry,
};
use actors::clock::Clock;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::{Host, Url};

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A setting is wrong.
    #[error("`{field}`: expected {expected}")]
    Setting {
        /// The field of the endpoint.
        field: &'static str,
        /// What would do.
        expected: String,
    },
    /// The key is not there.
    #[error(
        "environment variable `{name}`, named by `api_key_env`, {problem}: set it to the key, or \
         leave `api_key_env` out"
    )]
    Key {
        /// The variable.
        name: String,
        /// What is wrong with it; never its value.
        problem: &'static str,
    },
    /// The HTTP client cannot be built.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

/// A client of one endpoint. Clones share permits, connections and the budget.
#[derive(Debug, Clone)]
pub struct ChatClient {
    inner: Arc<Inner>,
    budget: Option<Arc<Budget>>,
}

#[derive(Debug)]
struct Inner {
    user: &'static str,
    config: EndpointConfig,
    url: Url,
    http: reqwest::Client,
    permits: Semaphore,
    waiting: AtomicUsize,
    clock: Clock,
    rng: Mutex<StdRng>,
}

impl ChatClient {
    /// A client for one use (`generator`, `judge`, …), which is the label of its metrics. `clock`
    /// measures dates in `Retry-After`; `seed` varies the pauses. Opens no connection yet.
    ///
    /// # Errors
    /// A setting that is wrong, or a key that is not there.
    pub fn new(
        user: &'static str,
        config: EndpointConfig,
        clock: Clock,
        seed: u64,
    ) -> Result<Self, ClientError> {
        let setting = |(field, expected)| ClientError::Setting { field, expected };
        config.validate().map_err(setting)?;
        let url = config.completions().map_err(|expected| setting(("url", expected)))?;
        let mut headers = HeaderMap::new();
        if let Some(name) = &config.api_key_env {
            headers.insert(AUTHORIZATION, bearer(name)?);
        }
        let mut http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(Duration::from_millis(config.connect_ms))
            // A redirect would carry prompt and key to a place that nobody configured.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| ClientError::Client(body::causes(&error)))?;
        let inner = Arc::new(Inner {
            user,
            url,
            http,
            permits: Semaphore::new(config.concurrency.min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            clock,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            config,
        });
        Ok(Self { inner, budget: None })
    }

    /// The same client, each of whose requests is paid for out of a budget, or not made.
    #[must_use]
    pub fn with_budget(self, budget: Arc<Budget>) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// The endpoint as configured.
    pub fn config(&self) -> &EndpointConfig {
        &self.inner.config
    }

    /// Asks for a completion, as often as the configuration allows and the deadline lets.
    ///
    /// # Errors
    /// Why the last attempt failed; or there was none, for want of budget.
    pub async fn complete(&self, request: &ChatRequest) -> Result<ChatReply, ChatFailure> {
        let Some(budget) = &self.budget else { return self.inner.complete(request).await };
        let most = budget.most(request);
        // Each attempt may be charged for, and one whose reply is lost does not say how much.
        let reserved = budget.reserve(most.times(u64::from(self.config().attempts_max))).await;
        let not_asked =
            |reason| ChatFailure { error: ChatError::Budget(reason), attempts: 0, lost: 0 };
        let reservation = match reserved {
            Ok(Some(reservation)) => reservation,
            Ok(None) => return Err(not_asked("the budget is spent".to_owned())),
            Err(error) => return Err(not_asked(error.to_string())),
        };
        let result = self.inner.complete(request).await;
        budget.settle(reservation, budget.cost(&result, most)).await;
        result
    }
}

impl Inner {
    async fn complete(&self, request: &ChatRequest) -> Result<ChatReply, ChatFailure> {
        let began = Instant::now();
        metrics::asked(self.user, request);
        let result = self.attempts(request, began).await;
        metrics::over(self.user, result.as_ref().map_err(|f| &f.error), began.elapsed());
        result
    }

    async fn attempts(
        &self,
        request: &ChatRequest,
        began: Instant,
    ) -> Result<ChatReply, ChatFailure> {
        let longest = Duration::from_millis(self.config.deadline_ms);
        let deadline = began + longest;
        let (mut attempts, mut lost) = (0, 0);
        let failed = |error, attempts, lost| ChatFailure { error, attempts, lost };
        let _permit = match timeout_at(deadline, self.permit()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(error)) => return Err(failed(error, 0, 0)),
            Err(_) => return Err(failed(ChatError::Deadline(longest), 0, 0)),
        };
        loop {
            attempts += 1;
            let error = match timeout_at(deadline, self.attempt(request)).await {
                Ok(Ok(reply)) => return Ok(ChatReply { lost, ..reply }),
                Ok(Err(error)) => error,
                Err(_) => ChatError::Deadline(longest),
            };
            lost += u32::from(error.may_have_cost());
            if attempts >= self.config.attempts_max || !error.is_passing() {
                return Err(failed(error, attempts, lost));
            }
            let pause = self.pause(attempts, &error);
            if Instant::now() + pause >= deadline {
                return Err(failed(error, attempts, lost));
            }
            metrics::retried(self.user, &error, pause);
            sleep(pause).await;
        }
    }

    /// Waits for a place, unless too many wait already.
    async fn permit(&self) -> Result<SemaphorePermit<'_>, ChatError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _leaves = Leaves(&self.waiting);
        if waiting >= self.config.waiting_max {
            return Err(ChatError::Overloaded { waiting });
        }
        self.permits.acquire().await.map_err(|_| ChatError::Overloaded { waiting })
    }

    async fn attempt(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let accept = if self.config.stream { "text/event-stream" } else { "application/json" };
        let body = Body::of(&self.config, request);
        let sent = self.http.post(self.url.clone()).header(ACCEPT, accept).json(&body).send();
        let first_byte = Duration::from_millis(self.config.first_byte_ms);
        let sent = timeout(first_byte, sent).await.map_err(|_| ChatError::Stalled(first_byte))?;
        let response = sent.map_err(|error| {
            let causes = body::causes(&error);
            if error.is_connect() {
                ChatError::Unreachable(causes)
            } else {
                ChatError::Lost(causes)
            }
        })?;
        let status = response.status();
        if !status.is_success() {
            let retry_after = retry::retry_after(response.headers(), &self.clock);
            let gap = Duration::from_millis(self.config.gap_ms);
            let message = body::read_error(response, gap).await;
            return Err(ChatError::Status { status: status.as_u16(), message, retry_after });
        }
        body::read(response, &self.config).await.map(|gathered| reply(gathered, request))
    }

    fn pause(&self, failures: u32, error: &ChatError) -> Duration {
        let base = Duration::from_millis(self.config.backoff_ms);
        let max = Duration::from_millis(self.config.backoff_max_ms);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let own = retry::pause(failures, base, max, &mut *rng);
        match error {
            ChatError::Status { retry_after: Some(asked), .. } => own.max(*asked),
            _ => own,
        }
    }
}

/// Takes one from a count when it goes.
struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn reply(gathered: Gathered, request: &ChatRequest) -> ChatReply {
    let usage = gathered.usage.unwrap_or_else(|| {
        let prompt = request.messages.iter().map(|m| estimated_tokens(&m.content));
        let prompt = prompt.fold(0, u32::saturating_add);
        let completion = estimated_tokens(&gathered.text);
        TokenUsage { prompt, completion, is_estimated: true }
    });
    ChatReply {
        text: gathered.text,
        finish: gathered.finish.unwrap_or(Finish::Other),
        model: gathered.model,
        usage,
        lost: 0,
    }
}

fn bearer(name: &str) -> Result<HeaderValue, ClientError> {
    let wrong = |problem| ClientError::Key { name: name.to_owned(), problem };
    let key = std::env::var(name).map_err(|_| wrong("is not set (or no UTF-8)"))?;
    if key.trim().is_empty() {
        return Err(wrong("is empty"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.trim()))
        .map_err(|_| wrong("holds characters that no header may"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

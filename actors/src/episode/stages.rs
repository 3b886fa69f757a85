//! The stages of an episode: each one request to an actor or the log, under a deadline, with its
//! failures in one form.

use super::{Config, Experiments, OnRetrievalFailure, Request};
use crate::bounds::guarded;
use crate::clock::Clock;
use crate::ports::{DecideRequest, EventLog, LogError, Rewriter, Search, Stream};
use crate::slot::{Slot, SlotError};
use crate::tail::record;
use crate::types::{
    Answer, Candidate, Decision, Degraded, Document, Episode, PolicyStamp, PolicyVersion, Query,
    Rewrite,
};
use crate::{generator, reranker, retriever, telemetry};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage} failed: {reason}")]
pub struct Failure {
    /// `retrieve`, `decide`, `generate` or `log`.
    pub stage: &'static str,
    /// Why.
    pub reason: String,
    /// Whether time ran out.
    pub timed_out: bool,
    /// Whether the request itself was refused.
    pub is_refused: bool,
    /// Whether a stage had too much to do.
    pub is_overloaded: bool,
    /// Whether what a stage needs was away; another try may succeed.
    pub is_unavailable: bool,
}

impl Failure {
    /// A failure that is of no special kind.
    pub fn of(stage: &'static str, reason: String) -> Self {
        Self {
            stage,
            reason,
            timed_out: false,
            is_refused: false,
            is_overloaded: false,
            is_unavailable: false,
        }
    }

    fn slot(stage: &'static str, error: &SlotError) -> Self {
        let timed_out = matches!(error, SlotError::Deadline(_));
        Self { timed_out, ..Self::of(stage, error.to_string()) }
    }
}

/// Everything an episode reaches.
pub struct Context {
    /// Address of the retriever.
    pub retriever: Slot<retriever::Message>,
    /// Address of the reranker.
    pub reranker: Slot<reranker::Message>,
    /// Address of the generator.
    pub generator: Slot<generator::Message>,
    /// Canaries and shadows.
    pub experiments: Experiments,
    /// What proposes other texts to search with, if anything does.
    pub rewriter: Option<Arc<dyn Rewriter>>,
    /// Where the episode goes.
    pub log: Arc<dyn EventLog>,
    /// Which weights serve.
    pub serving: watch::Receiver<PolicyStamp>,
    /// Stamps.
    pub clock: Clock,
    /// Bounds.
    pub config: Config,
    /// Longest decision.
    pub decide_deadline: Duration,
    /// Longest retrieval, waiting for a restart included.
    pub retrieve_deadline: Duration,
    /// Longest generation, waiting for a restart included.
    pub generate_deadline: Duration,
}

impl Context {
    /// Other texts to search with; none when there is no rewriter, or it fails or takes too long:
    /// a rewrite is a help, and the query as asked will do.
    #[tracing::instrument(name = "rewriter.propose", skip_all)]
    pub(super) async fn rewrites(&self, query: &Query, deadline: Instant) -> Vec<Rewrite> {
        let Some(rewriter) = self.rewriter.clone() else { return Vec::new() };
        let (began, query) = (Instant::now(), query.clone());
        let longest = Duration::from_millis(self.config.rewrite_deadline_ms);
        let longest = longest.min(deadline.saturating_duration_since(began));
        let proposed = guarded(longest, async move { rewriter.propose(&query).await }).await;
        telemetry::stage_took("rewrite", began.elapsed());
        let (rewrites, outcome) = match proposed {
            Ok(Ok(mut rewrites)) => {
                rewrites.retain(|rewrite| !rewrite.text.trim().is_empty());
                let outcome = if rewrites.is_empty() { "none" } else { "applied" };
                (rewrites, outcome)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "no rewrite, searching with the query as asked");
                (Vec::new(), "failed")
            }
            Err(broken) => {
                tracing::warn!(%broken, "no rewrite, searching with the query as asked");
                (Vec::new(), "failed")
            }
        };
        telemetry::count(telemetry::REWRITES, "outcome", outcome);
        rewrites
    }

    #[tracing::instrument(name = "retriever.search", skip_all, fields(k = search.k))]
    pub(super) async fn retrieve(
        &self,
        search: Search,
        deadline: Instant,
    ) -> Result<Vec<Candidate>, Failure> {
        let began = Instant::now();
        let build = |reply| retriever::Message::Search { search: search.clone(), reply };
        let deadline = deadline.min(began + self.retrieve_deadline);
        let found = self.retriever.call(build, deadline).await;
        telemetry::stage_took("retrieve", began.elapsed());
        let found = found.map_err(|error| Failure {
            is_unavailable: !matches!(error, SlotError::Deadline(_)),
            ..Failure::slot("retrieve", &error)
        })?;
        found.map_err(|error| Failure {
            timed_out: error == retriever::Error::Deadline,
            is_refused: matches!(error, retriever::Error::Refused(_)),
            is_overloaded: error == retriever::Error::Overloaded,
            is_unavailable: matches!(error, retriever::Error::Unavailable(_)),
            ..Failure::of("retrieve", error.to_string())
        })
    }

    /// What an answer does without after a failed retrieval, or the failure if it may not.
    pub(super) fn without_documents(&self, failure: Failure) -> Result<Degraded, Failure> {
        let is_passing = failure.is_unavailable || failure.timed_out;
        if self.config.on_retrieval_failure == OnRetrievalFailure::Fail || !is_passing {
            return Err(failure);
        }
        telemetry::degraded(if failure.timed_out { "deadline" } else { "unavailable" }, &failure);
        Ok(Degraded { stage: failure.stage.to_owned(), reason: failure.reason })
    }

    #[tracing::instrument(
        name = "reranker.decide",
        skip_all,
        fields(decision_id = %request.decision_id, candidates = candidates.len())
    )]
    pub(super) async fn decide(
        &self,
        request: &Request,
        (candidates, policy): (&[Candidate], Option<PolicyVersion>),
        deadline: Instant,
    ) -> Result<Decision, Failure> {
        let began = Instant::now();
        let request = DecideRequest {
            id: request.decision_id.clone(),
            query: request.query.clone(),
            candidates: candidates.to_vec(),
            policy,
            limits: request.limits,
            exploration: request.exploration,
        };
        let build = |reply| reranker::Message::Decide(Box::new(request.clone()), reply);
        let deadline = deadline.min(began + self.decide_deadline);
        let decided = self.reranker.call(build, deadline).await;
        telemetry::stage_took("decide", began.elapsed());
        let decided = decided.map_err(|error| Failure::slot("decide", &error))?;
        decided.map_err(|error| Failure {
            is_refused: matches!(error, reranker::Error::Refused(_)),
            is_overloaded: error == reranker::Error::Overloaded,
            ..Failure::of("decide", error.to_string())
        })
    }

    #[tracing::instrument(
        name = "generator.answer",
        skip_all,
        fields(documents = documents.len())
    )]
    pub(super) async fn generate(
        &self,
        query: &Query,
        documents: Vec<Document>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let began = Instant::now();
        let build = |reply| generator::Message::Answer {
            query: Box::new(query.clone()),
            documents: documents.clone(),
            reply,
        };
        let deadline = deadline.min(began + self.generate_deadline);
        let answered = self.generator.call(build, deadline).await;
        telemetry::stage_took("generate", began.elapsed());
        let answered = answered.map_err(|error| Failure::slot("generate", &error))?;
        answered.map_err(|error| Failure {
            timed_out: error == generator::Error::Deadline,
            is_refused: matches!(error, generator::Error::Refused(_)),
            is_overloaded: error == generator::Error::Overloaded,
            ..Failure::of("generate", error.to_string())
        })
    }

    /// Makes the episode durable; a passing failure is tried again until the log's own deadline.
    pub(super) async fn append(&self, episode: &Episode) -> Result<(), Failure> {
        let began = Instant::now();
        let deadline = began + Duration::from_millis(self.config.log_deadline_ms);
        let key = episode.decision_id().map_or(episode.query.id.as_str(), |id| id.as_str());
        let new = record(key, (key, Stream::Episodes.topic()), episode).map_err(|e| log(&e))?;
        loop {
            let append = self.log.append(Stream::Episodes, vec![new.clone()]);
            let error = match timeout_at(deadline, append).await {
                Ok(Ok(_)) => break,
                Ok(Err(error)) => error,
                Err(_) => LogError::Unavailable("no reply within the deadline".to_owned()),
            };
            let pause = Duration::from_millis(self.config.backoff_ms);
            let is_passing = matches!(error, LogError::Unavailable(_) | LogError::Full(_));
            if !is_passing || Instant::now() + pause >= deadline {
                tracing::error!(%error, "episode cannot be logged");
                telemetry::count(telemetry::LOG_FAILURES, "actor", "episode");
                return Err(log(&error));
            }
            telemetry::log_failed("episode", &error, pause);
            sleep(pause).await;
        }
        telemetry::stage_took("log", began.elapsed());
        Ok(())
    }
}

fn log(error: &LogError) -> Failure {
    Failure::of("log", error.to_string())
}

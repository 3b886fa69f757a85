//! One query from top to bottom: retrieve, decide, generate, log, reply.
//!
//! Floor 3. Only this file decides what happens next to a query. Every stage has a deadline; a
//! stage whose actor dies is repeated by its slot within it. The reply leaves only after the log
//! holds the episode: what cannot be logged is a failure, not a loss.

mod stages;

use crate::types::{
    Answer, Candidate, Decision, DecisionId, Document, Episode, Exploration, Gate, Outcome, Query,
    Ranked, SelectionLimits, Served,
};
use serde::{Deserialize, Serialize};
pub use stages::{Context, Failure};
use tokio::time::Instant;

/// Bounds of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest time from admission to the end of generation, milliseconds, ≥ 1.
    pub deadline_ms: u64,
    /// Time kept for the log beyond that, milliseconds, ≥ 1.
    pub log_deadline_ms: u64,
    /// Times a stage is sent to an actor that died with it, ≥ 1.
    pub attempts_max: usize,
    /// Pause after a failed append, milliseconds, ≥ 1.
    pub backoff_ms: u64,
    /// Most candidates a query may bring or ask for, ≥ 1.
    pub candidates_max: usize,
    /// Longest query text, bytes, ≥ 1.
    pub query_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline_ms: 30_000,
            log_deadline_ms: 5_000,
            attempts_max: 4,
            backoff_ms: 50,
            candidates_max: 500,
            query_bytes_max: 16_384,
        }
    }
}

impl Config {
    /// Checks every value, naming the first field that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        crate::bounds::all_at_least_one(&[
            ("deadline_ms", self.deadline_ms),
            ("log_deadline_ms", self.log_deadline_ms),
            ("attempts_max", self.attempts_max as u64),
            ("backoff_ms", self.backoff_ms),
            ("candidates_max", self.candidates_max as u64),
            ("query_bytes_max", self.query_bytes_max as u64),
        ])
    }
}

/// One query as admitted, with everything chosen for it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The query.
    pub query: Query,
    /// Name of the decision to be made.
    pub decision_id: DecisionId,
    /// Documents asked of the index.
    pub top_n: usize,
    /// Limits of the selection.
    pub limits: SelectionLimits,
    /// How to draw.
    pub exploration: Exploration,
    /// Whether to generate an answer, or only rank the query's own candidates.
    pub is_rerank: bool,
}

/// What an episode has come to so far.
#[derive(Default)]
struct Trace {
    candidates: Vec<Candidate>,
    decision: Option<Decision>,
}

/// Serves one query and logs it, whatever becomes of it.
pub async fn run(context: &Context, request: Request) -> Result<Served, Failure> {
    let began = Instant::now();
    let mut trace = Trace::default();
    let result = serve(context, &request, began, &mut trace).await;

    let outcome = match &result {
        Ok(Some(answer)) => Outcome::Answered { answer: answer.clone() },
        Ok(None) => Outcome::Reranked,
        Err(failure) => {
            Outcome::Failed { stage: failure.stage.to_owned(), reason: failure.reason.clone() }
        }
    };
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let episode = Episode {
        schema: Episode::SCHEMA,
        query: request.query,
        candidates: trace.candidates,
        decision: trace.decision,
        outcome,
        finished_ms: context.clock.now_ms(),
        duration_ms,
    };
    let logged = context.append(&episode).await;
    // The first failure is the reason the caller hears; a failing log is one only by itself.
    let answer = result?;
    logged?;
    served(episode, answer)
}

/// Retrieves, decides and generates.
async fn serve(
    context: &Context,
    request: &Request,
    began: Instant,
    trace: &mut Trace,
) -> Result<Option<Answer>, Failure> {
    let deadline = began + std::time::Duration::from_millis(context.config.deadline_ms);
    trace.candidates = match &request.query.candidates {
        Some(documents) => as_given(documents),
        None => context.retrieve(&request.query.text, request.top_n, deadline).await?,
    };
    let decision = if trace.candidates.is_empty() {
        nothing_to_choose(context, request)
    } else {
        context.decide(request, &trace.candidates, deadline).await?
    };
    let documents = chosen(&decision, &trace.candidates)?;
    trace.decision = Some(decision);
    if request.is_rerank {
        return Ok(None);
    }
    context.generate(&request.query, documents, deadline).await.map(Some)
}

/// The query's own candidates in their order; they bring no score.
fn as_given(documents: &[Document]) -> Vec<Candidate> {
    let ranked = (0..).zip(documents);
    ranked.map(|(rank, d)| Candidate { document: d.clone(), score: 0.0, rank }).collect()
}

/// The decision when the index knows nothing: answer directly, with certainty.
fn nothing_to_choose(context: &Context, request: &Request) -> Decision {
    Decision {
        id: request.decision_id.clone(),
        gate: Gate::Direct,
        rewrite: 0,
        order: Vec::new(),
        step_log_probs: Vec::new(),
        scores: Vec::new(),
        exploration: Exploration::Greedy,
        limits: request.limits,
        candidate_tokens: Vec::new(),
        states: crate::types::CandidateStates::default(),
        policy: context.serving.borrow().clone(),
    }
}

/// The documents the generator sees, in order; a decision that names no candidate is a fault.
fn chosen(decision: &Decision, candidates: &[Candidate]) -> Result<Vec<Document>, Failure> {
    if decision.gate == Gate::Direct {
        return Ok(Vec::new());
    }
    let found = decision.order.iter().map(|index| {
        let candidate = candidates.get(*index as usize);
        candidate.map(|candidate| candidate.document.clone()).ok_or_else(|| {
            Failure::of("decide", format!("policy chose candidate {index} of {}", candidates.len()))
        })
    });
    found.collect()
}

fn served(episode: Episode, answer: Option<Answer>) -> Result<Served, Failure> {
    let Some(decision) = episode.decision else {
        return Err(Failure::of("decide", "an episode was served without a decision".to_owned()));
    };
    let ranked = decision.order.iter().filter_map(|index| {
        let candidate = episode.candidates.get(*index as usize)?;
        let score = decision.scores.get(*index as usize).copied().unwrap_or_default();
        Some(Ranked { document: candidate.document.clone(), index: *index, score })
    });
    Ok(Served {
        documents: ranked.collect(),
        query_id: episode.query.id,
        decision_id: decision.id,
        answer,
        gate: decision.gate,
        policy: decision.policy,
        duration_ms: episode.duration_ms,
    })
}

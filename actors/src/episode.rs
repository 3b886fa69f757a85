//! One query from top to bottom: rewrite, retrieve, decide, generate, log, reply.
//!
//! Floor 3. Only this file decides what happens next to a query. Every stage has a deadline; a
//! stage whose actor dies is repeated by its slot within it. The reply leaves only after the log
//! holds the episode: what cannot be logged is a failure, not a loss.

mod arms;
mod config;
mod stages;

use crate::ports::Search;
use crate::telemetry;
use crate::types::{
    Answer, Assignment, Candidate, Decision, DecisionId, Degraded, Document, Episode, Exploration,
    Gate, Interleaved, Outcome, Query, Ranked, Rewrite, SelectionLimits, Served, Timings,
};
pub use arms::Experiments;
pub use config::{Config, OnRetrievalFailure};
pub use stages::{Context, Failure};
use std::time::Duration;
use tokio::time::Instant;

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
    /// Whether it is greedy because the budget of exploration is spent.
    pub is_budget_spent: bool,
    /// Where it stands in the experiments under way.
    pub assignment: Assignment,
    /// Whether to generate an answer, or only rank the query's own candidates.
    pub is_rerank: bool,
}

/// What an episode has come to so far.
#[derive(Default)]
struct Trace {
    rewrites: Vec<Rewrite>,
    candidates: Vec<Candidate>,
    decision: Option<Decision>,
    degraded: Option<Degraded>,
    assignment: Option<Assignment>,
    interleaved: Option<Interleaved>,
    timings: Timings,
}

/// Serves one query and logs it, whatever becomes of it.
#[tracing::instrument(name = "episode", skip_all, fields(query_id = %request.query.id))]
pub async fn run(context: &Context, request: Request) -> Result<Served, Failure> {
    let began = Instant::now();
    let mut trace = Trace { assignment: Some(request.assignment.clone()), ..Trace::default() };
    let result = serve(context, &request, began, &mut trace).await;
    arms::credit(&mut trace, result.as_ref().ok().and_then(Option::as_ref));

    let outcome = match &result {
        Ok(Some(answer)) => Outcome::Answered { answer: answer.clone() },
        Ok(None) => Outcome::Reranked,
        Err(failure) => {
            Outcome::Failed { stage: failure.stage.to_owned(), reason: failure.reason.clone() }
        }
    };
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (decision, flaws) =
        (trace.decision.as_ref(), (trace.degraded.as_ref(), trace.interleaved.as_ref()));
    let unusable = arms::unusable_for_ope(decision, flaws, request.is_budget_spent);
    let episode = Episode {
        schema: Episode::SCHEMA,
        query: request.query,
        rewrites: trace.rewrites,
        candidates: trace.candidates,
        decision: trace.decision,
        outcome,
        degraded: trace.degraded,
        assignment: trace.assignment,
        interleaved: trace.interleaved,
        unusable_for_ope: unusable.map(str::to_owned),
        finished_ms: context.clock.now_ms(),
        duration_ms,
    };
    telemetry::count(telemetry::OPE_USABLE, "reason", unusable.unwrap_or("usable"));
    if let Some(decision) = &episode.decision {
        let outcome = match &episode.outcome {
            Outcome::Answered { .. } => "answered",
            Outcome::Reranked => "reranked",
            Outcome::Failed { .. } => "failed",
        };
        telemetry::decided(decision.deviates.unwrap_or(false), outcome);
    }
    let logged = context.append(&episode).await;
    // The first failure is the reason the caller hears; a failing log is one only by itself.
    let answer = result?;
    logged?;
    arms::offer(&context.experiments, &episode);
    served(episode, answer, trace.timings)
}

/// Retrieves, decides and generates.
async fn serve(
    context: &Context,
    request: &Request,
    began: Instant,
    trace: &mut Trace,
) -> Result<Option<Answer>, Failure> {
    let deadline = began + Duration::from_millis(context.config.deadline_ms);
    trace.candidates = match &request.query.candidates {
        Some(documents) => as_given(documents),
        None => {
            trace.rewrites = context.rewrites(&request.query, deadline).await;
            let mut search = Search::of(&request.query, request.top_n);
            if let Some(first) = trace.rewrites.first() {
                search.text.clone_from(&first.text);
            }
            let found = context.retrieve(search, deadline);
            match timed(&mut trace.timings.retrieve_ms, found).await {
                Ok(candidates) => candidates,
                Err(failure) => {
                    trace.degraded = Some(context.without_documents(failure)?);
                    Vec::new()
                }
            }
        }
    };
    let began = Instant::now();
    let mut decision = arms::decided(context, request, trace, deadline).await?;
    trace.timings.decide_ms = began.elapsed().as_secs_f64() * 1e3;
    // Searched with the first proposal, where there is one; 0 is the query as asked.
    decision.rewrite = u32::from(!trace.rewrites.is_empty());
    let documents = chosen(&decision, &trace.candidates)?;
    trace.decision = Some(decision);
    if request.is_rerank {
        return Ok(None);
    }
    let answered = context.generate(&request.query, documents, deadline);
    timed(&mut trace.timings.generate_ms, answered).await.map(Some)
}

/// Waits for a stage and notes how long that took, milliseconds.
async fn timed<T>(took_ms: &mut f64, stage: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let result = stage.await;
    *took_ms = began.elapsed().as_secs_f64() * 1e3;
    result
}

/// The query's own candidates in their order; they bring no score.
fn as_given(documents: &[Document]) -> Vec<Candidate> {
    let ranked = (0..).zip(documents);
    ranked.map(|(rank, d)| Candidate { document: d.clone(), score: 0.0, rank }).collect()
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

/// What the caller gets.
fn served(episode: Episode, answer: Option<Answer>, timings: Timings) -> Result<Served, Failure> {
    let Some(decision) = episode.decision else {
        return Err(Failure::of("decide", "an episode was served without a decision".to_owned()));
    };
    let ranked = decision.order.iter().filter_map(|index| {
        let candidate = episode.candidates.get(*index as usize)?;
        let score = decision.scores.get(*index as usize).copied().unwrap_or_default();
        Some(Ranked { document: candidate.document.clone(), index: *index, score })
    });
    let propensity = decision.is_explored().then(|| decision.log_prob().exp());
    Ok(Served {
        documents: ranked.collect(),
        query_id: episode.query.id,
        decision_id: decision.id,
        answer,
        gate: decision.gate,
        degraded: episode.degraded,
        propensity,
        deviates: decision.deviates,
        timings,
        policy: decision.policy,
        duration_ms: episode.duration_ms,
    })
}

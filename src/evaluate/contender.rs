//! Who is evaluated: anything that answers a question with an index and a generator at hand.
//!
//! Owns the trait [`Contestant`], what an attempt reports, and the adapter that makes every
//! `ports::Policy` a contestant over one candidate list. Does not know scores or reports.

use super::Setting;
use crate::datasets::{Question, bucket};
use actors::ports::{
    DecideRequest, GenerateError, Policy, PolicyError, RewriteError, Search, SearchError,
};
use actors::types::{
    Answer, Candidate, Decision, DecisionId, Document, DocumentId, Exploration, Gate,
    PolicySnapshot, PolicyStamp, Query,
};
use async_trait::async_trait;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

/// One contestant under a name. Contenders of one name are runs (seeds) of one recipe: they are
/// reported as one, with intervals over questions and runs.
pub struct Contender {
    /// Name in the report.
    pub name: String,
    /// What answers: a [`Policy`], which is always a contestant, or anything else that is one.
    pub policy: Box<dyn Contestant>,
}

impl Contender {
    /// A policy that is known by its port only.
    pub fn deciding(name: impl Into<String>, policy: Box<dyn Policy>) -> Self {
        Self { name: name.into(), policy: Box::new(Boxed(policy)) }
    }
}

/// What a contestant is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The question with everything that is known of it. Only contestants that say so in their
    /// name (`oracle`) may look at its answers and positives.
    pub question: &'a Question,
    /// The query as an application would send it.
    pub query: &'a Query,
    /// What the index gives for the query as asked, in retrieval order; may be empty. All
    /// contestants are shown the same.
    pub candidates: &'a [Candidate],
}

impl Asked<'_> {
    /// Chance for this question: depends on its id alone, so that a run repeats in any order.
    pub fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(u64::from(bucket(&self.question.id, "evaluation", u32::MAX)))
    }
}

/// What a contestant did with one question.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attempt {
    /// Every document it found, best first by its own judgement: what hits, recall and nDCG are
    /// taken of. A document that comes again counts at its first place only. Empty where it did
    /// not retrieve.
    pub ranking: Vec<DocumentId>,
    /// Documents put before the generator, in order.
    pub documents: Vec<DocumentId>,
    /// The answer.
    pub answer: Answer,
    /// Searches made use of: 0 for an answer without retrieval, 1 for one search, …
    pub retrievals: u32,
    /// Passages read by the reader, over all its answers to this question.
    pub reader_calls: u32,
    /// Context tokens put before the generator, over all its answers to this question.
    pub context_tokens: u64,
    /// Time spent on choosing (encoding, reranking, gates, rewrites, further searches), ms.
    pub decide_ms: f64,
    /// Time spent on answering from what was chosen, ms.
    pub answer_ms: f64,
}

/// Why a contestant gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The policy gave no decision.
    #[error("the policy gave no decision")]
    NoDecision,
    /// The policy failed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A search failed.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// A rewriter failed.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// The generator failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Something else failed.
    #[error("{0}")]
    Other(String),
}

impl AttemptError {
    /// What failed, in one word: what a report counts by.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoDecision | Self::Policy(_) => "decide",
            Self::Search(_) => "search",
            Self::Rewrite(_) => "rewrite",
            Self::Generate(_) => "generate",
            Self::Other(_) => "other",
        }
    }
}

/// Something that answers questions: a policy over one candidate list, a system that searches
/// several times or not at all, a list-wise reranker behind a chat endpoint, an oracle.
#[async_trait]
pub trait Contestant: Send {
    /// Answers one question. The index and the generator of the setting are its tools; every
    /// contestant of a comparison has the same.
    ///
    /// # Errors
    /// A tool that failed. Such a question is scored for no contestant and counted in the report,
    /// or stops the evaluation, as the caller has it.
    async fn attempt(
        &mut self,
        asked: &Asked<'_>,
        setting: &Setting<'_>,
    ) -> Result<Attempt, AttemptError>;
}

/// Milliseconds since then.
pub fn elapsed_ms(since: Instant) -> f64 {
    1_000.0 * since.elapsed().as_secs_f64()
}

/// Searches as often as a contestant likes: the candidates for another text than the query's.
///
/// # Errors
/// A search that failed.
pub async fn search(
    setting: &Setting<'_>,
    asked: &Asked<'_>,
    text: &str,
) -> Result<Vec<Candidate>, AttemptError> {
    let search = Search { text: text.to_owned(), ..Search::of(asked.query, setting.top_n) };
    Ok(setting.index.search(&search).await?)
}

/// Answers from these documents, in order, and fills in what an attempt says of them: documents,
/// answer, reader calls, context tokens, time. The ranking, the retrievals and the time of the
/// choice are the caller's to add.
///
/// # Errors
/// A generator that failed.
pub async fn answer(
    setting: &Setting<'_>,
    query: &Query,
    documents: &[Document],
) -> Result<Attempt, AttemptError> {
    let started = Instant::now();
    let answer = setting.generator.answer(query, documents).await?;
    Ok(Attempt {
        documents: documents.iter().map(|document| document.id.clone()).collect(),
        reader_calls: documents.len() as u32,
        context_tokens: u64::from(answer.usage.context_tokens),
        answer,
        answer_ms: elapsed_ms(started),
        ..Attempt::default()
    })
}

/// Every policy: it is shown the candidates as retrieved, decides greedily, and the generator
/// answers from what it chose. The ranking is that of its scores, ties in retrieval order. A
/// decision not to retrieve leaves the candidates aside.
#[async_trait]
impl<P: Policy> Contestant for P {
    async fn attempt(
        &mut self,
        asked: &Asked<'_>,
        setting: &Setting<'_>,
    ) -> Result<Attempt, AttemptError> {
        if asked.candidates.is_empty() {
            return Ok(Attempt { retrievals: 1, ..answer(setting, asked.query, &[]).await? });
        }
        let started = Instant::now();
        let request = DecideRequest {
            id: DecisionId::from("evaluation"),
            query: asked.query.clone(),
            candidates: asked.candidates.to_vec(),
            policy: None,
            limits: setting.limits,
            exploration: Exploration::Greedy,
        };
        let mut decisions = self.decide(std::slice::from_ref(&request), &mut asked.rng());
        let decision = decisions.pop().ok_or(AttemptError::NoDecision)??;
        let decide_ms = elapsed_ms(started);
        if decision.gate == Gate::Direct {
            return Ok(Attempt { decide_ms, ..answer(setting, asked.query, &[]).await? });
        }
        let chosen = decision.order.iter().filter_map(|&j| asked.candidates.get(j as usize));
        let documents: Vec<Document> = chosen.map(|c| c.document.clone()).collect();
        let attempt = answer(setting, asked.query, &documents).await?;
        let ranking = ranked(asked.candidates, &decision.scores);
        Ok(Attempt { ranking, retrievals: 1, decide_ms, ..attempt })
    }
}

/// The candidates by score, best first; ties, and candidates without a score, in retrieval order.
pub fn ranked(candidates: &[Candidate], scores: &[f32]) -> Vec<DocumentId> {
    let score = |i: usize| match scores.get(i) {
        Some(score) if !score.is_nan() => *score,
        _ => f32::NEG_INFINITY,
    };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    order.into_iter().map(|i| candidates[i].document.id.clone()).collect()
}

/// A policy behind a box is a policy.
struct Boxed(Box<dyn Policy>);

impl Policy for Boxed {
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        self.0.decide(requests, rng)
    }

    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        self.0.swap(snapshot)
    }

    fn stamp(&self) -> PolicyStamp {
        self.0.stamp()
    }
}

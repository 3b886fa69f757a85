//! What turns answers into rewards.

use crate::types::{Answer, Document, Episode, Feedback, Gate, Outcome, Query, Reward};
use async_trait::async_trait;

/// One answer to be judged, with what has been said of it so far.
#[derive(Debug, Clone)]
pub struct JudgeTask {
    /// Names what is judged for good, today or after a restart: a decision, a trial, a probe.
    pub id: String,
    /// The question.
    pub query: Query,
    /// What was put before the generator, in order.
    pub documents: Vec<Document>,
    /// The answer; `None` where documents were only ranked.
    pub answer: Option<Answer>,
    /// Whether documents were fetched at all.
    pub gate: Gate,
    /// What people and programs said, oldest first.
    pub feedback: Vec<Feedback>,
    /// What it was worth by an earlier verdict: a model that gave a part of that is not asked again.
    pub earlier: Option<Reward>,
}

impl JudgeTask {
    /// An answer of which nothing has been said.
    pub fn new(
        id: impl Into<String>,
        query: Query,
        documents: Vec<Document>,
        answer: Answer,
    ) -> Self {
        let gate = if documents.is_empty() { Gate::Direct } else { Gate::Retrieve };
        let (id, answer) = (id.into(), Some(answer));
        Self { id, query, documents, answer, gate, feedback: Vec::new(), earlier: None }
    }

    /// The task that an episode is; `None` for one that failed: there is nothing to judge.
    pub fn of(episode: &Episode) -> Option<Self> {
        let answer = match &episode.outcome {
            Outcome::Answered { answer } => Some(answer.clone()),
            Outcome::Reranked => None,
            Outcome::Failed { .. } => return None,
        };
        let decision = episode.decision.as_ref();
        let order = decision.map(|decision| decision.order.as_slice()).unwrap_or_default();
        let chosen = order.iter().filter_map(|index| episode.candidates.get(*index as usize));
        Some(Self {
            id: decision
                .map_or(episode.query.id.as_str(), |decision| decision.id.as_str())
                .to_owned(),
            query: episode.query.clone(),
            documents: chosen.map(|candidate| candidate.document.clone()).collect(),
            answer,
            gate: decision.map_or(Gate::Direct, |decision| decision.gate),
            feedback: Vec::new(),
            earlier: None,
        })
    }
}

/// What a judge says.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// What the answer is worth.
    Scored {
        /// The reward.
        reward: Reward,
    },
    /// It cannot tell, now or later.
    Abstained {
        /// Why.
        reason: String,
    },
    /// It will have none of this task, now or later.
    Refused {
        /// Why.
        reason: String,
    },
    /// There is nothing to judge by yet: the answer waits for feedback.
    NotYet,
}

/// Why there is no judgement.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The judge cannot be reached; another try may succeed.
    #[error("judge is unavailable: {0}")]
    Unavailable(String),
}

/// Judges answers.
#[async_trait]
pub trait Judge: Send + Sync {
    /// Judges an answer by all that is known of it.
    async fn judge(&self, task: &JudgeTask) -> Result<Judgement, JudgeError>;

    /// Name and version, written into every reward.
    fn name(&self) -> String;
}

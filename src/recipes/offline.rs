//! Training from question files: serves every question once by the current policy, judges the
//! answers, and hands the episodes to a learner, for a number of rounds.
//!
//! The same learner as in production, fed by a loop instead of a log; so whatever is learned here is
//! learned from what the generator did with the documents and never from relevance labels. Knows
//! ports only.

use crate::datasets::{Question, bucket};
use actors::ports::{
    Batch, DecideRequest, Examination, Generator, Judge, JudgeTask, LearnReport, Learner, Policy,
    Search, SearchIndex,
};
use actors::types::{
    Candidate, Decision, DecisionId, Episode, Exploration, Outcome, PolicySnapshot, PolicyVersion,
    Query, Sample, SelectionLimits, Verdict, next_id,
};
use rand::rngs::StdRng;
use std::sync::{Arc, Mutex, PoisonError};

/// One question in so many is held out for the gate.
const HOLDOUT_BUCKETS: u32 = 8;
/// Questions whose pairs are read together.
const READ_BATCH: usize = 8;

/// What the questions are served with.
#[derive(Clone)]
pub struct Setting {
    /// Where candidates come from.
    pub index: Arc<dyn SearchIndex>,
    /// What answers.
    pub generator: Arc<dyn Generator>,
    /// What judges.
    pub judge: Arc<dyn Judge>,
    /// Candidates a question.
    pub top_n: usize,
    /// Masks.
    pub limits: SelectionLimits,
    /// How decisions are drawn.
    pub exploration: Exploration,
}

/// What happened, for progress and the closing report.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Questions served so far, of all.
    Served {
        /// So far.
        done: usize,
        /// Of these.
        total: usize,
    },
    /// A candidate was trained and examined.
    Examined {
        /// Round, from 1.
        round: usize,
        /// Training figures.
        report: LearnReport,
        /// The gate's finding.
        examination: Examination,
    },
    /// A round gave no candidate.
    Failed {
        /// Round, from 1.
        round: usize,
        /// Why.
        reason: String,
    },
}

/// Why training stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A port failed.
    #[error("cannot serve question `{question}`: {reason}")]
    Serve {
        /// The question.
        question: String,
        /// Why.
        reason: String,
    },
    /// No question gave a judged episode.
    #[error(
        "no question could be judged: {0}; give questions with answers that match the passages"
    )]
    Nothing(String),
    /// The learner's thread is gone.
    #[error("training stopped: {0}")]
    Stopped(String),
}

/// Serves every question once and judges the answers; questions without a candidate or a verdict
/// are left out.
pub async fn collect(
    setting: &Setting,
    policy: &mut dyn Policy,
    questions: &[Question],
    rng: &mut StdRng,
    progress: &mut dyn FnMut(Event),
) -> Result<Vec<Sample>, TrainError> {
    let mut samples = Vec::with_capacity(questions.len());
    let total = questions.len();
    for (chunk_index, chunk) in questions.chunks(READ_BATCH).enumerate() {
        let mut requests = Vec::with_capacity(chunk.len());
        for question in chunk {
            let query = question.to_query();
            let candidates = setting
                .index
                .search(&Search::of(&query, setting.top_n))
                .await
                .map_err(|e| failed(&query, &e))?;
            if !candidates.is_empty() {
                let id = DecisionId(next_id("decision", rng));
                let (limits, exploration) = (setting.limits, setting.exploration);
                requests.push(DecideRequest {
                    id,
                    query,
                    candidates,
                    policy: None,
                    limits,
                    exploration,
                });
            }
        }
        let decisions = policy.decide(&requests, rng);
        for (request, decision) in requests.into_iter().zip(decisions) {
            let decision = decision.map_err(|e| failed(&request.query, &e))?;
            let (query, candidates) = (request.query, request.candidates);
            samples.extend(judged(setting, query, candidates, decision).await?);
        }
        let done = (chunk_index * READ_BATCH + chunk.len()).min(total);
        progress(Event::Served { done, total });
    }
    Ok(samples)
}

async fn judged(
    setting: &Setting,
    query: Query,
    candidates: Vec<Candidate>,
    decision: Decision,
) -> Result<Option<Sample>, TrainError> {
    let documents: Vec<_> = decision
        .order
        .iter()
        .filter_map(|&j| candidates.get(j as usize))
        .map(|c| c.document.clone())
        .collect();
    let answer =
        setting.generator.answer(&query, &documents).await.map_err(|e| failed(&query, &e))?;
    let references = query.references.clone();
    let episode = Episode {
        schema: Episode::SCHEMA,
        query,
        rewrites: Vec::new(),
        candidates,
        decision: Some(decision),
        outcome: Outcome::Answered { answer },
        degraded: None,
        assignment: None,
        interleaved: None,
        unusable_for_ope: None,
        finished_ms: 0,
        duration_ms: 0,
    };
    let task = JudgeTask { episode, feedback: Vec::new() };
    let verdict = setting.judge.judge(&task).await.map_err(|e| failed(&task.episode.query, &e))?;
    Ok(match verdict {
        Some(Verdict::Scored { reward }) => {
            Some(Sample { episode: task.episode, reward, references })
        }
        _ => None,
    })
}

fn failed(query: &Query, error: &dyn std::fmt::Display) -> TrainError {
    TrainError::Serve { question: query.id.to_string(), reason: error.to_string() }
}

/// What to train on, for how long and from where.
pub struct Plan<'a> {
    /// Questions with references.
    pub questions: &'a [Question],
    /// Times they are served and learned from.
    pub rounds: usize,
    /// The weights to start from; the policy and the learner hold them already.
    pub start: PolicySnapshot,
}

/// Trains for some rounds; returns the last accepted weights (the start, if none was).
///
/// Every round serves the questions anew by the current policy, so its samples are on-policy up to
/// the passes of one update. The learner runs off the async workers.
pub async fn train<L: Learner + 'static>(
    setting: &Setting,
    policy: &mut dyn Policy,
    learner: L,
    plan: Plan<'_>,
    rng: &mut StdRng,
    progress: &mut dyn FnMut(Event),
) -> Result<PolicySnapshot, TrainError> {
    let is_held_out = |q: &&Question| bucket(q.split_key(), "gate", HOLDOUT_BUCKETS) == 0;
    let Plan { questions, rounds, start } = plan;
    let keys: std::collections::HashSet<String> =
        questions.iter().filter(is_held_out).map(|q| q.id.clone()).collect();
    let learner = Arc::new(Mutex::new(learner));
    let mut champion = start;
    for round in 1..=rounds {
        let samples = collect(setting, policy, questions, rng, progress).await?;
        if samples.is_empty() {
            return Err(TrainError::Nothing(format!("{} questions served", questions.len())));
        }
        let (holdout, train): (Vec<Sample>, Vec<Sample>) =
            samples.into_iter().partition(|s| keys.contains(s.episode.query.id.as_str()));
        let batch = Batch { train, holdout, ..Batch::default() };
        let version = PolicyVersion(champion.version.0 + 1);
        let held = Arc::clone(&learner);
        let outcome = tokio::task::spawn_blocking(move || {
            let mut learner = held.lock().unwrap_or_else(PoisonError::into_inner);
            let (candidate, report) = learner.update(&batch, version)?;
            let examination = learner.examine(&candidate, &batch.holdout)?;
            if examination.accepted {
                learner.adopt(&candidate)?;
            }
            Ok((candidate, report, examination))
        })
        .await
        .map_err(|e| TrainError::Stopped(e.to_string()))?;
        match outcome {
            Ok((candidate, report, examination)) => {
                if examination.accepted {
                    policy.swap(&candidate).map_err(|e| TrainError::Stopped(e.to_string()))?;
                    champion = candidate;
                }
                progress(Event::Examined { round, report, examination });
            }
            Err(error) => {
                let error: actors::ports::LearnError = error;
                progress(Event::Failed { round, reason: error.to_string() });
            }
        }
    }
    Ok(champion)
}

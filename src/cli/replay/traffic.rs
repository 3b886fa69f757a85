//! Recorded users: they ask in time, and some say later what the answer should have been.

use super::schedule::Recorded;
use super::{Args, Speed};
use crate::datasets::Question;
use crate::evaluate::answer_scores;
use actors::service::{Observed, Overrides, ServiceError, ServiceHandle};
use actors::types::{DecisionId, Feedback, PolicyVersion, Query, Served};
use futures::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// How the traffic is pushed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    pub(super) speed: Speed,
    pub(super) concurrency: usize,
    pub(super) feedback_delay: Duration,
    pub(super) feedback_share: f64,
    pub(super) seed: u64,
}

impl Plan {
    pub(super) fn of(args: &Args) -> Self {
        Self {
            speed: args.speed,
            concurrency: args.concurrency as usize,
            feedback_delay: Duration::from_millis(args.feedback_delay_ms),
            feedback_share: args.feedback_share,
            seed: args.seed,
        }
    }
}

/// One answered question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answered {
    /// Its place in the traffic.
    pub(super) position: usize,
    pub(super) f1: f64,
    pub(super) em: f64,
    pub(super) k: usize,
    pub(super) context_tokens: u32,
    pub(super) latency: Duration,
}

/// Feedback on its way.
struct Due {
    at: Instant,
    feedback: Feedback,
}

/// What became of one question.
type Asked = (usize, Duration, Result<Served, ServiceError>);

/// The traffic of one replay, with what came of it.
pub(super) struct Traffic {
    handle: ServiceHandle,
    plan: Plan,
    rng: StdRng,
    /// The delay is the same for all: first in, first out. At most one a question.
    due: VecDeque<Due>,
    version: PolicyVersion,
    pub(super) began: Instant,
    pub(super) asked: usize,
    pub(super) answered: Vec<Answered>,
    /// Questions without an answer, by the service's word for why.
    pub(super) failed: BTreeMap<&'static str, u64>,
    /// Answers the file has no gold answer for: asked, not scored.
    pub(super) unscored: u64,
    pub(super) swaps_seen: u64,
    pub(super) feedback_given: u64,
    pub(super) feedback_refused: u64,
}

impl Traffic {
    pub(super) fn new(handle: ServiceHandle, plan: Plan) -> Self {
        let version = handle.policy().version;
        Self {
            handle,
            plan,
            rng: StdRng::seed_from_u64(plan.seed),
            due: VecDeque::new(),
            version,
            began: Instant::now(),
            asked: 0,
            answered: Vec::new(),
            failed: BTreeMap::new(),
            unscored: 0,
            swaps_seen: 0,
            feedback_given: 0,
            feedback_refused: 0,
        }
    }

    /// Asks every question at its time, giving feedback as it falls due; `watch` is told how many
    /// are over and the mean F1 so far.
    pub(super) async fn ask(&mut self, recorded: &[Recorded], watch: &mut impl FnMut(usize, f64)) {
        self.began = Instant::now();
        let (handle, speed, began) = (self.handle.clone(), self.plan.speed, self.began);
        let first = recorded.iter().find_map(|r| r.time_ms);
        let mut answers = stream::iter(recorded.iter().enumerate())
            .map(|(position, recorded)| {
                let handle = handle.clone();
                let at = began + offset(speed, first, recorded.time_ms);
                async move {
                    tokio::time::sleep_until(at).await;
                    ask_one(&handle, position, recorded).await
                }
            })
            .buffer_unordered(self.plan.concurrency.max(1));
        let mut f1_sum = 0.0;
        loop {
            let next_due = self.due.front().map(|due| due.at);
            tokio::select! {
                biased;
                () = sleep_until(next_due) => self.give_first().await,
                asked = answers.next() => {
                    let Some((position, latency, result)) = asked else { return };
                    let question = &recorded[position].question;
                    f1_sum += self.note(question, (position, latency, result));
                    watch(self.asked, f1_sum / self.answered.len().max(1) as f64);
                }
            }
        }
    }

    /// Gives the feedback that is left, each at its time.
    pub(super) async fn give_the_rest(&mut self) {
        while let Some(at) = self.due.front().map(|due| due.at) {
            tokio::time::sleep_until(at).await;
            self.give_first().await;
        }
    }

    /// Waits until the judge has read everything that was said and judged what it can.
    pub(super) async fn settle(&self, deadline: Duration) {
        let until = Instant::now() + deadline;
        while Instant::now() < until && !self.is_settled(&self.handle.observe().await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn is_settled(&self, observed: &Observed) -> bool {
        // A process without a judge has nothing to wait for.
        observed.judge.as_ref().is_none_or(|judge| {
            let read = judge.episodes >= self.answered.len() as u64 + self.unscored;
            let heard = judge.feedback >= self.feedback_given;
            // Whatever was joined to an episode that still waits is being judged.
            let waiting = judge.episodes.saturating_sub(judge.joined);
            read && heard && judge.early == 0 && judge.pending <= waiting
        })
    }

    /// Keeps what became of a question; gives its F1, 0 where it has none.
    fn note(&mut self, question: &Question, (position, latency, result): Asked) -> f64 {
        self.asked += 1;
        let version = self.handle.policy().version;
        self.swaps_seen += u64::from(version != self.version);
        self.version = version;
        let served = match result {
            Ok(served) => served,
            Err(error) => {
                *self.failed.entry(error.code()).or_default() += 1;
                tracing::warn!(%error, question = %question.id, "question got no answer");
                return 0.0;
            }
        };
        let answer = served.answer.unwrap_or_default();
        if question.answers.is_empty() && !question.is_unanswerable() {
            self.unscored += 1;
            return 0.0;
        }
        let (f1, em) = answer_scores(&answer.text, &question.answers);
        let (k, context_tokens) = (served.documents.len(), answer.usage.context_tokens);
        self.answered.push(Answered { position, f1, em, k, context_tokens, latency });
        if self.rng.random::<f64>() < self.plan.feedback_share {
            let feedback = feedback(question, served.decision_id, em);
            self.due.push_back(Due { at: Instant::now() + self.plan.feedback_delay, feedback });
        }
        f1
    }

    async fn give_first(&mut self) {
        let Some(due) = self.due.pop_front() else { return };
        match self.handle.feedback(due.feedback).await {
            Ok(_) => self.feedback_given += 1,
            Err(error) => {
                self.feedback_refused += 1;
                tracing::warn!(%error, "feedback was not taken");
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How long after the first question of the traffic this one is asked.
fn offset(speed: Speed, first: Option<i64>, time: Option<i64>) -> Duration {
    match (speed, first, time) {
        (Speed::Times(factor), Some(first), Some(time)) => {
            let ms = time.saturating_sub(first).max(0) as f64;
            Duration::try_from_secs_f64(ms / 1_000.0 / factor).unwrap_or(Duration::MAX / 4)
        }
        _ => Duration::ZERO,
    }
}

async fn ask_one(handle: &ServiceHandle, position: usize, recorded: &Recorded) -> Asked {
    let question = &recorded.question;
    let mut query: Query = question.to_query();
    // What is right is said later, by feedback, or never.
    query.references.clear();
    query.metadata.clear();
    query.metadata.insert("cluster".to_owned(), question.split_key().to_owned());
    query.time_ms = recorded.time_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    let asked = Instant::now();
    let result = handle.answer(query, Overrides::default()).await;
    (position, asked.elapsed(), result)
}

/// An application that knows the right answers, or that there is none to be found.
fn feedback(question: &Question, decision_id: DecisionId, em: f64) -> Feedback {
    Feedback {
        id: format!("feedback-{}-{decision_id}", question.id),
        decision_id,
        value: question.answers.is_empty().then_some(em),
        references: question.answers.clone(),
        source: "application".to_owned(),
        ..Feedback::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_time_is_sped_up_from_the_first_question_on() {
        let at = |speed, time| offset(speed, Some(1_000), time);
        assert_eq!(at(Speed::Times(10.0), Some(21_000)), Duration::from_secs(2));
        assert_eq!(at(Speed::Times(10.0), Some(1_000)), Duration::ZERO);
        assert_eq!(at(Speed::Times(10.0), None), Duration::ZERO);
        assert_eq!(at(Speed::Max, Some(21_000)), Duration::ZERO);
    }
}

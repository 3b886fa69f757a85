//! Users of the demonstration: they ask, and some of them say later what the answer should have been.

use super::DemoEvent;
use super::latency::{Latency, Request};
use crate::datasets::Question;
use crate::evaluate::answer_scores;
use actors::service::{Overrides, ServiceHandle, UpdateOutcome};
use actors::types::{DecisionId, Feedback, PolicyVersion};
use futures::StreamExt;
use futures::stream;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;
use tokio::time::Instant;

/// Share of answers nobody says anything about.
const SILENT: f64 = 0.15;
/// Longest delay of feedback.
const DELAY_MS_MAX: u64 = 6_000;

/// When feedback comes, if it does.
pub(super) struct Schedule {
    rng: StdRng,
}

impl Schedule {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    fn delay(&mut self) -> Option<Duration> {
        if self.rng.random::<f64>() < SILENT {
            return None;
        }
        Some(Duration::from_millis(self.rng.random_range(0..DELAY_MS_MAX)))
    }
}

/// Feedback on its way.
struct Due {
    at: Instant,
    feedback: Feedback,
}

/// The traffic of one demonstration.
pub(super) struct Traffic {
    handle: ServiceHandle,
    schedule: Schedule,
    concurrency: usize,
    began: Instant,
    requests: Vec<Request>,
    swaps: Vec<Duration>,
    version: PolicyVersion,
    due: Vec<Due>,
    failed: u64,
    recent: Vec<f64>,
}

/// What one question came to.
struct Asked {
    request: Request,
    answered: Option<(DecisionId, String)>,
}

impl Traffic {
    pub(super) fn new(handle: ServiceHandle, schedule: Schedule, concurrency: usize) -> Self {
        let version = handle.policy().version;
        Self {
            handle,
            schedule,
            concurrency,
            began: Instant::now(),
            requests: Vec::new(),
            swaps: Vec::new(),
            version,
            due: Vec::new(),
            failed: 0,
            recent: Vec::new(),
        }
    }

    /// Asks every question, some at a time, giving feedback as it falls due.
    pub(super) async fn ask(
        &mut self,
        questions: &[Question],
        watch: &mut impl FnMut(DemoEvent),
    ) -> anyhow::Result<()> {
        let (handle, began) = (self.handle.clone(), self.began);
        let mut answers = stream::iter(questions)
            .map(|question| {
                let handle = handle.clone();
                async move { (question, ask_one(&handle, began, question).await) }
            })
            .buffer_unordered(self.concurrency.max(1));
        let mut done = 0;
        while let Some((question, asked)) = answers.next().await {
            done += 1;
            self.note(question, asked);
            self.give_due(Instant::now()).await?;
            self.note_swap(done, watch).await;
            let recent_f1 = self.recent_f1();
            watch(DemoEvent::Asked { done, total: questions.len(), recent_f1 });
        }
        Ok(())
    }

    /// Gives what feedback is left and waits for a last update over it.
    pub(super) async fn settle(
        &mut self,
        deadline: Duration,
        watch: &mut impl FnMut(DemoEvent),
    ) -> anyhow::Result<()> {
        while let Some(at) = self.due.iter().map(|d| d.at).min() {
            tokio::time::sleep_until(at).await;
            self.give_due(at).await?;
        }
        let until = Instant::now() + deadline;
        // A last update over everything that was said; if it is refused, its reason is logged.
        let outcome = self.handle.trigger_update(deadline).await;
        tracing::info!(?outcome, "last update of the demo");
        while Instant::now() < until {
            self.note_swap(self.requests.len(), watch).await;
            let observed = self.handle.policy().version;
            if observed == self.version {
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.note_swap(self.requests.len(), watch).await;
                break;
            }
        }
        Ok(())
    }

    fn note(&mut self, question: &Question, asked: Asked) {
        let Some((decision_id, answer)) = asked.answered else {
            self.failed += 1;
            return;
        };
        self.requests.push(asked.request);
        let (f1, em) = answer_scores(&answer, &question.answers);
        self.recent.push(f1);
        if let Some(delay) = self.schedule.delay() {
            // An application knows the right answer, or that there is none to be found.
            let value = question.answers.is_empty().then_some(em);
            let feedback = Feedback {
                id: format!("feedback-{}", question.id),
                decision_id,
                value,
                references: question.answers.clone(),
                source: "application".to_owned(),
                ..Feedback::default()
            };
            self.due.push(Due { at: Instant::now() + delay, feedback });
        }
    }

    async fn give_due(&mut self, now: Instant) -> anyhow::Result<()> {
        let (ready, later): (Vec<Due>, Vec<Due>) =
            std::mem::take(&mut self.due).into_iter().partition(|d| d.at <= now);
        self.due = later;
        for due in ready {
            self.handle.feedback(due.feedback).await?;
        }
        Ok(())
    }

    async fn note_swap(&mut self, after: usize, watch: &mut impl FnMut(DemoEvent)) {
        let version = self.handle.policy().version;
        if version == self.version {
            return;
        }
        self.version = version;
        self.swaps.push(self.began.elapsed());
        let reason = gate_sentence(&self.handle).await;
        watch(DemoEvent::Swapped { version: version.0, after, reason });
    }

    fn recent_f1(&self) -> f64 {
        let last = &self.recent[self.recent.len().saturating_sub(100)..];
        last.iter().sum::<f64>() / last.len().max(1) as f64
    }

    pub(super) fn latency(&self) -> Latency {
        Latency::new(&self.requests, &self.swaps)
    }

    pub(super) fn swaps(&self) -> u64 {
        self.swaps.len() as u64
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }
}

/// Why the last candidate was taken, in the gate's words.
async fn gate_sentence(handle: &ServiceHandle) -> String {
    match handle.observe().await.learner.and_then(|l| l.last_outcome) {
        Some(UpdateOutcome::Promoted { examination, .. }) => examination.reason,
        _ => String::new(),
    }
}

async fn ask_one(handle: &ServiceHandle, began: Instant, question: &Question) -> Asked {
    let mut query = question.to_query();
    // What is right is said later, by feedback, or never.
    query.references.clear();
    query.metadata.clear();
    query.metadata.insert("cluster".to_owned(), question.split_key().to_owned());
    let started_ms = began.elapsed().as_millis() as u64;
    let served = handle.answer(query, Overrides::default()).await;
    let request = Request { started_ms, ended_ms: began.elapsed().as_millis() as u64 };
    let answered = match served {
        Ok(served) => Some((served.decision_id, served.answer.map(|a| a.text).unwrap_or_default())),
        Err(error) => {
            tracing::warn!(%error, question = %question.id, "question got no answer");
            None
        }
    };
    Asked { request, answered }
}

//! The traffic of the demonstration: questions, thumbs as they fall due, swaps as they are seen.

use super::DemoEvent;
use super::latency::{Latency, Request};
use crate::datasets::Question;
use crate::evaluate::answer_scores;
use crate::evaluate::users::{Said, Users};
use actors::service::{Overrides, ServiceHandle, UpdateOutcome};
use actors::types::{DecisionId, PolicyVersion, Query};
use futures::StreamExt;
use futures::stream;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Pause after each answer while an update trains: what users ask in a day passes here in a minute, and an
/// update that takes as long as it does in production would come after all of it.
const PAUSE: Duration = Duration::from_millis(50);

/// The traffic of one demonstration.
pub(super) struct Traffic<'a> {
    handle: ServiceHandle,
    users: Users<'a>,
    concurrency: usize,
    began: Instant,
    requests: Vec<Request>,
    swaps: Vec<Duration>,
    version: PolicyVersion,
    /// By the number of the question after which it is said.
    due: BTreeMap<usize, Vec<Said>>,
    said: u64,
    failed: u64,
    recent: Vec<f64>,
}

/// What one question came to.
struct Asked {
    request: Request,
    answered: Option<(DecisionId, String)>,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(handle: ServiceHandle, users: Users<'a>, concurrency: usize) -> Self {
        let version = handle.policy().version;
        Self {
            handle,
            users,
            concurrency,
            began: Instant::now(),
            requests: Vec::new(),
            swaps: Vec::new(),
            version,
            due: BTreeMap::new(),
            said: 0,
            failed: 0,
            recent: Vec::new(),
        }
    }

    /// Asks so many questions, some at a time, and says what falls due.
    pub(super) async fn ask(
        &mut self,
        total: usize,
        watch: &mut impl FnMut(DemoEvent),
    ) -> anyhow::Result<()> {
        let (handle, began) = (self.handle.clone(), self.began);
        let asked: Vec<(usize, (&Question, Query))> =
            (0..total).map(|number| (number, self.users.query(number))).collect();
        let mut answers = stream::iter(asked)
            .map(|(number, (question, query))| {
                let handle = handle.clone();
                async move { (number, question, ask_one(&handle, began, query).await) }
            })
            .buffered(self.concurrency.max(1));
        while let Some((number, question, asked)) = answers.next().await {
            self.note(number, question, asked);
            self.say(number).await?;
            self.note_swap(number + 1, watch).await;
            let recent_f1 = self.recent_f1();
            watch(DemoEvent::Asked { done: number + 1, total, recent_f1 });
            if self.is_updating().await {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Says what is left to say and waits for a last update over it.
    pub(super) async fn settle(
        &mut self,
        deadline: Duration,
        watch: &mut impl FnMut(DemoEvent),
    ) -> anyhow::Result<()> {
        self.say(usize::MAX - 1).await?;
        let until = Instant::now() + deadline;
        // An update under way knows nothing of what was said last, and a thumb takes a moment to
        // become a reward.
        let judged = Instant::now() + Duration::from_secs(10);
        while Instant::now() < judged && self.is_judging().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        while Instant::now() < until && self.is_updating().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.note_swap(self.requests.len(), watch).await;
        // A last update over everything that was said; if it is refused, its reason is logged.
        let outcome =
            self.handle.trigger_update(until.saturating_duration_since(Instant::now())).await;
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

    async fn is_updating(&self) -> bool {
        self.handle.observe().await.learner.is_some_and(|learner| learner.is_updating)
    }

    /// Whether something that was said has no reward yet.
    async fn is_judging(&self) -> bool {
        let buffer = self.handle.observe().await.replay_buffer;
        buffer.is_some_and(|buffer| buffer.inserted < self.said)
    }

    fn note(&mut self, number: usize, question: &Question, asked: Asked) {
        let Some((decision_id, answer)) = asked.answered else {
            self.failed += 1;
            return;
        };
        self.requests.push(asked.request);
        self.recent.push(answer_scores(&answer, &question.answers).0);
        if let Some(said) = self.users.say(number, question, (decision_id, &answer)) {
            self.due.entry(said.due).or_default().push(said);
        }
    }

    /// Says what is due once the question of this number is answered.
    async fn say(&mut self, number: usize) -> anyhow::Result<()> {
        let later = self.due.split_off(&(number + 1));
        for said in std::mem::replace(&mut self.due, later).into_values().flatten() {
            self.handle.feedback(said.feedback).await?;
            self.said += 1;
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

    pub(super) fn said(&self) -> u64 {
        self.said
    }
}

/// Why the last candidate was taken, in the gate's words.
async fn gate_sentence(handle: &ServiceHandle) -> String {
    match handle.observe().await.learner.and_then(|l| l.last_outcome) {
        Some(UpdateOutcome::Promoted { examination, .. }) => examination.reason,
        _ => String::new(),
    }
}

async fn ask_one(handle: &ServiceHandle, began: Instant, query: Query) -> Asked {
    let id = query.id.clone();
    let started_ms = began.elapsed().as_millis() as u64;
    let served = handle.answer(query, Overrides::default()).await;
    let request = Request { started_ms, ended_ms: began.elapsed().as_millis() as u64 };
    let answered = match served {
        Ok(served) => Some((served.decision_id, served.answer.map(|a| a.text).unwrap_or_default())),
        Err(error) => {
            tracing::warn!(%error, question = %id, "question got no answer");
            None
        }
    };
    Asked { request, answered }
}

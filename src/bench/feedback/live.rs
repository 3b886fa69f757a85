//! A service under way: asked by its users, told what they think, made to learn.

use super::Known;
use super::course::{Bought, Course, Stage, UPDATE, Update};
use crate::bench::{BenchError, Watch};
use crate::config::Config;
use crate::evaluate::answer_scores;
use crate::evaluate::users::{Said, Users};
use crate::wiring::Parts;
use actors::service::{Overrides, Service, ServiceHandle, UpdateOutcome};
use actors::types::{PolicySnapshot, PolicyVersion};
use futures::{StreamExt as _, stream};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait until what was said is judged and in the buffer.
const SETTLE: Duration = Duration::from_secs(60);
/// Polls without a change after which nothing more is on its way.
const QUIET_POLLS: usize = 5;
/// Pause between two of them.
const POLL: Duration = Duration::from_millis(100);
/// Decisions between two steps of progress.
const STEP: usize = 100;

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub answered: u64,
    pub f1: f64,
    pub swaps: u64,
    pub failed: u64,
    pub said: u64,
    pub refused: u64,
    pub bought: Bought,
    pub seconds: f64,
}

/// A service under way.
pub(super) struct Live<'a> {
    stage: &'a Stage<'a>,
    handle: ServiceHandle,
    parts: Parts,
    tally: Tally,
    due: BTreeMap<usize, Vec<Said>>,
    version: PolicyVersion,
}

impl<'a> Live<'a> {
    /// Starts it.
    pub(super) async fn start(
        (parts, config): (Parts, Config),
        stage: &'a Stage<'a>,
    ) -> Result<Self, BenchError> {
        let started = Service::start(parts.ports.clone(), config.service).await;
        let handle = started.map_err(|error| stage.failed(&error))?;
        let version = handle.policy().version;
        let (tally, due) = (Tally::default(), BTreeMap::new());
        Ok(Self { stage, handle, parts, tally, due, version })
    }

    /// Asks, lets it learn and measures as the plan says, and stops it.
    pub(super) async fn run(
        mut self,
        mut users: Users<'_>,
        course: &mut Course,
        (known, watch): (&mut Known, &mut dyn Watch),
    ) -> Result<(), BenchError> {
        let mut asked = 0;
        for until in self.stage.plan.updates() {
            self.ask(&mut users, asked..until, watch).await;
            asked = until;
            self.settle().await;
            course.updates.push(self.learn(asked).await?);
            if self.stage.plan.decisions.contains(&asked) {
                let serving = self.serving().await?;
                let measured = self.stage.checkpoint((asked, &serving), &self.tally, known);
                course.checkpoints.push(measured.await?);
            }
        }
        let drained = self.handle.drain(SETTLE).await;
        tracing::info!(?drained, "service of the figure stopped");
        Ok(())
    }

    /// Asks the decisions of these numbers, some at a time, and says what falls due.
    async fn ask(
        &mut self,
        users: &mut Users<'_>,
        numbers: std::ops::Range<usize>,
        watch: &mut dyn Watch,
    ) {
        let began = Instant::now();
        let total = self.stage.plan.decisions.iter().copied().max().unwrap_or(0);
        let asked: Vec<_> = numbers.map(|number| (number, users.query(number))).collect();
        let handle = self.handle.clone();
        let mut answers = stream::iter(asked)
            .map(|(number, (question, query))| {
                let handle = handle.clone();
                async move { (number, question, handle.answer(query, Overrides::default()).await) }
            })
            .buffered(self.stage.plan.concurrency.max(1));
        while let Some((number, question, served)) = answers.next().await {
            match served {
                Ok(served) => {
                    let answer = served.answer.unwrap_or_default();
                    let (f1, _) = answer_scores(&answer.text, &question.answers);
                    self.tally.f1 += f1;
                    self.tally.answered += 1;
                    let said = users.say(number, question, (served.decision_id, &answer.text));
                    if let Some(said) = said {
                        self.due.entry(said.due).or_default().push(said);
                    }
                }
                Err(error) => {
                    self.tally.failed += 1;
                    tracing::warn!(%error, question = %question.id, "question got no answer");
                }
            }
            self.say(number).await;
            if (number + 1).is_multiple_of(STEP) {
                watch.step("decisions", (number + 1, total), self.stage.name);
            }
        }
        self.tally.seconds += began.elapsed().as_secs_f64();
    }

    async fn say(&mut self, number: usize) {
        let later = self.due.split_off(&(number + 1));
        let now = std::mem::replace(&mut self.due, later);
        for said in now.into_values().flatten() {
            self.tally.said += 1;
            if let Err(error) = self.handle.feedback(said.feedback).await {
                self.tally.refused += 1;
                tracing::warn!(%error, "feedback was not taken");
            }
        }
    }

    /// Waits until the judge has read everything and nothing moves between judge and buffer.
    async fn settle(&self) {
        let until = Instant::now() + SETTLE;
        let (mut last, mut quiet) = (Value::Null, 0);
        while Instant::now() < until && quiet < QUIET_POLLS {
            let observed = self.handle.observe().await;
            let has_read =
                observed.judge.as_ref().is_none_or(|judge| judge.episodes >= self.tally.answered);
            let now = serde_json::json!([observed.judge, observed.replay_buffer]);
            quiet = if has_read && now == last { quiet + 1 } else { 0 };
            last = now;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn learn(&mut self, decisions: usize) -> Result<Update, BenchError> {
        let began = Instant::now();
        let outcome = self.handle.trigger_update(UPDATE).await;
        let outcome = outcome.map_err(|error| self.stage.failed(&error))?;
        let version = self.handle.policy().version;
        self.tally.swaps += u64::from(version != self.version);
        self.version = version;
        let update = described(decisions, &outcome, began.elapsed());
        self.tally.bought += Bought::of(&update.report);
        Ok(update)
    }

    async fn serving(&self) -> Result<PolicySnapshot, BenchError> {
        if self.version == self.parts.first.version {
            return Ok(self.parts.first.clone());
        }
        let found = self.parts.ports.snapshots.get(self.version).await;
        found.map_err(|error| self.stage.failed(&error))
    }
}

fn described(decisions: usize, outcome: &UpdateOutcome, took: Duration) -> Update {
    let told = serde_json::to_value(outcome).unwrap_or_default();
    let reason = told["reason"].as_str().or_else(|| told["examination"]["reason"].as_str());
    Update {
        decisions,
        outcome: outcome.word().to_owned(),
        reason: reason.unwrap_or_default().to_owned(),
        report: told["report"].clone(),
        seconds: took.as_secs_f64(),
    }
}

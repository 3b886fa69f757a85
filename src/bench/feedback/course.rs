//! One arm from the first decision to the last: asked, told, learning, measured.

use super::arm::Arm;
use super::live::{Live, Tally};
use super::material::Material;
use super::oracle;
use super::{Known, Plan};
use crate::bench::{BenchError, Watch};
use crate::config::{Config, IndexKind, LogKind};
use crate::evaluate::scores::Columns;
use crate::evaluate::users::{Temper, Users};
use crate::evaluate::{Contender, Exam, Setting, score};
use crate::policy::fixed::FixedK;
use crate::policy::serving::{self, EncoderPolicy};
use crate::recipes::online::Objective;
use crate::wiring::{self, Lab, Parts};
use actors::rollout::Path as PromotionPath;
use actors::types::{PolicySnapshot, SelectionLimits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Fixed cuts that stand beside the arms.
const CUTS: [usize; 4] = [1, 3, 5, 10];
/// Longest update.
pub(super) const UPDATE: Duration = Duration::from_secs(3_600);

/// Models called on behalf of updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bought {
    /// Calls of the generator.
    pub generator_calls: u64,
    /// Tokens of these.
    pub generator_tokens: u64,
    /// Calls of a judge.
    pub judge_calls: u64,
    /// Tokens of these.
    pub judge_tokens: u64,
}

impl Bought {
    /// What a report of an update says of it.
    pub(super) fn of(report: &Value) -> Self {
        let count = |name: &str| report[name].as_u64().unwrap_or(0);
        Self {
            generator_calls: count("generator_calls"),
            generator_tokens: count("generator_tokens"),
            judge_calls: count("judge_calls"),
            judge_tokens: count("judge_tokens"),
        }
    }
}

impl AddAssign for Bought {
    fn add_assign(&mut self, other: Self) {
        self.generator_calls += other.generator_calls;
        self.generator_tokens += other.generator_tokens;
        self.judge_calls += other.judge_calls;
        self.judge_tokens += other.judge_tokens;
    }
}

/// One update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// After so many decisions.
    pub decisions: usize,
    /// How it ended, in one word.
    pub outcome: String,
    /// Why, as the service said.
    pub reason: String,
    /// What training said of itself.
    pub report: Value,
    /// How long it took.
    pub seconds: f64,
}

/// What serves after some decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Decisions so far.
    pub decisions: usize,
    /// Which weights.
    pub version: u64,
    /// Token F1 of each test question, in [0, 1].
    pub f1: Vec<f64>,
    /// Mean documents a question.
    pub k: f64,
    /// Mean context tokens a question.
    pub tokens: f64,
    /// Mean F1 of all answers served so far: what exploring and learning cost on the way.
    pub served_f1: f64,
    /// Swaps so far.
    pub swaps: u64,
    /// Requests without an answer so far.
    pub failed: u64,
    /// What users said so far, and of it what was not taken.
    pub said: (u64, u64),
    /// What updates bought so far.
    pub bought: Bought,
    /// Seconds of asking so far, updates and measurements left out.
    pub seconds: f64,
}

/// What a course gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Who learned.
    pub arm: String,
    /// From whom.
    pub users: Temper,
    /// Seed.
    pub seed: u64,
    /// After each number of decisions of the plan; of an arm that is not told anything, one.
    pub checkpoints: Vec<Checkpoint>,
    /// In order.
    pub updates: Vec<Update>,
}

/// What all courses share.
#[derive(Clone, Copy)]
pub(super) struct Stage<'a> {
    pub plan: &'a Plan,
    pub lab: &'a Lab,
    pub config: &'a Config,
    pub material: &'a Material,
    pub name: &'a str,
}

/// Plays one course.
pub(super) async fn play(
    (arm, users, seed): (&Arm, Temper, u64),
    stage: &Stage<'_>,
    known: &mut Known,
    watch: &mut dyn Watch,
) -> Result<Course, BenchError> {
    let mut course = Course {
        arm: arm.name().to_owned(),
        users,
        seed,
        checkpoints: Vec::new(),
        updates: Vec::new(),
    };
    let first = stage.first(seed)?;
    let alone = match arm {
        Arm::Frozen => first,
        Arm::Oracle => oracle::train(stage, first, seed).await?,
        Arm::Learns { objective, .. } => {
            let folder = tempfile::Builder::new()
                .prefix("regrade-bench-")
                .tempdir()
                .map_err(|error| stage.failed(&error))?;
            let parts = stage.parts(folder.path(), *objective, seed).await?;
            let habits = stage.plan.habits(arm, users);
            let users = Users::new(&stage.material.train, habits, seed);
            Live::start(parts, stage).await?.run(users, &mut course, (known, watch)).await?;
            return Ok(course);
        }
    };
    let tally = Tally::default();
    course.checkpoints.push(stage.checkpoint((0, &alone), &tally, known).await?);
    Ok(course)
}

/// Figures of the fixed cuts on the test questions.
pub(super) async fn cuts(
    lab: &Lab,
    material: &Material,
    top_n: usize,
) -> Result<Vec<(String, Columns)>, BenchError> {
    let contender = |&k: &usize| Contender {
        name: format!("retrieval_k{k}"),
        policy: Box::new(FixedK::new(k)),
    };
    let contenders = CUTS.iter().map(contender).collect();
    let limits = Config::default().service.limits;
    measured(lab, material, (top_n, limits), contenders).await
}

async fn measured(
    lab: &Lab,
    material: &Material,
    (top_n, limits): (usize, SelectionLimits),
    mut contenders: Vec<Contender>,
) -> Result<Vec<(String, Columns)>, BenchError> {
    let setting = Setting { index: &*material.index, generator: &*lab.generator, top_n, limits };
    let exam = Exam::of(&material.test);
    let table = score(&setting, &mut contenders, &exam, &mut |_, _| {}).await?;
    let of = |mut c: crate::evaluate::scores::ContenderScores| (c.name, c.runs.swap_remove(0));
    Ok(table.contenders.into_iter().map(of).collect())
}

impl Stage<'_> {
    pub(super) fn failed(&self, reason: &dyn std::fmt::Display) -> BenchError {
        BenchError::Serve { entrant: self.name.to_owned(), reason: reason.to_string() }
    }

    fn first(&self, seed: u64) -> Result<PolicySnapshot, BenchError> {
        serving::first_snapshot(self.lab.reader.width(), seed, &self.lab.device)
            .map_err(|reason| self.failed(&reason))
    }

    pub(super) fn policy(&self, snapshot: &PolicySnapshot) -> Result<EncoderPolicy, BenchError> {
        EncoderPolicy::new(Arc::clone(&self.lab.reader), snapshot, self.lab.device.clone())
            .map_err(|error| self.failed(&error))
    }

    /// A service of its own in a folder, on the readings and candidates at hand.
    async fn parts(
        &self,
        folder: &Path,
        objective: Objective,
        seed: u64,
    ) -> Result<(Parts, Config), BenchError> {
        let mut config = self.config.clone();
        config.index.kind = IndexKind::Memory;
        config.log.kind = LogKind::Embedded;
        config.log.folder = folder.join("log");
        config.snapshots.url = folder.join("policies").display().to_string();
        config.certificates.key_file = folder.join("certificates.key");
        (config.policy.seed, config.learner.seed) = (seed, seed);
        config.learner.objective = objective;
        config.service.seed = Some(seed);
        config.service.top_n = self.plan.top_n;
        // Updates come when the plan says, and their examination decides: minutes of traffic are
        // too few for stages.
        config.service.learner.interval_ms = 0;
        config.service.learner.min_new_rewards = 0;
        config.service.learner.deadline_ms = UPDATE.as_millis() as u64;
        config.service.promotion.path = PromotionPath::HeldOut;
        let models = (Arc::clone(&self.lab.reader), Arc::clone(&self.lab.generator));
        let mut parts = wiring::parts_on(&config, models).await?;
        parts.ports.index = Arc::clone(&self.material.index);
        Ok((parts, config))
    }

    /// What these weights do with the test questions.
    pub(super) async fn checkpoint(
        &self,
        (decisions, snapshot): (usize, &PolicySnapshot),
        tally: &Tally,
        known: &mut Known,
    ) -> Result<Checkpoint, BenchError> {
        if !known.contains_key(&snapshot.digest) {
            let policy = Box::new(self.policy(snapshot)?);
            let contenders = vec![Contender { name: self.name.to_owned(), policy }];
            let how = (self.plan.top_n, self.config.service.limits);
            let found = measured(self.lab, self.material, how, contenders).await?;
            known.extend(found.into_iter().map(|(_, columns)| (snapshot.digest.clone(), columns)));
        }
        let column = |name: &str| -> Vec<f64> {
            let columns = known.get(&snapshot.digest);
            let column = columns.and_then(|columns| columns.get(name));
            column.into_iter().flatten().map(|value| value.unwrap_or(0.0)).collect()
        };
        Ok(Checkpoint {
            decisions,
            version: snapshot.version.0,
            f1: column("f1"),
            k: mean(&column("k")),
            tokens: mean(&column("context_tokens")),
            served_f1: tally.f1 / (tally.answered.max(1) as f64),
            swaps: tally.swaps,
            failed: tally.failed,
            said: (tally.said, tally.refused),
            bought: tally.bought,
            seconds: tally.seconds,
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

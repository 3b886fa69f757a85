//! One policy over one stream: served, counted, learned from.

use super::BenchError;
use super::streams::{Block, Item, Stream};
use crate::config::Config;
use crate::datasets::bucket;
use crate::policy::serving::{self, EncoderPolicy};
use crate::recipes::online::{OnlineConfig, OnlineLearner};
use crate::wiring::Lab;
use actors::ports::{Batch, DecideRequest, LearnReport, Learner, Policy, Trial};
use actors::types::{
    Answer, Decision, DecisionId, Episode, Exploration, Outcome, PolicySnapshot, PolicyVersion,
    Sample, SelectionLimits,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// One question in so many is held back for the gate.
const GATE_BUCKETS: u32 = 4;
/// Questions decided together.
const DECIDE_BATCH: usize = 8;

/// How a policy goes on from the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learning {
    /// It stays.
    Frozen,
    /// Trained from nothing on the window, after every block.
    Nightly,
    /// The recipe `online` on the window from the weights that served, within its trust region.
    Continual,
    /// The same, but weights serve only where the gate finds them better on a quarter of the window
    /// that they have not learned from.
    ContinualGated,
}

impl Learning {
    /// All, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Frozen, Self::Nightly, Self::Continual, Self::ContinualGated];

    /// Its name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Nightly => "nightly",
            Self::Continual => "continual",
            Self::ContinualGated => "continual_gated",
        }
    }
}

/// What a course gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// The stream.
    pub stream: String,
    /// How it learned.
    pub learning: Learning,
    /// Seed of training.
    pub seed: u64,
    /// Name of each block and the reward of each of its questions, in order; a question that could
    /// not be scored has none.
    pub blocks: Vec<(String, Vec<Option<f64>>)>,
    /// Mean reward on the held-out questions of the first domain: after the warm-up, and after each
    /// block was learned from.
    pub held_out: Vec<f64>,
    /// Documents chosen, a question, in each block.
    pub documents: Vec<f64>,
    /// What each update said, one for each block.
    pub updates: Vec<String>,
}

/// Plays one course. Reads nothing that is not read yet, if the stream was read before.
pub(super) fn play(
    stream: &Stream,
    (learning, seed): (Learning, u64),
    window_max: usize,
    (lab, config): (&Lab, &Config),
) -> Result<Course, BenchError> {
    let name = format!("{}-{}-{seed}", stream.name, learning.name());
    let mut learner = Learners::start(stream, (&name, learning, seed), (lab, config))?;
    let mut course = Course {
        stream: stream.name.clone(),
        learning,
        seed,
        blocks: Vec::new(),
        held_out: vec![learner.mean(&stream.held_out)?],
        documents: Vec::new(),
        updates: Vec::new(),
    };
    let mut window = VecDeque::from([learner.serve(&stream.warm_up)?.1]);
    for Block { name, items } in &stream.blocks {
        let (rewards, samples) = learner.serve(items)?;
        let chosen: usize =
            samples.iter().filter_map(|s| s.episode.decision.as_ref()).map(|d| d.order.len()).sum();
        course.documents.push(chosen as f64 / samples.len().max(1) as f64);
        course.blocks.push((name.clone(), rewards));
        window.push_back(samples);
        if window.len() > window_max.max(1) {
            window.pop_front();
        }
        course.updates.push(learner.learn(window.iter().flatten())?);
        course.held_out.push(learner.mean(&stream.held_out)?);
    }
    Ok(course)
}

/// A policy that serves and what trains it.
struct Learners<'a> {
    name: &'a str,
    learning: Learning,
    lab: &'a Lab,
    config: OnlineConfig,
    limits: SelectionLimits,
    policy: EncoderPolicy,
    learner: OnlineLearner,
    rng: StdRng,
    seed: u64,
    version: u64,
}

impl<'a> Learners<'a> {
    /// Trains on the warm-up: the same weights for every way to go on.
    fn start(
        stream: &Stream,
        (name, learning, seed): (&'a str, Learning, u64),
        (lab, config): (&'a Lab, &Config),
    ) -> Result<Self, BenchError> {
        let online = OnlineConfig { seed, ..config.learner.with_trials() };
        let limits = config.service.limits;
        let untrained = untrained(name, lab, seed)?;
        let policy = EncoderPolicy::new(Arc::clone(&lab.reader), &untrained, lab.device.clone())
            .map_err(|error| failed(name, &error))?;
        let learner = learner(name, &online, &untrained, lab)?;
        let rng = StdRng::seed_from_u64(seed);
        let mut learners = Self {
            name,
            learning,
            lab,
            config: online,
            limits,
            policy,
            learner,
            rng,
            seed,
            version: 0,
        };
        let (_, samples) = learners.serve(&stream.warm_up)?;
        learners.update(samples)?;
        Ok(learners)
    }

    /// Serves greedily; the reward of each question, and what can be learned from.
    fn serve(&mut self, items: &[Item]) -> Result<(Vec<Option<f64>>, Vec<Sample>), BenchError> {
        let (mut rewards, mut samples) = (Vec::new(), Vec::new());
        for chunk in items.chunks(DECIDE_BATCH) {
            let requests: Vec<DecideRequest> = chunk
                .iter()
                .map(|item| DecideRequest {
                    id: DecisionId(format!("{}-{}", item.query.id, self.version)),
                    query: item.query.clone(),
                    candidates: item.candidates.clone(),
                    policy: None,
                    limits: self.limits,
                    exploration: Exploration::Greedy,
                })
                .collect();
            let decisions = self.policy.decide(&requests, &mut self.rng);
            let decisions: Vec<Decision> = decisions
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|error| failed(self.name, &error))?;
            let trial = |(item, decision): (&Item, &Decision)| Trial {
                query: item.query.clone(),
                documents: decision
                    .order
                    .iter()
                    .filter_map(|j| item.candidates.get(*j as usize))
                    .map(|candidate| candidate.document.clone())
                    .collect(),
            };
            let trials: Vec<Trial> = chunk.iter().zip(&decisions).map(trial).collect();
            let scored = self.lab.environment.rewards(&trials);
            for ((item, decision), reward) in chunk.iter().zip(decisions).zip(scored) {
                rewards.push(reward.as_ref().ok().map(|reward| reward.total));
                let Ok(reward) = reward else { continue };
                let (references, episode) =
                    (item.query.references.clone(), episode(item, decision));
                samples.push(Sample { episode, reward, references });
            }
        }
        Ok((rewards, samples))
    }

    /// Mean reward on questions that are not learned from.
    fn mean(&mut self, items: &[Item]) -> Result<f64, BenchError> {
        let (rewards, _) = self.serve(items)?;
        let scored: Vec<f64> = rewards.into_iter().flatten().collect();
        Ok(scored.iter().sum::<f64>() / scored.len().max(1) as f64)
    }

    /// Learns from the window as this policy learns; says what came of it.
    fn learn<'s>(
        &mut self,
        window: impl Iterator<Item = &'s Sample>,
    ) -> Result<String, BenchError> {
        let samples: Vec<Sample> = window.cloned().collect();
        match self.learning {
            Learning::Frozen => Ok("frozen".to_owned()),
            Learning::Continual => self.update(samples),
            Learning::Nightly => {
                let untrained = untrained(self.name, self.lab, self.seed)?;
                self.learner = learner(self.name, &self.config, &untrained, self.lab)?;
                self.update(samples)
            }
            Learning::ContinualGated => self.gated(samples),
        }
    }

    /// Trains from the learner's weights and serves what comes of it.
    fn update(&mut self, train: Vec<Sample>) -> Result<String, BenchError> {
        let (candidate, report) = self.candidate(train)?;
        self.adopt(&candidate)?;
        Ok(format!("{} samples, {} steps, kl {:.4}", report.samples, report.steps, report.kl))
    }

    fn gated(&mut self, samples: Vec<Sample>) -> Result<String, BenchError> {
        let (holdout, train): (Vec<Sample>, Vec<Sample>) =
            samples.into_iter().partition(|sample| {
                bucket(sample.episode.query.id.as_str(), "gate", GATE_BUCKETS) == 0
            });
        let (candidate, _) = self.candidate(train)?;
        let found =
            self.learner.examine(&candidate, &holdout).map_err(|e| failed(self.name, &e))?;
        if found.accepted {
            self.adopt(&candidate)?;
        }
        Ok(format!("{}: {}", if found.accepted { "accepted" } else { "refused" }, found.reason))
    }

    fn candidate(
        &mut self,
        train: Vec<Sample>,
    ) -> Result<(PolicySnapshot, LearnReport), BenchError> {
        self.version += 1;
        let batch = Batch { train, ..Batch::default() };
        let made = self.learner.update(&batch, PolicyVersion(self.version));
        made.map_err(|error| failed(self.name, &error))
    }

    fn adopt(&mut self, candidate: &PolicySnapshot) -> Result<(), BenchError> {
        self.learner.adopt(candidate).map_err(|error| failed(self.name, &error))?;
        self.policy.swap(candidate).map_err(|error| failed(self.name, &error))
    }
}

fn untrained(name: &str, lab: &Lab, seed: u64) -> Result<PolicySnapshot, BenchError> {
    serving::first_snapshot(lab.reader.width(), seed, &lab.device)
        .map_err(|reason| failed(name, &reason))
}

fn learner(
    name: &str,
    config: &OnlineConfig,
    start: &PolicySnapshot,
    lab: &Lab,
) -> Result<OnlineLearner, BenchError> {
    let environment = Arc::clone(&lab.environment);
    OnlineLearner::new(config.clone(), start, environment, lab.device.clone())
        .map_err(|error| failed(name, &error))
}

fn failed(name: &str, error: &dyn std::fmt::Display) -> BenchError {
    BenchError::Serve { entrant: name.to_owned(), reason: error.to_string() }
}

/// The episode that a question was. Its answer is left out: the reward is known.
fn episode(item: &Item, decision: Decision) -> Episode {
    Episode {
        schema: Episode::SCHEMA,
        query: item.query.clone(),
        rewrites: Vec::new(),
        candidates: item.candidates.clone(),
        decision: Some(decision),
        outcome: Outcome::Answered { answer: Answer::default() },
        degraded: None,
        assignment: None,
        interleaved: None,
        unusable_for_ope: None,
        finished_ms: 0,
        duration_ms: 0,
    }
}

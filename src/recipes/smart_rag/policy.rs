//! Both heads as one policy, and one episode played or replayed by it.
//!
//! The log-probability of an episode is the sum over its moves and over the steps of its selection,
//! each exact in f64. Does not know losses.

use super::config::{Gate, Rules, SmartRagConfig};
use super::episode::{Episode, Step};
use super::world::{World, failed};
use crate::policy::head::Head;
use crate::policy::selection::{SelectionLogits, behaviour_log_probs};
use crate::policy::serving::PolicyWeights;
use crate::policy::turn_head::moves::{Move, Open, RewriteKind, TurnLogits};
use crate::policy::turn_head::{TurnHead, TurnHeadConfig, state};
use crate::recipes::fit::RecipeError;
use crate::recipes::instance::Instance;
use crate::recipes::rollout;
use crate::rewards::{exact_match, token_f1};
use actors::types::{Answer, Exploration, Query};
use candle_core::{Device, Tensor, Var};
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The policy itself: drawn as its logits say.
const POLICY: Exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.0 };

/// Gate, rewrite choice and selection. Clones share weights.
#[derive(Debug, Clone)]
pub struct SmartPolicy {
    /// Moves and values.
    pub turn: TurnHead,
    /// Documents.
    pub head: Head,
    device: Device,
}

impl SmartPolicy {
    /// The heads of some weights on `device`; a turn head that they lack starts untrained, `hidden`
    /// wide, from `seed`.
    ///
    /// # Errors
    /// The tensor library failed.
    pub fn new(
        weights: &PolicyWeights,
        (hidden, seed): (usize, u64),
        device: &Device,
    ) -> Result<Self, RecipeError> {
        let embedding = weights.head.config().embedding;
        let turn = match &weights.turn {
            Some(turn) => turn.clone(),
            None => {
                let scalars = state::SCALARS.len();
                TurnHead::init(TurnHeadConfig { embedding, scalars, hidden }, seed, device)?
            }
        };
        Ok(Self { turn, head: weights.head.clone(), device: device.clone() })
    }

    /// A copy that is trained, with the variables of both heads: `turn.…` and `head.…`.
    pub(super) fn trainable(&self) -> Result<(Self, BTreeMap<String, Var>), RecipeError> {
        let (turn, of_turn) = self.turn.trainable()?;
        let (head, of_head) = self.head.trainable()?;
        let named = |prefix: &str, of: BTreeMap<String, Var>| {
            of.into_iter().map(|(n, v)| (format!("{prefix}.{n}"), v)).collect::<Vec<_>>()
        };
        let variables = named("turn", of_turn).into_iter().chain(named("head", of_head)).collect();
        Ok((Self { turn, head, device: self.device.clone() }, variables))
    }

    /// A deep copy: later optimiser steps do not change it.
    pub(super) fn snapshot(&self) -> Result<Self, RecipeError> {
        let device = self.device.clone();
        Ok(Self { turn: self.turn.snapshot()?, head: self.head.snapshot()?, device })
    }

    /// Where the heads are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Logits and value of one turn.
    ///
    /// # Errors
    /// A state of another width.
    pub fn turn_logits(&self, state: &[f32]) -> Result<(TurnLogits, f64), RecipeError> {
        let state = Tensor::from_slice(state, (1, state.len()), &self.device)?;
        Ok(self.turn.forward(&state)?.row(0)?)
    }

    /// Logits of the selection from a list.
    ///
    /// # Errors
    /// States of another width.
    pub fn list_logits(&self, list: &Instance) -> Result<SelectionLogits, RecipeError> {
        let found = rollout::logits(&self.head, &[list], &self.device)?.pop();
        found.ok_or_else(|| RecipeError::Model("the head gave no logits".to_owned()))
    }
}

/// One turn as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What the turn head saw.
    pub state: Vec<f32>,
    /// What was open.
    pub open: Open,
    /// What was done.
    pub taken: Move,
    /// Natural log-probability of that under the behaviour policy; 0 where it was forced or greedy.
    pub log_prob: f64,
    /// Value of the state by the policy that played.
    pub value: f64,
}

impl Turn {
    /// Whether there was anything to choose.
    pub fn is_choice(&self) -> bool {
        self.open.iter().filter(|open| **open).count() > 1
    }
}

/// One episode as it was.
#[derive(Debug, Clone)]
pub struct Trajectory {
    /// Its turns; the last one answers, unless the episode is invalid.
    pub turns: Vec<Turn>,
    /// What the selection chose from; `None` without documents.
    pub list: Option<Arc<Instance>>,
    /// Chosen documents, in order.
    pub order: Vec<u32>,
    /// Natural log-probability of each step of the selection; see `selection.rs`.
    pub step_log_probs: Vec<f64>,
    /// The answer; empty where the episode is invalid.
    pub answer: Answer,
    /// Exact match, 0 or 1.
    pub em: f64,
    /// Token F1, in [0, 1].
    pub f1: f64,
    /// Whether it ended by a move that was not open.
    pub invalid: bool,
}

impl Trajectory {
    /// Searches made.
    pub fn retrievals(&self) -> usize {
        let made = |turn: &&Turn| matches!(turn.taken, Move::Retrieve(_)) && is_open(turn);
        self.turns.iter().filter(made).count()
    }

    /// Log-probability of the whole episode under the behaviour policy, in nats, ≤ 0.
    pub fn log_prob(&self) -> f64 {
        let moves = self.turns.iter().map(|turn| turn.log_prob).sum::<f64>();
        moves + self.step_log_probs.iter().sum::<f64>()
    }

    /// Reward of each turn: minus the cost for a retrieval, EM + F1 for the answer, minus the
    /// format penalty for a move that was not open.
    pub fn rewards(&self, config: &SmartRagConfig) -> Vec<f64> {
        let of = |turn: &Turn| match turn.taken {
            _ if !is_open(turn) => -config.format_penalty,
            Move::Retrieve(_) => -config.retrieval_cost,
            Move::Answer => self.em + self.f1,
        };
        self.turns.iter().map(of).collect()
    }

    /// Undiscounted sum of the rewards.
    pub fn net_reward(&self, config: &SmartRagConfig) -> f64 {
        self.rewards(config).iter().sum()
    }

    /// What `policy` gives each choice of the episode: the log-probability of every turn's move,
    /// and of every step of the selection, at temperature 1.
    ///
    /// # Errors
    /// Weights that are not finite, or a record that contradicts its masks.
    pub(super) fn log_probs_under(
        &self,
        policy: &SmartPolicy,
        rules: &Rules,
    ) -> Result<(Vec<f64>, Vec<f64>), RecipeError> {
        let broken = |error: &dyn std::fmt::Display| RecipeError::Model(error.to_string());
        let mut moves = Vec::with_capacity(self.turns.len());
        for turn in &self.turns {
            let (logits, _) = policy.turn_logits(&turn.state)?;
            let log_prob = logits.log_prob(&turn.open, turn.taken, POLICY);
            moves.push(log_prob.map_err(|e| broken(&e))?);
        }
        let Some(list) = &self.list else { return Ok((moves, Vec::new())) };
        let logits = policy.list_logits(list)?;
        let steps = behaviour_log_probs(&logits, list.masks(rules.limits), &self.order, POLICY);
        Ok((moves, steps.map_err(|e| broken(&e))?))
    }
}

fn is_open(turn: &Turn) -> bool {
    turn.open[turn.taken.column()]
}

/// Plays one episode.
///
/// # Errors
/// A port that failed, or weights that are not finite.
pub async fn play(
    world: &World,
    policy: &SmartPolicy,
    query: &Query,
    rules: &Rules,
    rng: &mut StdRng,
) -> Result<Trajectory, RecipeError> {
    let mut episode = Episode::start(world, query, rules.quota).await?;
    let mut turns = Vec::new();
    // At most `quota` retrievals, then only answering is open.
    loop {
        let (state, open) = (episode.state(), episode.open());
        let (logits, value) = policy.turn_logits(&state)?;
        let (taken, log_prob) = match forced(rules.gate, turns.len()) {
            Some(taken) if open[taken.column()] => (taken, 0.0),
            Some(_) => (Move::Answer, 0.0),
            None => {
                let logits = match rules.gate {
                    Gate::Policy { retrieve_bias } if turns.is_empty() => {
                        logits.with_retrieve_bias(retrieve_bias)
                    }
                    _ => logits,
                };
                logits
                    .choose(&open, rules.exploration, rng)
                    .map_err(|error| RecipeError::Model(error.to_string()))?
            }
        };
        turns.push(Turn { state, open, taken, log_prob, value });
        match episode.take(taken).await? {
            Step::Observed => {}
            Step::Answering => return finish(world, &episode, policy, (turns, rules), rng).await,
            Step::Invalid => return Ok(invalid(turns)),
        }
    }
}

/// What a fixed gate does at a turn.
fn forced(gate: Gate, turn: usize) -> Option<Move> {
    match gate {
        Gate::Policy { .. } => None,
        Gate::Always if turn == 0 => Some(Move::Retrieve(RewriteKind::Original)),
        Gate::Always | Gate::Never => Some(Move::Answer),
    }
}

async fn finish(
    world: &World,
    episode: &Episode<'_>,
    policy: &SmartPolicy,
    (turns, rules): (Vec<Turn>, &Rules),
    rng: &mut StdRng,
) -> Result<Trajectory, RecipeError> {
    let list = episode.list()?;
    let (mut order, mut step_log_probs) = (Vec::new(), Vec::new());
    if let Some(list) = &list {
        let logits = policy.list_logits(list)?;
        let drawn = rollout::draw(&logits, list, rules.limits, (rules.exploration, 1), rng)?;
        let drawn = drawn.into_iter().next().unwrap_or_default();
        (order, step_log_probs) = (drawn.order, drawn.step_log_probs);
    }
    answered(world, episode, turns, (list, order, step_log_probs)).await
}

type Selected = (Option<Arc<Instance>>, Vec<u32>, Vec<f64>);

async fn answered(
    world: &World,
    episode: &Episode<'_>,
    turns: Vec<Turn>,
    (list, order, step_log_probs): Selected,
) -> Result<Trajectory, RecipeError> {
    let documents = list.as_ref().map_or_else(Vec::new, |list| list.documents(&order));
    let answer = world.answer(episode.asked(), &documents).await?;
    let references = &episode.asked().query.references;
    let (em, f1) = (exact_match(&answer.text, references), token_f1(&answer.text, references));
    Ok(Trajectory { turns, list, order, step_log_probs, answer, em, f1, invalid: false })
}

/// An episode that ended by a move that was not open: no answer, nothing earned.
fn invalid(turns: Vec<Turn>) -> Trajectory {
    Trajectory {
        turns,
        list: None,
        order: Vec::new(),
        step_log_probs: Vec::new(),
        answer: Answer::default(),
        em: 0.0,
        f1: 0.0,
        invalid: true,
    }
}

/// Plays recorded moves and a recorded selection again: what they bring, and what `policy` makes of
/// them. A move that is not open ends the episode as invalid, at the format penalty; so does a
/// record that never answers. The log-probabilities are those of `policy`, with minus infinity for
/// the invalid move.
///
/// # Errors
/// A port that failed, or a selection that its masks forbid.
pub async fn replay(
    world: &World,
    policy: &SmartPolicy,
    query: &Query,
    rules: &Rules,
    (moves, order): (&[Move], &[u32]),
) -> Result<Trajectory, RecipeError> {
    let mut episode = Episode::start(world, query, rules.quota).await?;
    let at = match rules.exploration {
        Exploration::Greedy => POLICY,
        exploration => exploration,
    };
    let mut turns = Vec::new();
    for &taken in moves {
        let (state, open) = (episode.state(), episode.open());
        let (logits, value) = policy.turn_logits(&state)?;
        let log_prob = logits.log_prob(&open, taken, at).unwrap_or(f64::NEG_INFINITY);
        turns.push(Turn { state, open, taken, log_prob, value });
        match episode.take(taken).await? {
            Step::Observed => {}
            Step::Invalid => return Ok(invalid(turns)),
            Step::Answering => {
                let list = episode.list()?;
                let steps = match &list {
                    None => Vec::new(),
                    Some(list) => {
                        let logits = policy.list_logits(list)?;
                        behaviour_log_probs(&logits, list.masks(rules.limits), order, at)
                            .map_err(|error| failed(query, error.to_string()))?
                    }
                };
                let order = if list.is_some() { order.to_vec() } else { Vec::new() };
                return answered(world, &episode, turns, (list, order, steps)).await;
            }
        }
    }
    Ok(invalid(turns))
}

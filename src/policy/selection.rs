//! Ordered selection with a learned stop: a Plackett–Luce policy whose probabilities are exact.
//!
//! Owns masks, sampling and log-probabilities, in f64 and without tensors, so that serving, training
//! and off-policy estimates share one definition; not where logits come from (`head.rs`).
//!
//! At step t with chosen set C the unmasked actions are the documents that are not chosen and still
//! fit the token budget, and the stop once `k_min` documents are chosen:
//! `l_t[j] = score_j + mean_{i in C} interaction[j][i]`, `z_t = stop + sum_{i in C} evidence_i +
//! stop_per_document * |C|`, and
//! `b(a) = (1 - eps) * softmax(l / tau)[a] + eps / |actions|`.
//! A choice that is forced (only the stop is left, or `k_max` is reached) is no step and has no
//! probability to record. Exploration of one step of the greedy list is `explore.rs`.

mod explore;
pub use explore::greedy_completions;

use actors::types::{Exploration, SelectionLimits};
use rand::Rng;

/// The numbers that define a policy over selections from n candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectionLogits {
    /// (n) logit of each candidate before anything is chosen.
    pub scores: Vec<f64>,
    /// (n, n) row-major: what having chosen i does to the logit of j, at `[j * n + i]`.
    pub interaction: Vec<f64>,
    /// (n) what having chosen i does to the stop.
    pub evidence: Vec<f64>,
    /// Stop logit of the empty selection.
    pub stop: f64,
    /// What each chosen document adds to the stop, whichever it is.
    pub stop_per_document: f64,
    /// (members)(n) the scores as each member of an ensemble has them, which vote on the step that
    /// [`Exploration::Explore`] draws; all else they share. Empty without an ensemble.
    pub ensemble: Vec<Vec<f64>>,
}

/// Candidates' costs and the limits: everything that masks.
#[derive(Debug, Clone, Copy)]
pub struct Masks<'a> {
    /// (n) context tokens of each candidate.
    pub tokens: &'a [u32],
    /// Hard limits.
    pub limits: SelectionLimits,
}

/// A selection and the log-probability of each of its steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// Chosen candidates in order.
    pub order: Vec<u32>,
    /// Natural log-probability of each step under the behaviour policy: a document each, and the
    /// stop where it was a choice. All 0 for a greedy selection.
    pub step_log_probs: Vec<f64>,
}

/// Why a recorded selection has no probability.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectionError {
    /// The sizes of the inputs do not agree.
    #[error("selection over {scores} scores got {found} {what}")]
    Shape {
        /// Number of candidates by scores.
        scores: usize,
        /// Number found.
        found: usize,
        /// Of what.
        what: &'static str,
    },
    /// The selection takes an action that its masks forbid.
    #[error("step {step} of the selection takes a masked action ({action})")]
    Masked {
        /// Step, from 0.
        step: usize,
        /// `document 3` or `stop`.
        action: String,
    },
    /// A logit is NaN or infinite.
    #[error("selection logits are not finite")]
    NotFinite,
}

/// One action: a candidate, or the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Document(usize),
    Stop,
}

impl SelectionLogits {
    /// A policy that only has scores and one stop logit: plain Plackett–Luce with a stop.
    pub fn from_scores(scores: Vec<f64>, stop: f64) -> Self {
        let n = scores.len();
        Self {
            scores,
            interaction: vec![0.0; n * n],
            evidence: vec![0.0; n],
            stop,
            stop_per_document: 0.0,
            ensemble: Vec::new(),
        }
    }

    fn check(&self, masks: &Masks<'_>) -> Result<(), SelectionError> {
        let n = self.scores.len();
        let shape = |found, expected, what| {
            if found == expected {
                Ok(())
            } else {
                Err(SelectionError::Shape { scores: n, found, what })
            }
        };
        shape(self.interaction.len(), n * n, "interactions")?;
        shape(self.evidence.len(), n, "evidence terms")?;
        shape(masks.tokens.len(), n, "token counts")?;
        for member in &self.ensemble {
            shape(member.len(), n, "scores of a member of the ensemble")?;
        }
        let own = self.scores.iter().chain(&self.interaction).chain(&self.evidence);
        let mut all = own.chain(self.ensemble.iter().flatten());
        let finite = all.all(|v| v.is_finite())
            && self.stop.is_finite()
            && self.stop_per_document.is_finite();
        if finite { Ok(()) } else { Err(SelectionError::NotFinite) }
    }
}

/// The walk through one selection: what is chosen, what is left.
#[derive(Clone)]
struct Walk<'a> {
    logits: &'a SelectionLogits,
    masks: Masks<'a>,
    chosen: Vec<usize>,
    is_chosen: Vec<bool>,
    budget: u64,
}

impl<'a> Walk<'a> {
    fn new(logits: &'a SelectionLogits, masks: Masks<'a>) -> Result<Self, SelectionError> {
        logits.check(&masks)?;
        let n = logits.scores.len();
        Ok(Self {
            logits,
            masks,
            chosen: Vec::new(),
            is_chosen: vec![false; n],
            budget: u64::from(masks.limits.token_budget),
        })
    }

    fn fits(&self, j: usize) -> bool {
        !self.is_chosen[j] && u64::from(self.masks.tokens[j]) <= self.budget
    }

    /// Unmasked actions with their logits; empty when the end is forced.
    fn actions(&self) -> Vec<(Action, f64)> {
        self.actions_by(&self.logits.scores)
    }

    /// [`Walk::actions`] by other (n) scores.
    fn actions_by(&self, scores: &[f64]) -> Vec<(Action, f64)> {
        let k = self.chosen.len();
        if k >= self.masks.limits.k_max as usize {
            return Vec::new();
        }
        let mut actions: Vec<(Action, f64)> = (0..scores.len())
            .filter(|&j| self.fits(j))
            .map(|j| (Action::Document(j), self.document_logit(scores, j)))
            .collect();
        if !actions.is_empty() && k >= self.masks.limits.k_min as usize {
            actions.push((Action::Stop, self.stop_logit()));
        }
        actions
    }

    /// Logit of document j by these (n) scores.
    fn document_logit(&self, scores: &[f64], j: usize) -> f64 {
        let n = scores.len();
        if self.chosen.is_empty() {
            return scores[j];
        }
        let row = &self.logits.interaction[j * n..(j + 1) * n];
        let sum: f64 = self.chosen.iter().map(|&i| row[i]).sum();
        scores[j] + sum / self.chosen.len() as f64
    }

    fn stop_logit(&self) -> f64 {
        let evidence: f64 = self.chosen.iter().map(|&i| self.logits.evidence[i]).sum();
        self.logits.stop + evidence + self.logits.stop_per_document * self.chosen.len() as f64
    }

    fn take(&mut self, j: usize) {
        self.is_chosen[j] = true;
        self.budget -= u64::from(self.masks.tokens[j]);
        self.chosen.push(j);
    }
}

/// Probabilities of the actions under the behaviour policy; sums to 1 within rounding.
fn probabilities(actions: &[(Action, f64)], temperature: f64, epsilon: f64) -> Vec<f64> {
    let top = actions.iter().map(|(_, l)| *l).fold(f64::NEG_INFINITY, f64::max);
    let mut p: Vec<f64> = actions.iter().map(|(_, l)| ((l - top) / temperature).exp()).collect();
    let sum: f64 = p.iter().sum();
    let uniform = epsilon / p.len() as f64;
    p.iter_mut().for_each(|v| *v = (1.0 - epsilon) * *v / sum + uniform);
    p
}

/// Draws a selection as `exploration` says.
///
/// Greedy takes the most probable action at each step, ties to the better retrieval rank, and
/// stops rather than choose on a tie; its step log-probabilities are 0.
pub fn select(
    logits: &SelectionLogits,
    masks: Masks<'_>,
    exploration: Exploration,
    rng: &mut impl Rng,
) -> Result<Selection, SelectionError> {
    if let Exploration::Explore { share, temperature, epsilon } = exploration {
        let one_step = explore::OneStep { share, temperature, epsilon };
        return one_step.select(logits, masks, rng);
    }
    let mut walk = Walk::new(logits, masks)?;
    let mut selection = Selection::default();
    loop {
        let actions = walk.actions();
        if actions.is_empty() {
            break;
        }
        let (action, log_prob) = match exploration {
            Exploration::Sample { temperature, epsilon } => {
                let p = probabilities(&actions, temperature, epsilon);
                let index = draw(&p, rng.random::<f64>());
                (actions[index].0, p[index].ln())
            }
            _ => (best(&actions), 0.0),
        };
        selection.step_log_probs.push(log_prob);
        match action {
            Action::Stop => break,
            Action::Document(j) => {
                selection.order.push(j as u32);
                walk.take(j);
            }
        }
    }
    Ok(selection)
}

fn best(actions: &[(Action, f64)]) -> Action {
    let mut best = actions[0];
    for &(action, logit) in &actions[1..] {
        if logit > best.1 || (logit == best.1 && action == Action::Stop) {
            best = (action, logit);
        }
    }
    best.0
}

/// Index of the cell of the cumulative distribution that `u` in [0, 1) falls into; cells of
/// probability 0 are never hit.
fn draw(p: &[f64], u: f64) -> usize {
    let mut left = u * p.iter().sum::<f64>();
    let mut last = 0;
    for (index, &cell) in p.iter().enumerate() {
        if cell <= 0.0 {
            continue;
        }
        if left < cell {
            return index;
        }
        left -= cell;
        last = index;
    }
    last
}

/// Step log-probabilities, in nats, of a given selection under these logits when every step is
/// drawn.
///
/// The stop is part of it exactly where it was a choice: a selection that ends while documents
/// still fit and `k_max` is not reached has ended by the stop action.
pub fn log_probs(
    logits: &SelectionLogits,
    masks: Masks<'_>,
    order: &[u32],
    temperature: f64,
    epsilon: f64,
) -> Result<Vec<f64>, SelectionError> {
    let mut steps = Vec::with_capacity(order.len() + 1);
    along(logits, masks, order, |_, actions, index| {
        steps.push(probabilities(actions, temperature, epsilon)[index].ln());
    })?;
    Ok(steps)
}

/// Whether each step of a given selection is the greedy one of these logits after the steps before it.
/// Errors as for [`log_probs`].
pub fn greedy_steps(
    logits: &SelectionLogits,
    masks: Masks<'_>,
    order: &[u32],
) -> Result<Vec<bool>, SelectionError> {
    let mut steps = Vec::with_capacity(order.len() + 1);
    along(logits, masks, order, |_, actions, index| {
        steps.push(best(actions) == actions[index].0);
    })?;
    Ok(steps)
}

/// Conditional step log-probabilities, in nats, of a given selection under a policy that draws as
/// `exploration` says: `ln P(first t + 1 steps) - ln P(first t steps)`, so that their sum is the
/// log-probability of the selection. A step that is never taken after those before it has -∞, and
/// so have all that follow it.
///
/// # Errors
/// A selection that the masks forbid, or inputs that do not fit each other.
pub fn behaviour_log_probs(
    logits: &SelectionLogits,
    masks: Masks<'_>,
    order: &[u32],
    exploration: Exploration,
) -> Result<Vec<f64>, SelectionError> {
    match exploration {
        Exploration::Sample { temperature, epsilon } => {
            log_probs(logits, masks, order, temperature, epsilon)
        }
        Exploration::Greedy => {
            let mut steps = Vec::with_capacity(order.len() + 1);
            let mut log_prob = 0.0;
            along(logits, masks, order, |_, actions, index| {
                if actions[index].0 != best(actions) {
                    log_prob = f64::NEG_INFINITY;
                }
                steps.push(log_prob);
            })?;
            Ok(steps)
        }
        Exploration::Explore { share, temperature, epsilon } => {
            explore::OneStep { share, temperature, epsilon }.log_probs(logits, masks, order)
        }
    }
}

/// Walks along a recorded selection, and shows `visit` each choice: the walk before it, the
/// unmasked actions, and which of them was taken.
fn along(
    logits: &SelectionLogits,
    masks: Masks<'_>,
    order: &[u32],
    mut visit: impl FnMut(&Walk<'_>, &[(Action, f64)], usize),
) -> Result<(), SelectionError> {
    let mut walk = Walk::new(logits, masks)?;
    let all = order.iter().map(|&j| Action::Document(j as usize)).chain([Action::Stop]);
    for (step, wanted) in all.enumerate() {
        let actions = walk.actions();
        if actions.is_empty() && wanted == Action::Stop {
            break;
        }
        let Some(index) = actions.iter().position(|(a, _)| *a == wanted) else {
            let action = match wanted {
                Action::Document(j) => format!("document {j}"),
                Action::Stop => "stop".to_owned(),
            };
            return Err(SelectionError::Masked { step, action });
        };
        visit(&walk, &actions, index);
        if let Action::Document(j) = wanted {
            walk.take(j);
        }
    }
    Ok(())
}

/// Which actions were open at each recorded step of a selection.
///
/// Returns one row per step, `(n + 1)` long: true where the action is unmasked, the stop last.
/// The trainer masks its logits with the same rows, so both see one action space.
pub fn open_actions(
    n: usize,
    masks: Masks<'_>,
    order: &[u32],
) -> Result<Vec<Vec<bool>>, SelectionError> {
    let logits = SelectionLogits::from_scores(vec![0.0; n], 0.0);
    let mut rows = Vec::with_capacity(order.len() + 1);
    along(&logits, masks, order, |_, actions, _| {
        let mut row = vec![false; n + 1];
        for (action, _) in actions {
            match action {
                Action::Document(j) => row[*j] = true,
                Action::Stop => row[n] = true,
            }
        }
        rows.push(row);
    })?;
    Ok(rows)
}

#[cfg(test)]
mod tests;

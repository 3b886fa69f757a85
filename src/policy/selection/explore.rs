//! The greedy list with one of its steps left to chance: what most traffic can bear.
//!
//! Owns the drawing and the exact probability of such lists. With g the greedy list of L choices,
//! `P(a) = (1 - share) [a = g] + share / L * sum_t [a_<t = g_<t] p_t(a_t | g_<t) [the rest is greedy]`
//! where p_t mixes the proposal with the uniform choice. A document that was not drawn at its step does
//! not come later either, unless nothing else may be chosen: a list with it and one without it tell what
//! it is worth, two orders of the same documents hardly do. Every list that differs from g does so first
//! at one step d, and only the draw of that step can have led to it; g itself is reached by every step,
//! so that its probability is at least 1 - share.

use super::{
    Action, Masks, Selection, SelectionError, SelectionLogits, Walk, along, best, draw,
    probabilities,
};
use rand::Rng;

/// `Exploration::Explore` as numbers.
#[derive(Clone, Copy)]
pub(super) struct OneStep {
    /// Share of the decisions in which a step is drawn.
    pub share: f64,
    /// Of the softmax.
    pub temperature: f64,
    /// Share of uniform choice at the drawn step.
    pub epsilon: f64,
}

impl OneStep {
    pub(super) fn select(
        self,
        logits: &SelectionLogits,
        masks: Masks<'_>,
        rng: &mut impl Rng,
    ) -> Result<Selection, SelectionError> {
        let mut list = Vec::new();
        finish(&mut Walk::new(logits, masks)?, &mut list, None);
        if !list.is_empty() && rng.random::<f64>() < self.share {
            let step = rng.random_range(0..list.len());
            let greedy = list[step];
            list.truncate(step);
            let mut walk = Walk::new(logits, masks)?;
            list.iter().for_each(|action| walk.follow(*action));
            let actions = walk.actions();
            let index = draw(&self.proposal(&walk, &actions), rng.random::<f64>());
            let action = actions[index].0;
            list.push(action);
            walk.follow(action);
            if action != Action::Stop {
                finish(&mut walk, &mut list, Some(greedy).filter(|greedy| *greedy != action));
            }
        }
        let order: Vec<u32> = list.iter().filter_map(|action| action.document()).collect();
        let step_log_probs = self.log_probs(logits, masks, &order)?;
        Ok(Selection { order, step_log_probs })
    }

    /// Conditional step log-probabilities of a given selection.
    pub(super) fn log_probs(
        self,
        logits: &SelectionLogits,
        masks: Masks<'_>,
        order: &[u32],
    ) -> Result<Vec<f64>, SelectionError> {
        let mut greedy = Vec::new();
        finish(&mut Walk::new(logits, masks)?, &mut greedy, None);
        let each = self.share / greedy.len() as f64;
        // Of as many explorations as the greedy list has steps, one at each, those that are on it
        // still: the steps to come, and p_t(g_t) of each step so far.
        let (mut to_come, mut drawn) = (greedy.len() as f64, 0.0);
        let of_greedy = |on_it: f64| 1.0 - self.share + each * on_it;
        // P(the steps so far), and whether they are those of the greedy list.
        let (mut mass, mut is_greedy, mut left) = (of_greedy(to_come), true, None);
        let mut steps = Vec::with_capacity(order.len() + 1);
        along(logits, masks, order, |walk, actions, index| {
            let greedy = best_but(actions, left);
            let is_best = actions[index].0 == greedy;
            let next = if is_greedy {
                let p = self.proposal(walk, actions)[index];
                is_greedy = is_best;
                if is_best {
                    to_come -= 1.0;
                    drawn += p;
                    of_greedy(to_come + drawn)
                } else {
                    left = Some(greedy);
                    each * p
                }
            } else if is_best {
                mass
            } else {
                0.0
            };
            // The whole can exceed the part by rounding only.
            steps.push(if next > 0.0 { (next / mass).ln().min(0.0) } else { f64::NEG_INFINITY });
            mass = next;
        })?;
        Ok(steps)
    }

    /// Probabilities of the actions of the step that is drawn.
    fn proposal(self, walk: &Walk<'_>, actions: &[(Action, f64)]) -> Vec<f64> {
        if actions.len() == 1 {
            return vec![1.0];
        }
        let ensemble = &walk.logits.ensemble;
        if ensemble.is_empty() {
            return probabilities(actions, self.temperature, self.epsilon);
        }
        let mut p = vec![self.epsilon / actions.len() as f64; actions.len()];
        for scores in ensemble {
            let vote = best(&walk.actions_by(scores));
            if let Some(index) = actions.iter().position(|(action, _)| *action == vote) {
                p[index] += (1.0 - self.epsilon) / ensemble.len() as f64;
            }
        }
        p
    }
}

/// Where each open action of each step of a given selection leads when all that follows is greedy.
///
/// Returns one row per step, `(n + 1)` long: the whole selection, `None` where the action is masked;
/// the stop last. Errors as for [`super::log_probs`].
pub fn greedy_completions(
    logits: &SelectionLogits,
    masks: Masks<'_>,
    order: &[u32],
) -> Result<Vec<Vec<Option<Vec<u32>>>>, SelectionError> {
    let n = logits.scores.len();
    let mut steps = Vec::with_capacity(order.len() + 1);
    along(logits, masks, order, |walk, actions, _| {
        let mut row = vec![None; n + 1];
        for &(action, _) in actions {
            let mut walk = walk.clone();
            let cell = match action {
                Action::Document(j) => {
                    walk.take(j);
                    finish(&mut walk, &mut Vec::new(), None);
                    j
                }
                Action::Stop => n,
            };
            row[cell] = Some(walk.chosen.iter().map(|&j| j as u32).collect());
        }
        steps.push(row);
    })?;
    Ok(steps)
}

/// The greedy action but for a document that was passed over, where there is another.
fn best_but(actions: &[(Action, f64)], left: Option<Action>) -> Action {
    match left {
        Some(document @ Action::Document(_)) if actions.len() > 1 => {
            let others: Vec<_> = actions.iter().filter(|(a, _)| *a != document).copied().collect();
            best(&others)
        }
        _ => best(actions),
    }
}

/// Goes on greedily to the end, without the document that was passed over.
fn finish(walk: &mut Walk<'_>, list: &mut Vec<Action>, left: Option<Action>) {
    loop {
        let actions = walk.actions();
        if actions.is_empty() {
            break;
        }
        let action = best_but(&actions, left);
        list.push(action);
        walk.follow(action);
        if action == Action::Stop {
            break;
        }
    }
}

impl Action {
    fn document(self) -> Option<u32> {
        match self {
            Self::Document(j) => Some(j as u32),
            Self::Stop => None,
        }
    }
}

impl Walk<'_> {
    /// Takes an action; the stop leaves everything as it is.
    fn follow(&mut self, action: Action) {
        if let Action::Document(j) = action {
            self.take(j);
        }
    }
}

#[cfg(test)]
mod tests;

//! Long lists: a shortlist in blocks, then one decision over what is left.
//!
//! A policy that sees W candidates at once decides over hundreds of them: the list is split into
//! blocks of W, the policy selects in each, and what it selects makes the next list, until W are left
//! (DynamicRAG, inference for N > W). Every index that leaves a block is turned into one of the whole
//! list first; the released code did not, so that every block but the first stood for the documents
//! of the first.
//!
//! Propensities. A list of W or fewer is the inner policy's own decision, exploration included, and
//! its probability is exact. The probability of a final list over blocks is a sum over all
//! shortlists that could have led to it, which nobody can compute; so a longer list is decided
//! greedily throughout, the decision says so, and no estimate uses it. It carries no states, for
//! they would be those of the last block alone.
//!
//! Knows no policy but through its port.

use super::baselines::unlearned;
use actors::ports::{DecideRequest, Policy, PolicyError};
use actors::types::{CandidateStates, Decision, Exploration, PolicySnapshot, PolicyStamp, Query};
use rand::rngs::StdRng;
use std::collections::{HashMap, HashSet};

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot shortlist with `{field}` = {value}; expected a number from {least}")]
pub struct ShortlistError {
    /// The setting.
    pub field: &'static str,
    /// Its value.
    pub value: usize,
    /// The least that works.
    pub least: usize,
}

/// See the module.
pub struct Shortlist {
    inner: Box<dyn Policy>,
    window: usize,
    rounds_max: usize,
}

/// What is known of a long list while it shrinks.
struct Rounds {
    /// Places in the whole list that are left, in retrieval order.
    pool: Vec<usize>,
    /// (n) context tokens, as the first round found them.
    tokens: Vec<u32>,
    /// Places that were dropped, those dropped last first; in retrieval order within a round.
    dropped: Vec<usize>,
    /// Places that hold a document which the list has before, with the place of that one: a
    /// document that two retrievers found is still one.
    repeats: Vec<(usize, usize)>,
}

impl Shortlist {
    /// Decides over long lists with `inner`, `window` candidates at a time (2 or more), in at most
    /// `rounds_max` rounds (1 or more) before the final one. Where more than `window` are left after
    /// the last round, or where a round drops nothing, the first choices of every block go on.
    ///
    /// # Errors
    /// Names the setting that cannot work.
    pub fn new(
        inner: Box<dyn Policy>,
        window: usize,
        rounds_max: usize,
    ) -> Result<Self, ShortlistError> {
        for (field, value, least) in [("window", window, 2), ("rounds_max", rounds_max, 1)] {
            if value < least {
                return Err(ShortlistError { field, value, least });
            }
        }
        Ok(Self { inner, window, rounds_max })
    }

    fn decide_long(
        &mut self,
        request: &DecideRequest,
        rng: &mut StdRng,
    ) -> Result<Decision, PolicyError> {
        let mut rounds = Rounds::new(request);
        for round in 1..=self.rounds_max {
            if rounds.pool.len() <= self.window {
                break;
            }
            let selected = self.round(request, &mut rounds, rng)?;
            let before = rounds.pool.len();
            rounds.keep(selected.iter().flatten().copied().collect());
            // A policy that keeps everything would do so for ever.
            let is_over = rounds.pool.len() == before || round == self.rounds_max;
            if is_over && rounds.pool.len() > self.window {
                rounds.keep(by_turns(&selected, self.window));
            }
        }
        let last = self.over(request, &rounds.pool, rng)?;
        rounds.charge(&last.0, &last.1);
        Ok(self.whole(request, &rounds, last))
    }

    /// What the policy selects in each block of the pool, as places in the whole list.
    fn round(
        &mut self,
        request: &DecideRequest,
        rounds: &mut Rounds,
        rng: &mut StdRng,
    ) -> Result<Vec<Vec<usize>>, PolicyError> {
        let mut selected = Vec::new();
        for block in rounds.pool.clone().chunks(self.window) {
            let (places, decision) = self.over(request, block, rng)?;
            rounds.charge(&places, &decision);
            selected.push(decision.order.iter().map(|at| places[*at as usize]).collect());
        }
        Ok(selected)
    }

    /// The inner policy's greedy decision over some places, checked; with those places.
    fn over(
        &mut self,
        request: &DecideRequest,
        places: &[usize],
        rng: &mut StdRng,
    ) -> Result<(Vec<usize>, Decision), PolicyError> {
        let block = DecideRequest {
            id: request.id.clone(),
            query: Query { candidates: None, ..request.query.clone() },
            candidates: places.iter().map(|place| request.candidates[*place].clone()).collect(),
            policy: None,
            limits: request.limits,
            exploration: Exploration::Greedy,
        };
        if places.is_empty() {
            return Ok((Vec::new(), unlearned(&block, "", Default::default())));
        }
        let decided = self.inner.decide(std::slice::from_ref(&block), rng).pop();
        let none = || PolicyError::Model("the policy gave no decision over a block".to_owned());
        let decision = decided.ok_or_else(none)??;
        let mut seen = HashSet::new();
        let is_wrong = |at: &&u32| **at as usize >= places.len() || !seen.insert(**at);
        if let Some(at) = decision.order.iter().find(is_wrong) {
            return Err(PolicyError::Model(format!(
                "the policy chose candidate {at} of a block of {} (again, or there is none)",
                places.len()
            )));
        }
        Ok((places.to_vec(), decision))
    }

    /// The last decision as one over the whole list.
    fn whole(
        &self,
        request: &DecideRequest,
        rounds: &Rounds,
        (places, last): (Vec<usize>, Decision),
    ) -> Decision {
        // What was dropped ranks below what was decided on, and the earlier the lower.
        let lowest = last.scores.iter().copied().filter(|score| score.is_finite());
        let lowest = lowest.fold(0.0_f32, f32::min);
        let mut scores = vec![0.0; request.candidates.len()];
        for (below, place) in rounds.dropped.iter().enumerate() {
            scores[*place] = lowest - 1.0 - below as f32;
        }
        for (place, score) in places.iter().zip(&last.scores) {
            scores[*place] = *score;
        }
        let mut tokens = rounds.tokens.clone();
        for (place, first) in &rounds.repeats {
            tokens[*place] = tokens[*first];
        }
        let order: Vec<u32> = last.order.iter().map(|at| places[*at as usize] as u32).collect();
        let policy = self.inner.stamp();
        Decision {
            step_log_probs: vec![0.0; last.step_log_probs.len()],
            order,
            scores,
            exploration: Exploration::Greedy,
            limits: request.limits,
            candidate_tokens: tokens,
            states: CandidateStates::default(),
            policy,
            ..last
        }
    }
}

impl Rounds {
    fn new(request: &DecideRequest) -> Self {
        let mut first_of = HashMap::new();
        let (mut pool, mut repeats) = (Vec::new(), Vec::new());
        for (place, candidate) in request.candidates.iter().enumerate() {
            match *first_of.entry(&candidate.document.id).or_insert(place) {
                first if first == place => pool.push(place),
                first => repeats.push((place, first)),
            }
        }
        let dropped = repeats.iter().map(|(place, _)| *place).collect();
        Self { pool, tokens: vec![0; request.candidates.len()], dropped, repeats }
    }

    /// The pool of the next round: these places, each once, in retrieval order.
    fn keep(&mut self, mut selected: Vec<usize>) {
        selected.sort_unstable();
        selected.dedup();
        let is_dropped = |place: &&usize| selected.binary_search(place).is_err();
        let mut dropped: Vec<usize> = self.pool.iter().filter(is_dropped).copied().collect();
        dropped.append(&mut self.dropped);
        self.dropped = dropped;
        self.pool = selected;
    }

    fn charge(&mut self, places: &[usize], decision: &Decision) {
        for (place, tokens) in places.iter().zip(&decision.candidate_tokens) {
            self.tokens[*place] = *tokens;
        }
    }
}

/// The first of each block, then the second of each, and so on, up to `most`: where no policy says
/// which blocks are better, none is left out.
fn by_turns(selected: &[Vec<usize>], most: usize) -> Vec<usize> {
    let deepest = selected.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..deepest).flat_map(|turn| selected.iter().filter_map(move |b| b.get(turn)));
    turns.take(most).copied().collect()
}

impl Policy for Shortlist {
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        let mut decided = Vec::with_capacity(requests.len());
        for request in requests {
            if request.candidates.len() > self.window {
                decided.push(self.decide_long(request, rng));
                continue;
            }
            let alone = self.inner.decide(std::slice::from_ref(request), rng).pop();
            let none = || PolicyError::Model("the policy gave no decision".to_owned());
            decided.push(alone.ok_or_else(none).and_then(|decision| decision));
        }
        decided
    }

    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        self.inner.swap(snapshot)
    }

    fn stamp(&self) -> PolicyStamp {
        self.inner.stamp()
    }
}

#[cfg(test)]
mod tests;

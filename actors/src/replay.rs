//! The replay buffer as pure data: judged episodes, bounded, without duplicates, staleness known.
//!
//! Floor 1. No actor, no clock, no log. The hold-out split is a hash of a stable key, so that
//! phrasings of one question never stand on both sides.

use crate::invariants::sample_is_trainable;
use crate::ports::Batch;
use crate::types::{DecisionId, PolicyVersion, Query, Sample};
use rand::rngs::StdRng;
use rand::seq::index;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};

/// Bounds of the buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Most samples kept, ≥ 1; the oldest goes first.
    pub capacity: usize,
    /// Versions a sample may lag behind serving before it is dropped.
    pub staleness_max: u64,
    /// Share of keys held out, in [0, 1).
    pub holdout_fraction: f64,
    /// Metadata value that names a sample's group; without it the normalised query text does.
    pub holdout_key: String,
}

/// Why samples left or never entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// The decision was in the buffer already.
    pub duplicate: u64,
    /// Made by weights too old.
    pub stale: u64,
    /// Pushed out by newer ones.
    pub overflow: u64,
    /// No decision, or a propensity that is no probability.
    pub untrainable: u64,
    /// Answered without documents because none could be had.
    pub degraded: u64,
}

/// What happened to a sample offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// Kept.
    Kept,
    /// Refused; the counter says why.
    Refused,
}

/// Judged episodes in order of arrival.
#[derive(Debug)]
pub struct ReplayBuffer {
    bounds: Bounds,
    samples: BTreeMap<DecisionId, Sample>,
    order: VecDeque<DecisionId>,
    dropped: Dropped,
}

impl ReplayBuffer {
    /// An empty buffer.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            samples: BTreeMap::new(),
            order: VecDeque::new(),
            dropped: Dropped::default(),
        }
    }

    /// Offers a sample while `serving` decides; returns whether it was kept and the decisions that
    /// had to leave.
    pub fn insert(
        &mut self,
        sample: Sample,
        serving: PolicyVersion,
    ) -> (Inserted, Vec<DecisionId>) {
        if sample.episode.degraded.is_some() {
            self.dropped.degraded += 1;
            return (Inserted::Refused, Vec::new());
        }
        let Some(decision) = &sample.episode.decision else {
            self.dropped.untrainable += 1;
            return (Inserted::Refused, Vec::new());
        };
        let id = decision.id.clone();
        if !sample_is_trainable(decision.log_prob()) || !sample.reward.total.is_finite() {
            self.dropped.untrainable += 1;
            return (Inserted::Refused, Vec::new());
        }
        if self.samples.contains_key(&id) {
            self.dropped.duplicate += 1;
            return (Inserted::Refused, Vec::new());
        }
        if staleness(&sample, serving) > self.bounds.staleness_max {
            self.dropped.stale += 1;
            return (Inserted::Refused, Vec::new());
        }
        self.samples.insert(id.clone(), sample);
        self.order.push_back(id);
        let mut gone = Vec::new();
        while self.samples.len() > self.bounds.capacity {
            let Some(oldest) = self.order.pop_front() else { break };
            self.samples.remove(&oldest);
            self.dropped.overflow += 1;
            gone.push(oldest);
        }
        (Inserted::Kept, gone)
    }

    /// Drops what became too old for the serving version; returns the decisions that left.
    pub fn expire(&mut self, serving: PolicyVersion) -> Vec<DecisionId> {
        let max = self.bounds.staleness_max;
        let gone: Vec<DecisionId> = self
            .samples
            .iter()
            .filter(|(_, sample)| staleness(sample, serving) > max)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.samples.remove(id);
            self.dropped.stale += 1;
        }
        self.order.retain(|id| self.samples.contains_key(id));
        gone
    }

    /// Draws without replacement at most `train_max` and `holdout_max` samples of either side, in
    /// order of arrival; the same generator state gives the same batch.
    pub fn sample(&self, train_max: usize, holdout_max: usize, rng: &mut StdRng) -> Batch {
        let (holdout, train): (Vec<&Sample>, Vec<&Sample>) = self
            .order
            .iter()
            .filter_map(|id| self.samples.get(id))
            .partition(|sample| self.is_holdout(&sample.episode.query));
        Batch {
            train: draw(&train, train_max, rng),
            holdout: draw(&holdout, holdout_max, rng),
            unanswered: Vec::new(),
        }
    }

    /// Whether samples of this query are never trained on.
    pub fn is_holdout(&self, query: &Query) -> bool {
        let key = match query.metadata.get(&self.bounds.holdout_key) {
            Some(value) => value.clone(),
            None => normalised(&query.text),
        };
        let digest = Sha256::digest(key.as_bytes());
        let bucket = digest.iter().take(4).fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
        f64::from(bucket) < self.bounds.holdout_fraction * (f64::from(u32::MAX) + 1.0)
    }

    /// Samples kept.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Whether this decision is kept.
    pub fn contains(&self, id: &DecisionId) -> bool {
        self.samples.contains_key(id)
    }

    /// What was dropped since the buffer was made.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Largest staleness among the samples kept; 0 when empty.
    pub fn staleness_max(&self, serving: PolicyVersion) -> u64 {
        self.samples.values().map(|sample| staleness(sample, serving)).max().unwrap_or(0)
    }
}

/// Versions between the weights that decided and those that serve.
fn staleness(sample: &Sample, serving: PolicyVersion) -> u64 {
    let behaviour = sample.episode.decision.as_ref().map_or(0, |d| d.policy.version.0);
    serving.0.saturating_sub(behaviour)
}

fn draw(samples: &[&Sample], max: usize, rng: &mut StdRng) -> Vec<Sample> {
    if samples.len() <= max {
        return samples.iter().map(|sample| (*sample).clone()).collect();
    }
    let mut chosen = index::sample(rng, samples.len(), max).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().filter_map(|i| samples.get(i)).map(|sample| (*sample).clone()).collect()
}

/// Lower case, letters and digits only, one space between words.
fn normalised(text: &str) -> String {
    let lower = text.to_lowercase();
    lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests;

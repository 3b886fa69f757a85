//! The newest judged decisions: what parity and off-policy estimates look at.
//!
//! Always the newest by the time they ended (then by id) among all that were read, so that equal
//! records give equal samples in whatever order the partitions were read.

use crate::types::{DecisionId, Episode, Gate, Reward, RewardRecord, Sample, Verdict};
use std::collections::{BTreeMap, HashMap};

type Key = (u64, DecisionId);

/// Newest judged decisions, bounded.
#[derive(Debug, Clone)]
pub struct Recent {
    max: usize,
    samples: BTreeMap<Key, Sample>,
    episodes: BTreeMap<Key, Episode>,
    times: HashMap<DecisionId, u64>,
    rewards: HashMap<DecisionId, (Reward, Vec<String>)>,
}

impl Recent {
    /// Keeps `max` samples, and as many again on either side of the join, fourfold.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            samples: BTreeMap::new(),
            episodes: BTreeMap::new(),
            times: HashMap::new(),
            rewards: HashMap::new(),
        }
    }

    /// Takes an episode; only one with documents to choose from and nothing missing is of use.
    pub fn episode(&mut self, episode: &Episode) {
        let Some(decision) = &episode.decision else { return };
        let is_of_use = decision.gate == Gate::Retrieve
            && episode.degraded.is_none()
            && episode.interleaved.is_none()
            && decision.states.rows() == episode.candidates.len();
        let key = (episode.finished_ms, decision.id.clone());
        if !is_of_use || self.times.contains_key(&decision.id) {
            return;
        }
        if let Some((reward, references)) = self.rewards.remove(&decision.id) {
            return self.keep(key, Sample { episode: episode.clone(), reward, references });
        }
        self.times.insert(decision.id.clone(), episode.finished_ms);
        self.episodes.insert(key, episode.clone());
        while self.episodes.len() > self.max.saturating_mul(4) {
            if let Some(((_, id), _)) = self.episodes.pop_first() {
                self.times.remove(&id);
            }
        }
    }

    /// Takes a verdict.
    pub fn reward(&mut self, record: &RewardRecord) {
        let Verdict::Scored { reward } = &record.verdict else { return };
        let (reward, references) = (reward.clone(), record.references.clone());
        if let Some(time) = self.times.remove(&record.decision_id) {
            let key = (time, record.decision_id.clone());
            if let Some(episode) = self.episodes.remove(&key) {
                self.keep(key, Sample { episode, reward, references });
            }
        } else if self.rewards.len() < self.max.saturating_mul(4) {
            self.rewards.insert(record.decision_id.clone(), (reward, references));
        }
    }

    fn keep(&mut self, key: Key, sample: Sample) {
        self.samples.insert(key, sample);
        while self.samples.len() > self.max {
            self.samples.pop_first();
        }
    }

    /// The newest samples, oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.values().cloned().collect()
    }

    /// Samples kept.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

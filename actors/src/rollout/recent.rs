//! The newest judged decisions: what parity and off-policy estimates look at.
//!
//! Always the newest by the time they ended (then by id) among all that were read, so that equal
//! records give equal samples in whatever order the partitions were read.

use crate::types::{DecisionId, Episode, Gate, Reward, RewardRecord, Sample};
use std::collections::{BTreeMap, HashMap};

type Key = (u64, DecisionId);

/// Newest judged decisions, bounded.
#[derive(Debug, Clone)]
pub struct Recent {
    max: usize,
    samples: BTreeMap<Key, Sample>,
    episodes: BTreeMap<Key, Episode>,
    times: HashMap<DecisionId, u64>,
    rewards: HashMap<DecisionId, (Reward, Vec<String>, u32)>,
    /// Of each sample when it ended, and the number of its reward.
    kept: HashMap<DecisionId, (u64, u32)>,
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
            kept: HashMap::new(),
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
        let is_known =
            self.times.contains_key(&decision.id) || self.kept.contains_key(&decision.id);
        if !is_of_use || is_known {
            return;
        }
        if let Some((reward, references, revision)) = self.rewards.remove(&decision.id) {
            let sample = Sample { episode: episode.clone(), reward, references };
            return self.keep(key, sample, revision);
        }
        self.times.insert(decision.id.clone(), episode.finished_ms);
        self.episodes.insert(key, episode.clone());
        while self.episodes.len() > self.max.saturating_mul(4) {
            if let Some(((_, id), _)) = self.episodes.pop_first() {
                self.times.remove(&id);
            }
        }
    }

    /// Takes a verdict. Of several of one decision the one of the highest number counts.
    pub fn reward(&mut self, record: &RewardRecord) {
        let Some(reward) = record.reward() else { return };
        let (reward, references) = (reward.clone(), record.references.clone());
        let (id, revision) = (&record.decision_id, record.revision);
        if let Some((time, known)) = self.kept.get_mut(id) {
            if *known < revision
                && let Some(sample) = self.samples.get_mut(&(*time, id.clone()))
            {
                *known = revision;
                (sample.reward, sample.references) = (reward, references);
            }
        } else if let Some(time) = self.times.remove(&record.decision_id) {
            let key = (time, record.decision_id.clone());
            if let Some(episode) = self.episodes.remove(&key) {
                self.keep(key, Sample { episode, reward, references }, revision);
            }
        } else if self.rewards.get(id).is_none_or(|(_, _, known)| *known < revision)
            && self.rewards.len() < self.max.saturating_mul(4)
        {
            self.rewards.insert(id.clone(), (reward, references, revision));
        }
    }

    fn keep(&mut self, key: Key, sample: Sample, revision: u32) {
        self.kept.insert(key.1.clone(), (key.0, revision));
        self.samples.insert(key, sample);
        while self.samples.len() > self.max {
            if let Some(((_, id), _)) = self.samples.pop_first() {
                self.kept.remove(&id);
            }
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

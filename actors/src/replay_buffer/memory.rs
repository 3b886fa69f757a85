//! What the replay buffer knows, rebuilt from the log: the two sides of the join, the samples, and
//! which records are still needed.
//!
//! Knows no actor and no clock; it takes in records and says what may be committed.

use super::{Config, Observed};
use crate::ports::{Batch, Commit, Record, Stream};
use crate::replay::{Bounds, Dropped, Inserted, ReplayBuffer};
use crate::tail::{self, Origin, Watermarks};
use crate::telemetry;
use crate::types::{
    DecisionId, Episode, Outcome, PolicyVersion, Reward, RewardRecord, Sample, Verdict,
};
use rand::rngs::StdRng;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};

/// All that is rebuilt from the log.
pub(super) struct Memory {
    buffer: ReplayBuffer,
    episodes: Waiting<Episode>,
    rewards: Waiting<(Reward, Vec<String>)>,
    kept: BTreeMap<DecisionId, [Origin; 2]>,
    watermarks: Watermarks,
    committed: Vec<Origin>,
    waiting_max: usize,
    counters: Observed,
}

/// One side of the join, oldest dropped first.
struct Waiting<T> {
    values: BTreeMap<DecisionId, (T, Origin)>,
    order: VecDeque<DecisionId>,
}

impl<T> Waiting<T> {
    fn new() -> Self {
        Self { values: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Keeps a value; gives the origins that are no longer needed.
    fn insert(&mut self, id: DecisionId, value: T, origin: Origin, max: usize) -> Vec<Origin> {
        let mut gone = Vec::new();
        match self.values.insert(id.clone(), (value, origin)) {
            Some((_, earlier)) => gone.push(earlier),
            None => self.order.push_back(id),
        }
        while self.values.len() > max {
            let Some(oldest) = self.order.pop_front() else { break };
            gone.extend(self.values.remove(&oldest).map(|(_, origin)| origin));
        }
        gone
    }

    fn remove(&mut self, id: &DecisionId) -> Option<(T, Origin)> {
        let found = self.values.remove(id)?;
        self.order.retain(|other| other != id);
        Some(found)
    }
}

impl Memory {
    pub(super) fn new(config: &Config) -> Self {
        let bounds = Bounds {
            capacity: config.capacity,
            staleness_max: config.staleness_max,
            holdout_fraction: config.holdout_fraction,
            holdout_key: config.holdout_key.clone(),
        };
        Self {
            buffer: ReplayBuffer::new(bounds),
            episodes: Waiting::new(),
            rewards: Waiting::new(),
            kept: BTreeMap::new(),
            watermarks: Watermarks::default(),
            committed: Vec::new(),
            waiting_max: config.waiting_max,
            counters: Observed::default(),
        }
    }

    /// Takes in what one poll gave; nothing means that the log is read to its end, if that is
    /// current.
    pub(super) fn take_in(&mut self, records: &[Record], is_current: bool, serving: PolicyVersion) {
        self.counters.is_caught_up |= records.is_empty() && is_current;
        self.expire(serving);
        for record in records {
            self.absorb(record, serving);
        }
        #[expect(clippy::cast_precision_loss, reason = "bounded by capacity")]
        telemetry::level(telemetry::REPLAY_SAMPLES, self.buffer.len() as f64);
    }

    /// Draws a batch of what is not too stale.
    pub(super) fn sample(
        &mut self,
        (train_max, holdout_max): (usize, usize),
        serving: PolicyVersion,
        rng: &mut StdRng,
    ) -> Batch {
        self.expire(serving);
        self.buffer.sample(train_max, holdout_max, rng)
    }

    /// The counters with the levels of now.
    pub(super) fn observed(&self, serving: PolicyVersion) -> Observed {
        Observed {
            samples: self.buffer.len() as u64,
            dropped: self.buffer.dropped(),
            waiting_episodes: self.episodes.values.len() as u64,
            waiting_rewards: self.rewards.values.len() as u64,
            staleness_max: self.buffer.staleness_max(serving),
            ..self.counters
        }
    }

    fn expire(&mut self, serving: PolicyVersion) {
        let before = self.buffer.dropped();
        let gone = self.buffer.expire(serving);
        count_drops(before, self.buffer.dropped());
        self.release(&gone);
    }

    /// Takes in one record. The judge writes the dead letter of a broken episode; here it counts.
    fn absorb(&mut self, record: &Record, serving: PolicyVersion) {
        let origin = self.watermarks.hold(record);
        let unneeded = match record.stream {
            Stream::Rewards => match tail::parse(record) {
                Ok(reward) => self.reward(reward, origin),
                Err(_) => self.broken(origin),
            },
            _ => match tail::parse(record) {
                Ok(episode) => self.episode(episode, origin),
                Err(_) => self.broken(origin),
            },
        };
        unneeded.into_iter().for_each(|origin| self.watermarks.release(origin));
        if let Ok(id) = id_of(record) {
            self.join(&id, serving);
        }
    }

    fn broken(&mut self, origin: Origin) -> Vec<Origin> {
        self.counters.broken += 1;
        vec![origin]
    }

    fn episode(&mut self, episode: Episode, origin: Origin) -> Vec<Origin> {
        let Some(id) = episode.decision_id().cloned() else { return vec![origin] };
        if matches!(episode.outcome, Outcome::Failed { .. }) || self.buffer.contains(&id) {
            return vec![origin];
        }
        let gone = self.episodes.insert(id, episode, origin, self.waiting_max);
        self.counters.waiting_dropped += gone.len() as u64;
        gone
    }

    fn reward(&mut self, record: RewardRecord, origin: Origin) -> Vec<Origin> {
        let Verdict::Scored { reward } = record.verdict else {
            self.counters.unrewarded += 1;
            let waiting = self.episodes.remove(&record.decision_id);
            return waiting.map(|(_, origin)| origin).into_iter().chain([origin]).collect();
        };
        if self.buffer.contains(&record.decision_id) {
            return vec![origin];
        }
        let value = (reward, record.references);
        let gone = self.rewards.insert(record.decision_id, value, origin, self.waiting_max);
        self.counters.waiting_dropped += gone.len() as u64;
        gone
    }

    /// Makes a sample once both sides are there.
    fn join(&mut self, id: &DecisionId, serving: PolicyVersion) {
        if !self.rewards.values.contains_key(id) {
            return;
        }
        let Some((episode, first)) = self.episodes.remove(id) else { return };
        let Some(((reward, references), second)) = self.rewards.remove(id) else { return };
        let before = self.buffer.dropped();
        let sample = Sample { episode, reward, references };
        let (inserted, gone) = self.buffer.insert(sample, serving);
        count_drops(before, self.buffer.dropped());
        if inserted == Inserted::Kept {
            self.counters.inserted += 1;
            self.kept.insert(id.clone(), [first, second]);
        } else {
            self.watermarks.release(first);
            self.watermarks.release(second);
        }
        self.release(&gone);
    }

    fn release(&mut self, gone: &[DecisionId]) {
        for origin in gone.iter().filter_map(|id| self.kept.remove(id)).flatten() {
            self.watermarks.release(origin);
        }
    }

    /// The positions to commit, if they moved.
    pub(super) fn take_commit(&mut self) -> Option<Commit> {
        let positions = self.watermarks.positions();
        if positions == self.committed {
            return None;
        }
        self.committed.clone_from(&positions);
        Some(Commit { positions, ..Commit::default() })
    }
}

/// The decision a readable record is about.
fn id_of(record: &Record) -> Result<DecisionId, serde_json::Error> {
    #[derive(Deserialize)]
    struct Reference {
        decision_id: Option<DecisionId>,
        decision: Option<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        id: DecisionId,
    }
    let reference: Reference = serde_json::from_slice(&record.payload)?;
    let named = reference.decision.map(|decision| decision.id);
    Ok(reference.decision_id.or(named).unwrap_or_default())
}

fn count_drops(before: Dropped, after: Dropped) {
    let reasons = [
        ("duplicate", before.duplicate, after.duplicate),
        ("stale", before.stale, after.stale),
        ("overflow", before.overflow, after.overflow),
        ("untrainable", before.untrainable, after.untrainable),
        ("degraded", before.degraded, after.degraded),
    ];
    for (reason, before, after) in reasons.into_iter().filter(|(_, before, after)| after > before) {
        telemetry::count_many(telemetry::REPLAY_DROPPED, ("reason", reason), after - before);
    }
}

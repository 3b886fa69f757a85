//! What the replay buffer knows, rebuilt from the log: the two sides of the join, the samples, and
//! which records are still needed.
//!
//! Knows no actor and no clock; it takes in records and says what may be committed.

use super::{Config, Observed};
use crate::ports::{Batch, Commit, Record, Stream};
use crate::replay::{Bounds, ByArrival, Dropped, Ended, Evidence, Inserted, ReplayBuffer};
use crate::tail::{self, Origin, Watermarks};
use crate::telemetry;
use crate::types::{DecisionId, Episode, Outcome, PolicyVersion, RewardRecord, Verdict};
use rand::rngs::StdRng;
use serde::Deserialize;
use std::collections::BTreeMap;

/// All that is rebuilt from the log.
pub(super) struct Memory {
    buffer: ReplayBuffer,
    episodes: ByArrival<(Episode, Origin)>,
    rewards: ByArrival<(Judged, Origin)>,
    kept: BTreeMap<DecisionId, [Origin; 2]>,
    watermarks: Watermarks,
    committed: Vec<Origin>,
    waiting_max: usize,
    counters: Observed,
}

/// What waits for its other half: evidence with its number, or an episode.
type Judged = (Evidence, u32);

impl Memory {
    pub(super) fn new(config: &Config) -> Self {
        let bounds = Bounds {
            capacity: config.capacity,
            staleness_max: config.staleness_max,
            holdout_fraction: config.holdout_fraction,
        };
        Self {
            buffer: ReplayBuffer::new(bounds),
            episodes: ByArrival::new(),
            rewards: ByArrival::new(),
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
            unanswered: self.buffer.unanswered() as u64,
            waiting_episodes: self.episodes.len() as u64,
            waiting_rewards: self.rewards.len() as u64,
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
        let mut gone: Vec<Origin> = self
            .episodes
            .insert(id, (episode, origin))
            .map(|(_, earlier)| earlier)
            .into_iter()
            .collect();
        while let Some((_, (_, oldest))) = self.episodes.pop_beyond(self.waiting_max) {
            gone.push(oldest);
            self.counters.waiting_dropped += 1;
        }
        gone
    }

    fn reward(&mut self, record: RewardRecord, origin: Origin) -> Vec<Origin> {
        let id = record.decision_id;
        let evidence = match record.verdict {
            Verdict::Scored { reward } => Some((reward, record.references)),
            _ => {
                self.counters.unrewarded += 1;
                None
            }
        };
        if self.buffer.contains(&id) {
            return self.revise(&id, evidence, (record.revision, origin));
        }
        let known = self.rewards.get(&id).map(|((_, revision), _)| *revision);
        if known.is_some_and(|known| known >= record.revision) {
            return vec![origin];
        }
        let waiting = ((evidence, record.revision), origin);
        let mut gone: Vec<Origin> =
            self.rewards.insert(id, waiting).map(|(_, earlier)| earlier).into_iter().collect();
        while let Some((_, (_, oldest))) = self.rewards.pop_beyond(self.waiting_max) {
            gone.push(oldest);
            self.counters.waiting_dropped += 1;
        }
        gone
    }

    /// Later evidence on a decision that is kept; gives the record that is no longer needed.
    fn revise(
        &mut self,
        id: &DecisionId,
        evidence: Evidence,
        (revision, origin): (u32, Origin),
    ) -> Vec<Origin> {
        let before = self.buffer.dropped();
        let (revised, gone) = self.buffer.revise(id, evidence, revision);
        count_drops(before, self.buffer.dropped());
        if revised == Inserted::Refused {
            return vec![origin];
        }
        self.counters.revised += 1;
        let earlier = self.kept.get_mut(id).map(|kept| std::mem::replace(&mut kept[1], origin));
        self.release(&gone);
        earlier.into_iter().collect()
    }

    /// Puts a decision into the buffer once both sides are there.
    fn join(&mut self, id: &DecisionId, serving: PolicyVersion) {
        if self.rewards.get(id).is_none() {
            return;
        }
        let Some((episode, first)) = self.episodes.remove(id) else { return };
        let Some(((evidence, revision), second)) = self.rewards.remove(id) else { return };
        let before = self.buffer.dropped();
        let is_judged = evidence.is_some();
        let (inserted, gone) = self.buffer.insert(Ended { episode, evidence, revision }, serving);
        count_drops(before, self.buffer.dropped());
        if inserted == Inserted::Kept {
            self.counters.inserted += u64::from(is_judged);
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

//! The replay buffer as pure data: decisions with a reward and those that got none, bounded, without
//! duplicates, staleness known.
//!
//! Floor 1. No actor, no clock, no log. The hold-out are the newest of the judged, so that a
//! candidate is examined on what came after all that it was trained on.

mod by_arrival;

use crate::invariants::sample_is_trainable;
use crate::ports::Batch;
use crate::types::{DecisionId, Episode, PolicyVersion, Reward, Sample};
pub(crate) use by_arrival::ByArrival;
use rand::rngs::StdRng;
use rand::seq::index;
use serde::{Deserialize, Serialize};

/// Bounds of the buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Most samples kept, ≥ 1, and most unanswered decisions; the oldest goes first.
    pub capacity: usize,
    /// Versions a sample may lag behind serving before it is dropped.
    pub staleness_max: u64,
    /// Share of the judged that is held out, in [0, 1): the newest.
    pub holdout_fraction: f64,
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

/// What happened to a decision offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// Kept.
    Kept,
    /// Refused; the counter says why.
    Refused,
}

/// A reward with the references that were known by then; `None` where a decision got no reward.
pub type Evidence = Option<(Reward, Vec<String>)>;

/// A decision at its end.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The decision with its episode.
    pub episode: Episode,
    /// What is known of its worth.
    pub evidence: Evidence,
    /// Number of that evidence; a higher one replaces it.
    pub revision: u32,
}

/// Judged episodes and unanswered ones, each in order of arrival.
#[derive(Debug)]
pub struct ReplayBuffer {
    bounds: Bounds,
    samples: ByArrival<(Sample, u32)>,
    unanswered: ByArrival<(Episode, u32)>,
    dropped: Dropped,
}

impl ReplayBuffer {
    /// An empty buffer.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            samples: ByArrival::new(),
            unanswered: ByArrival::new(),
            dropped: Dropped::default(),
        }
    }

    /// Offers a decision while `serving` decides; returns whether it was kept and the decisions
    /// that had to leave. What becomes of unanswered ones is not counted.
    pub fn insert(&mut self, ended: Ended, serving: PolicyVersion) -> (Inserted, Vec<DecisionId>) {
        match self.refusal(&ended, serving) {
            Ok(id) => {
                let gone = self.place(id, ended);
                (Inserted::Kept, gone)
            }
            Err(count) => {
                if ended.evidence.is_some() {
                    *count(&mut self.dropped) += 1;
                }
                (Inserted::Refused, Vec::new())
            }
        }
    }

    /// Puts later evidence in the place of what is known of a decision kept; evidence of a number
    /// that is not higher is refused. Returns as [`ReplayBuffer::insert`] does.
    pub fn revise(
        &mut self,
        id: &DecisionId,
        evidence: Evidence,
        revision: u32,
    ) -> (Inserted, Vec<DecisionId>) {
        if self.revision(id).is_none_or(|known| known >= revision) {
            return (Inserted::Refused, Vec::new());
        }
        if let (Some((sample, known)), Some((reward, references))) =
            (self.samples.get_mut(id), &evidence)
        {
            sample.reward.clone_from(reward);
            sample.references.clone_from(references);
            *known = revision;
            return (Inserted::Kept, Vec::new());
        }
        let judged = self.samples.remove(id).map(|(sample, _)| sample.episode);
        let unanswered = self.unanswered.remove(id).map(|(episode, _)| episode);
        let Some(episode) = judged.or(unanswered) else { return (Inserted::Refused, Vec::new()) };
        let gone = self.place(id.clone(), Ended { episode, evidence, revision });
        (Inserted::Kept, gone)
    }

    /// The number of the evidence on a decision kept.
    pub fn revision(&self, id: &DecisionId) -> Option<u32> {
        let judged = self.samples.get(id).map(|(_, revision)| *revision);
        judged.or_else(|| self.unanswered.get(id).map(|(_, revision)| *revision))
    }

    /// The decision's id, or the counter of why it is not taken.
    fn refusal(
        &self,
        ended: &Ended,
        serving: PolicyVersion,
    ) -> Result<DecisionId, fn(&mut Dropped) -> &mut u64> {
        if ended.episode.degraded.is_some() {
            return Err(|dropped| &mut dropped.degraded);
        }
        let Some(decision) = &ended.episode.decision else {
            return Err(|dropped| &mut dropped.untrainable);
        };
        let is_finite = ended.evidence.as_ref().is_none_or(|(r, _)| r.total.is_finite());
        if !sample_is_trainable(decision.log_prob()) || !is_finite {
            return Err(|dropped| &mut dropped.untrainable);
        }
        if self.contains(&decision.id) {
            return Err(|dropped| &mut dropped.duplicate);
        }
        if staleness(&ended.episode, serving) > self.bounds.staleness_max {
            return Err(|dropped| &mut dropped.stale);
        }
        Ok(decision.id.clone())
    }

    fn place(&mut self, id: DecisionId, ended: Ended) -> Vec<DecisionId> {
        let Ended { episode, evidence, revision } = ended;
        match evidence {
            Some((reward, references)) => {
                let sample = Sample { episode, reward, references };
                self.samples.insert(id, (sample, revision));
            }
            None => drop(self.unanswered.insert(id, (episode, revision))),
        }
        let mut gone = Vec::new();
        while let Some((oldest, _)) = self.samples.pop_beyond(self.bounds.capacity) {
            self.dropped.overflow += 1;
            gone.push(oldest);
        }
        while let Some((oldest, _)) = self.unanswered.pop_beyond(self.bounds.capacity) {
            gone.push(oldest);
        }
        gone
    }

    /// Drops what became too old for the serving version; returns the decisions that left.
    pub fn expire(&mut self, serving: PolicyVersion) -> Vec<DecisionId> {
        let is_over = |episode: &Episode| staleness(episode, serving) > self.bounds.staleness_max;
        let judged = self.samples.iter().filter(|(_, (sample, _))| is_over(&sample.episode));
        let judged: Vec<DecisionId> = judged.map(|(id, _)| id.clone()).collect();
        let unanswered = self.unanswered.iter().filter(|(_, (episode, _))| is_over(episode));
        let unanswered: Vec<DecisionId> = unanswered.map(|(id, _)| id.clone()).collect();
        for id in &judged {
            self.samples.remove(id);
            self.dropped.stale += 1;
        }
        for id in &unanswered {
            self.unanswered.remove(id);
        }
        judged.into_iter().chain(unanswered).collect()
    }

    /// Draws without replacement at most `train_max` of the older samples and `holdout_max` of the
    /// newest, each in order of time; the same generator state gives the same batch.
    ///
    /// Unanswered decisions are drawn at the rate of the samples of their time, so that the share
    /// of answers among what is drawn is that of the traffic.
    pub fn sample(&self, train_max: usize, holdout_max: usize, rng: &mut StdRng) -> Batch {
        let mut judged: Vec<&Sample> = self.samples.iter().map(|(_, (sample, _))| sample).collect();
        judged.sort_by_key(|sample| when(&sample.episode));
        let (older, newest) = judged.split_at(judged.len() - self.held_out(judged.len()));
        let begin = newest.first().map(|sample| when(&sample.episode));
        let mut silent: Vec<&Episode> = self.unanswered.iter().map(|(_, (e, _))| e).collect();
        silent.sort_by_key(|episode| when(episode));
        let later = begin.map_or(silent.len(), |begin| silent.partition_point(|e| when(e) < begin));
        let (silent_older, silent_newest) = silent.split_at(later);
        let train = draw(older, train_max, rng);
        let holdout = draw(newest, holdout_max, rng);
        let mut unanswered =
            draw(silent_older, at_rate(silent_older.len(), train.len(), older.len()), rng);
        unanswered.extend(draw(
            silent_newest,
            at_rate(silent_newest.len(), holdout.len(), newest.len()),
            rng,
        ));
        Batch { train, holdout, unanswered }
    }

    /// How many of so many samples are held out: from two on neither side is empty.
    fn held_out(&self, samples: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the capacity"
        )]
        let share = (samples as f64 * self.bounds.holdout_fraction).ceil() as usize;
        share.min(samples.saturating_sub(1))
    }

    /// Samples kept.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.len() == 0
    }

    /// Unanswered decisions kept.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Whether this decision is kept, judged or not.
    pub fn contains(&self, id: &DecisionId) -> bool {
        self.revision(id).is_some()
    }

    /// What was dropped since the buffer was made.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Largest staleness among the samples kept; 0 when empty.
    pub fn staleness_max(&self, serving: PolicyVersion) -> u64 {
        let of = self.samples.iter().map(|(_, (sample, _))| staleness(&sample.episode, serving));
        of.max().unwrap_or(0)
    }
}

/// Versions between the weights that decided and those that serve.
fn staleness(episode: &Episode, serving: PolicyVersion) -> u64 {
    let behaviour = episode.decision.as_ref().map_or(0, |d| d.policy.version.0);
    serving.0.saturating_sub(behaviour)
}

/// The order of time, by id where two ended in one millisecond.
fn when(episode: &Episode) -> (u64, Option<DecisionId>) {
    (episode.finished_ms, episode.decision_id().cloned())
}

/// As large a part of `all` as `drawn` is of `of`; all where there is nothing to go by.
fn at_rate(all: usize, drawn: usize, of: usize) -> usize {
    if of == 0 { all } else { (all * drawn).div_ceil(of) }
}

fn draw<T: Clone>(all: &[&T], max: usize, rng: &mut StdRng) -> Vec<T> {
    if all.len() <= max {
        return all.iter().map(|one| (*one).clone()).collect();
    }
    let mut chosen = index::sample(rng, all.len(), max).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().filter_map(|i| all.get(i)).map(|one| (*one).clone()).collect()
}

#[cfg(test)]
mod tests;

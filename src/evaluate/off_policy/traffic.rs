//! A log as samples to estimate from: episodes joined with their rewards, and every record that
//! gives none counted by reason.
//!
//! Knows records and a window of time; no target and no estimator.

use super::rows::Unusable;
use actors::ports::{Record, Stream};
use actors::types::{DecisionId, Episode, Outcome, RewardRecord, Sample, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;

/// Which episodes count: by when they ended, and then only the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Not before this, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Before this.
    pub until_ms: u64,
    /// At most so many.
    pub newest: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { since_ms: 0, until_ms: u64::MAX, newest: usize::MAX }
    }
}

/// Episodes and rewards as they come.
#[derive(Debug, Default)]
pub struct Traffic {
    window: Window,
    episodes: BTreeMap<DecisionId, Episode>,
    rewards: BTreeMap<DecisionId, RewardRecord>,
    unusable: BTreeMap<Unusable, u64>,
}

/// What a log gives.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Oldest first.
    pub samples: Vec<Sample>,
    /// Episodes that are no sample, and records that are none, by reason.
    pub unusable: BTreeMap<Unusable, u64>,
}

impl Traffic {
    /// The streams that are needed.
    pub const STREAMS: [Stream; 2] = [Stream::Episodes, Stream::Rewards];

    /// Nothing yet.
    pub fn new(window: Window) -> Self {
        Self { window, ..Self::default() }
    }

    /// Takes in one record; other streams' are passed over. Of several rewards of one decision the
    /// highest revision counts, wherever it is read: a reward is replaced, never added to.
    pub fn take(&mut self, record: &Record) {
        match record.stream {
            Stream::Episodes => match serde_json::from_slice::<Episode>(&record.payload) {
                Ok(episode) => self.episode(episode),
                Err(_) => self.refuse(Unusable::Unreadable),
            },
            Stream::Rewards => match serde_json::from_slice::<RewardRecord>(&record.payload) {
                Ok(reward) => {
                    let known = self.rewards.get(&reward.decision_id);
                    if known.is_none_or(|known| known.revision <= reward.revision) {
                        self.rewards.insert(reward.decision_id.clone(), reward);
                    }
                }
                Err(_) => self.refuse(Unusable::Unreadable),
            },
            _ => {}
        }
    }

    fn refuse(&mut self, reason: Unusable) {
        *self.unusable.entry(reason).or_default() += 1;
    }

    fn episode(&mut self, episode: Episode) {
        let Window { since_ms, until_ms, .. } = self.window;
        if episode.finished_ms < since_ms || episode.finished_ms >= until_ms {
            return self.refuse(Unusable::OutsideWindow);
        }
        match episode.decision_id().cloned() {
            Some(id) if !matches!(episode.outcome, Outcome::Failed { .. }) => {
                self.episodes.insert(id, episode);
            }
            _ => self.refuse(Unusable::Undecided),
        }
    }

    /// The judged episodes of the window, oldest first.
    pub fn judged(mut self) -> Judged {
        let mut episodes: Vec<(DecisionId, Episode)> =
            std::mem::take(&mut self.episodes).into_iter().collect();
        // By name where two ended in one millisecond, so that a log always gives one order.
        episodes.sort_by(|a, b| (a.1.finished_ms, &a.0).cmp(&(b.1.finished_ms, &b.0)));
        let beyond = episodes.len().saturating_sub(self.window.newest);
        episodes.drain(..beyond).for_each(|_| self.refuse(Unusable::OutsideWindow));
        let mut samples = Vec::with_capacity(episodes.len());
        for (id, episode) in episodes {
            let Some(record) = self.rewards.remove(&id) else {
                self.refuse(Unusable::NoReward);
                continue;
            };
            let references = record.references;
            match record.verdict {
                Verdict::Scored { reward } if reward.total.is_finite() => {
                    samples.push(Sample { episode, reward, references });
                }
                Verdict::Scored { .. } => self.refuse(Unusable::Inconsistent),
                Verdict::Abstained { .. } => self.refuse(Unusable::Abstained),
                Verdict::Failed { .. } | Verdict::Expired => self.refuse(Unusable::JudgeFailed),
            }
        }
        Judged { samples, unusable: self.unusable }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::super::rows::tests::{decision, sample};
    use super::*;
    use serde_json::{Value, json};

    fn record(stream: Stream, payload: Vec<u8>) -> Record {
        let (key, headers) = (String::new(), BTreeMap::new());
        Record { stream, partition: 0, offset: 0, key, headers, payload }
    }

    fn episode(id: &str, finished_ms: u64) -> Episode {
        let mut episode = sample("who?", decision(id, &[0], &[-1.0, -0.5]), 0.0).episode;
        episode.finished_ms = finished_ms;
        episode
    }

    fn reward_of(id: &str, verdict: Value) -> Record {
        let mut fields = json!({ "schema": 1, "decision_id": id, "judge": "j", "judged_ms": 0 });
        fields.as_object_mut().unwrap().extend(verdict.as_object().unwrap().clone());
        record(Stream::Rewards, fields.to_string().into_bytes())
    }

    #[test]
    fn the_highest_revision_is_the_reward_in_whatever_order_they_come() {
        let scored = |total: f64, revision: u32| {
            let reward = json!({ "total": total, "parts": [] });
            reward_of("a", json!({ "verdict": "scored", "reward": reward, "revision": revision }))
        };
        let records =
            [reward_of("a", json!({ "verdict": "expired" })), scored(0.25, 1), scored(1.0, 2)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut traffic = Traffic::new(Window::default());
            let bytes = serde_json::to_vec(&episode("a", 20)).unwrap();
            traffic.take(&record(Stream::Episodes, bytes));
            order.iter().for_each(|n| traffic.take(&records[*n]));
            let judged = traffic.judged();
            let totals: Vec<f64> = judged.samples.iter().map(|s| s.reward.total).collect();
            assert_eq!(totals, [1.0], "{order:?}");
        }
    }

    #[test]
    fn every_record_is_a_sample_or_counted() {
        let mut traffic = Traffic::new(Window { since_ms: 10, until_ms: 100, newest: 5 });
        let names = [("old", 9), ("gone", 10), ("b", 20), ("a", 20), ("c", 30), ("d", 40)];
        let more = [("e", 50), ("late", 100)];
        for (id, time) in names.into_iter().chain(more) {
            let bytes = serde_json::to_vec(&episode(id, time)).unwrap();
            traffic.take(&record(Stream::Episodes, bytes));
        }
        let failed = Episode { decision: None, ..episode("f", 50) };
        traffic.take(&record(Stream::Episodes, serde_json::to_vec(&failed).unwrap()));
        traffic.take(&record(Stream::Episodes, b"{".to_vec()));
        let scored = json!({ "verdict": "scored", "reward": { "total": 0.5, "parts": [] } });
        traffic.take(&reward_of("b", scored.clone()));
        traffic.take(&reward_of("a", scored));
        traffic.take(&reward_of("c", json!({ "verdict": "abstained", "reason": "?" })));
        traffic.take(&reward_of("d", json!({ "verdict": "expired" })));
        let judged = traffic.judged();
        let names: Vec<&str> =
            judged.samples.iter().map(|s| s.episode.decision_id().unwrap().as_str()).collect();
        assert_eq!(names, ["a", "b"], "oldest first, by name where the time is the same");
        let expected = BTreeMap::from([
            (Unusable::OutsideWindow, 3),
            (Unusable::Undecided, 1),
            (Unusable::Unreadable, 1),
            (Unusable::Abstained, 1),
            (Unusable::JudgeFailed, 1),
            (Unusable::NoReward, 1),
        ]);
        assert_eq!(judged.unusable, expected);
    }
}

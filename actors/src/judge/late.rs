//! Feedback whose episode is not pending: its decision is looked up in the log, and where that has
//! its verdict already, the verdict is revised.
//!
//! Part of the joiner; the looking up itself is the actor's.

use super::join::{Joiner, pause_ms};
use super::waiting::{EARLY, Early, Lookup, Pending, delete, json, name_of, prefix_of, put};
use crate::ports::{EventLog, LogError, Stream};
use crate::tail;
use crate::types::{DecisionId, Episode, Outcome, RewardRecord};
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

/// What the log says of a decision.
#[derive(Debug)]
pub(super) enum Recalled {
    /// It has its verdict: the newest, if the log still holds that.
    Judged(Box<Episode>, Option<Box<RewardRecord>>),
    /// It was made, and has no verdict.
    Unjudged(Box<Episode>),
    /// It cannot be judged: the query failed, or its record cannot be read.
    Useless,
    /// There is no such decision.
    Absent,
    /// There is none as far as the log is read.
    NotYet,
}

/// Records of a decision looked at for the newest verdict: repeats may lie on top of it.
const NEWEST: usize = 4;

/// Looks a decision up in the log.
pub(super) async fn recall(log: &Arc<dyn EventLog>, id: &DecisionId) -> Result<Recalled, LogError> {
    let found = log.find(Stream::Episodes, id.as_str(), 1).await?;
    let Some(record) = found.records.last() else {
        return Ok(if found.is_complete { Recalled::Absent } else { Recalled::NotYet });
    };
    let Ok(episode) = tail::parse::<Episode>(record) else { return Ok(Recalled::Useless) };
    if matches!(episode.outcome, Outcome::Failed { .. }) {
        return Ok(Recalled::Useless);
    }
    let episode = Box::new(episode);
    let found = log.find(Stream::Rewards, id.as_str(), NEWEST).await?;
    if !found.is_complete {
        return Ok(Recalled::NotYet);
    }
    let rewards = found.records.iter().filter_map(|r| tail::parse::<RewardRecord>(r).ok());
    Ok(match rewards.max_by_key(|reward| reward.revision) {
        Some(newest) => Recalled::Judged(episode, Some(Box::new(newest))),
        None => Recalled::Unjudged(episode),
    })
}

impl Joiner {
    /// Keeps feedback whose origin is held until it is known where its decision stands.
    pub(super) fn keep_early(&mut self, early: Early) -> Result<(), LogError> {
        let name = name_of(&early.feedback);
        self.commit.state.push(put(EARLY, &name, json(&early)?));
        self.early.insert(name, early);
        while self.early.len() > self.config.early_max {
            let absent = self.early.iter().filter(|(_, early)| early.lookup == Lookup::Absent);
            let oldest = absent.min_by_key(|(_, early)| early.since_ms);
            // All are being looked up: the backlog bound stops the reading instead.
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { break };
            self.give_up(&name, "unknown_decision");
        }
        Ok(())
    }

    /// Takes out all feedback on a decision that waits here.
    pub(super) fn take_early(&mut self, id: &DecisionId) -> Vec<Early> {
        let names = self.early_of(id);
        let mut taken = Vec::with_capacity(names.len());
        for name in names {
            self.commit.state.push(delete(EARLY, &name));
            taken.extend(self.early.remove(&name));
        }
        taken.sort_by_key(|early| early.origin.2);
        taken
    }

    fn early_of(&self, id: &DecisionId) -> Vec<String> {
        let prefix = prefix_of(id);
        let from = self.early.range((Included(prefix.clone()), Unbounded));
        from.map(|(name, _)| name).take_while(|name| name.starts_with(&prefix)).cloned().collect()
    }

    /// Feedback whose decision is to be looked up or is being.
    pub(super) fn looked_for(&self) -> usize {
        self.early.values().filter(|early| early.lookup != Lookup::Absent).count()
    }

    /// The next decision to be looked up, marked as being so with all feedback on it.
    pub(super) fn next_lookup(&mut self, now_ms: u64) -> Option<DecisionId> {
        let is_due = |early: &Early| {
            matches!(early.lookup, Lookup::Due { not_before_ms, .. } if not_before_ms <= now_ms)
                && !self.is_unwritten(&early.feedback.decision_id)
        };
        let id = self.early.values().find(|early| is_due(early))?.feedback.decision_id.clone();
        for name in self.early_of(&id) {
            if let Some(early) = self.early.get_mut(&name)
                && let Lookup::Due { tries, .. } = early.lookup
            {
                early.lookup = Lookup::Asked { tries };
            }
        }
        Some(id)
    }

    /// Takes in what the log says of a decision; `Err` is asked again later.
    pub(super) fn recalled(
        &mut self,
        id: &DecisionId,
        said: Result<Recalled, String>,
        now_ms: u64,
    ) -> Result<(), LogError> {
        match said {
            // A verdict that was reached meanwhile is not in what the log said.
            _ if self.pending.contains_key(id) || self.is_unwritten(id) => self.again(id, now_ms),
            Ok(Recalled::Judged(episode, newest)) => {
                self.revise(id, *episode, newest.map(|newest| *newest), now_ms)?;
            }
            // It waits for its turn to be judged, or its verdict is older than what the log holds.
            Ok(Recalled::Unjudged(episode)) if self.is_overdue(id, now_ms) => {
                self.revise(id, *episode, None, now_ms)?;
            }
            Ok(Recalled::Useless) => {
                for name in self.early_of(id) {
                    self.give_up(&name, "refused");
                }
            }
            Ok(Recalled::Absent) => {
                for name in self.early_of(id) {
                    if let Some(early) = self.early.get_mut(&name) {
                        early.lookup = Lookup::Absent;
                        self.fate("pending");
                    }
                }
            }
            Ok(Recalled::NotYet | Recalled::Unjudged(_)) => self.again(id, now_ms),
            Err(reason) => {
                tracing::warn!(reason, "a decision cannot be looked up, trying again");
                self.again(id, now_ms);
            }
        }
        Ok(())
    }

    /// Whether a decision that the log has without a verdict is done here, or waited too long.
    fn is_overdue(&self, id: &DecisionId, now_ms: u64) -> bool {
        let waits = |name: &String| self.early.get(name).map(|early| early.since_ms);
        let since = self.early_of(id).iter().filter_map(waits).min().unwrap_or(now_ms);
        self.done.names.contains(id.as_str())
            || now_ms.saturating_sub(since) > self.config.join_window_ms
    }

    fn again(&mut self, id: &DecisionId, now_ms: u64) {
        for name in self.early_of(id) {
            let Some(early) = self.early.get_mut(&name) else { continue };
            if let Lookup::Asked { tries } = early.lookup {
                let tries = tries.saturating_add(1);
                let not_before_ms = now_ms.saturating_add(pause_ms(&self.config, tries));
                early.lookup = Lookup::Due { tries, not_before_ms };
            }
        }
    }

    /// Opens a verdict again with the feedback that waits here.
    fn revise(
        &mut self,
        id: &DecisionId,
        episode: Episode,
        newest: Option<RewardRecord>,
        now_ms: u64,
    ) -> Result<(), LogError> {
        let mut pending = Pending::new(episode, now_ms);
        pending.revision = newest.as_ref().map_or(0, |newest| newest.revision).saturating_add(1);
        if let Some(newest) = newest {
            pending.on_record = newest.reward().cloned();
            pending.feedback = newest.feedback;
        }
        let mut is_news = false;
        for early in self.take_early(id) {
            is_news |= self.join(&mut pending, early.feedback, early.origin);
        }
        if is_news { self.wait_for(id.clone(), pending) } else { Ok(()) }
    }

    /// Forgets feedback from before `oldest_ms` whose decision the log does not have.
    pub(super) fn forget_unknown(&mut self, oldest_ms: u64) {
        let over = |early: &&Early| early.lookup == Lookup::Absent && early.since_ms < oldest_ms;
        let over = self.early.values().filter(over);
        let names: Vec<String> = over.map(|early| name_of(&early.feedback)).collect();
        names.iter().for_each(|name| self.give_up(name, "unknown_decision"));
    }

    fn give_up(&mut self, name: &str, fate: &'static str) {
        if let Some(early) = self.early.remove(name) {
            self.watermarks.release(early.origin);
            self.commit.state.push(delete(EARLY, name));
            self.fate(fate);
        }
    }
}

//! The join of episodes and feedback as pure state: who waits, who is due, who has a verdict.
//!
//! One joiner a partition: episodes and feedback of a decision have the same key, so they meet
//! there. Knows no actor and no log; every change collects in a [`Commit`] that the actor makes
//! durable in one step with the positions it read. It goes on from its derived state, or, where
//! somebody else had the partition, from the rewards written so far.

use super::waiting::{
    COUNTERS, DONE, EARLY, EPISODE, Early, Memory, Pending, Phase, SEEN, json, parsed, put,
};
use super::{Config, Observed};
use crate::ports::{Commit, JudgeTask, LogError, NewRecord, Record, StateChange, Stream};
use crate::tail::{DerivedState, Origin, Watermarks, backoff, record};
use crate::telemetry;
use crate::types::{DecisionId, Episode, Feedback, Outcome, RewardRecord, SCHEMA_VERSION, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

/// All that the judge remembers of one partition.
pub(super) struct Joiner {
    partition: u32,
    config: Config,
    judge: String,
    pending: BTreeMap<DecisionId, Pending>,
    early: BTreeMap<String, Early>,
    seen: Memory,
    done: Memory,
    pub(super) counters: Observed,
    watermarks: Watermarks,
    commit: Commit,
}

impl Joiner {
    /// A joiner that knows nothing.
    fn new(partition: u32, config: Config, judge: String) -> Self {
        Self {
            partition,
            judge,
            pending: BTreeMap::new(),
            early: BTreeMap::new(),
            seen: Memory::new(SEEN, config.seen_max),
            done: Memory::new(DONE, config.done_max),
            counters: Observed::default(),
            watermarks: Watermarks::default(),
            commit: Commit { partition, ..Commit::default() },
            config,
        }
    }

    /// Goes on from the derived state of a partition.
    pub(super) fn restored(
        partition: u32,
        config: Config,
        judge: String,
        state: DerivedState,
    ) -> Result<Self, LogError> {
        let mut joiner = Self::new(partition, config, judge);
        for (key, value) in state {
            if let Some(id) = key.strip_prefix(EPISODE) {
                let pending: Pending = parsed(&key, &value)?;
                pending.origins.iter().for_each(|o| joiner.watermarks.hold_again(*o));
                joiner.pending.insert(id.into(), pending);
            } else if let Some(id) = key.strip_prefix(EARLY) {
                let early: Early = parsed(&key, &value)?;
                joiner.watermarks.hold_again(early.origin);
                joiner.early.insert(id.to_owned(), early);
            } else if let Some(id) = key.strip_prefix(SEEN) {
                joiner.seen.restore(id.to_owned(), parsed(&key, &value)?);
            } else if let Some(id) = key.strip_prefix(DONE) {
                joiner.done.restore(id.to_owned(), parsed(&key, &value)?);
            } else if key == COUNTERS {
                joiner.counters = parsed(&key, &value)?;
            }
        }
        Ok(joiner)
    }

    /// Takes over a partition from somebody else: what has a reward is done, the rest is read
    /// again.
    pub(super) fn taken_over(
        partition: u32,
        config: Config,
        judge: String,
        rewards: &[Record],
    ) -> Self {
        let mut joiner = Self::new(partition, config, judge);
        for reward in rewards {
            // The key of a reward is its decision.
            joiner.done.insert(&reward.key, &mut joiner.commit.state);
        }
        joiner
    }

    /// Takes in an episode; a repeat is counted and dropped.
    pub(super) fn episode(
        &mut self,
        episode: Episode,
        origin: Origin,
        now_ms: u64,
    ) -> Result<(), LogError> {
        let Some(id) = episode.decision_id().cloned() else {
            self.counters.episodes += 1;
            self.failed();
            return Ok(());
        };
        if self.pending.contains_key(&id) || self.done.names.contains(id.as_str()) {
            self.counters.episode_duplicates += 1;
            return Ok(());
        }
        self.counters.episodes += 1;
        if matches!(episode.outcome, Outcome::Failed { .. }) {
            self.failed();
            self.done.insert(id.as_str(), &mut self.commit.state);
            return Ok(());
        }
        self.watermarks.hold_again(origin);
        let mut pending = Pending {
            episode,
            feedback: Vec::new(),
            since_ms: now_ms,
            origins: vec![origin],
            phase: Phase::default(),
        };
        let early: Vec<String> = self
            .early
            .iter()
            .filter(|(_, early)| early.feedback.decision_id == id)
            .map(|(name, _)| name.clone())
            .collect();
        for name in early {
            if let Some(early) = self.early.remove(&name) {
                self.commit.state.push(StateChange::Delete { key: format!("{EARLY}{name}") });
                self.fate("joined");
                pending.feedback.push(early.feedback);
                pending.origins.push(early.origin);
            }
        }
        self.commit.state.push(put(EPISODE, id.as_str(), json(&pending)?));
        self.pending.insert(id, pending);
        self.evict(now_ms)
    }

    /// Takes in feedback: joins it, keeps it for its episode, or counts why not.
    pub(super) fn feedback(
        &mut self,
        feedback: Feedback,
        origin: Origin,
        now_ms: u64,
    ) -> Result<(), LogError> {
        self.counters.feedback += 1;
        if self.seen.names.contains(&feedback.id) {
            self.fate("duplicate");
            return Ok(());
        }
        self.seen.insert(&feedback.id, &mut self.commit.state);
        if let Some(pending) = self.pending.get_mut(&feedback.decision_id) {
            let key = feedback.decision_id.clone();
            if pending.feedback.len() < self.config.feedback_max {
                pending.feedback.push(feedback);
                pending.origins.push(origin);
                self.watermarks.hold_again(origin);
            }
            pending.phase = match pending.phase {
                Phase::Judging { failures, .. } => Phase::Judging { failures, again: true },
                Phase::Waiting => Phase::default(),
                due @ Phase::Due { .. } => due,
            };
            let value = json(&pending)?;
            self.commit.state.push(put(EPISODE, key.as_str(), value));
            self.fate("joined");
        } else if self.done.names.contains(feedback.decision_id.as_str()) {
            self.fate("late");
        } else {
            let name = feedback.id.clone();
            let early = Early { feedback, since_ms: now_ms, origin };
            self.watermarks.hold_again(origin);
            self.commit.state.push(put(EARLY, &name, json(&early)?));
            self.early.insert(name, early);
            while self.early.len() > self.config.early_max {
                let oldest = self.early.iter().min_by_key(|(_, early)| early.since_ms);
                let Some(name) = oldest.map(|(name, _)| name.clone()) else { break };
                self.orphan(&name);
            }
        }
        Ok(())
    }

    /// The next episode that is due, marked as being judged.
    pub(super) fn next_due(&mut self, now_ms: u64) -> Option<(DecisionId, JudgeTask)> {
        let (id, pending) = self.pending.iter_mut().find(|(_, pending)| {
            matches!(pending.phase, Phase::Due { not_before_ms, .. } if not_before_ms <= now_ms)
        })?;
        let Phase::Due { failures, .. } = pending.phase else { return None };
        pending.phase = Phase::Judging { failures, again: false };
        let task =
            JudgeTask { episode: pending.episode.clone(), feedback: pending.feedback.clone() };
        Some((id.clone(), task))
    }

    /// Takes in what the judge said; `Err` is tried again later.
    pub(super) fn judged(
        &mut self,
        id: &DecisionId,
        said: Result<Option<Verdict>, String>,
        now_ms: u64,
    ) -> Result<(), LogError> {
        let Some(pending) = self.pending.get_mut(id) else { return Ok(()) };
        let Phase::Judging { failures, again } = pending.phase else { return Ok(()) };
        match said {
            Ok(Some(verdict)) => return self.end(id, verdict, now_ms),
            Ok(None) if again => pending.phase = Phase::default(),
            Ok(None) => pending.phase = Phase::Waiting,
            Err(reason) if failures + 1 >= self.config.attempts_max => {
                tracing::error!(reason, "judge failed as often as it may, episode is given up");
                return self.end(id, Verdict::Failed { reason }, now_ms);
            }
            Err(reason) => {
                let failures = failures.saturating_add(1);
                let pause = backoff(
                    failures,
                    Duration::from_millis(self.config.backoff_ms),
                    Duration::from_millis(self.config.backoff_max_ms),
                );
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                pending.phase =
                    Phase::Due { failures, not_before_ms: now_ms.saturating_add(pause_ms) };
                self.counters.retries += 1;
                metrics::counter!(telemetry::JUDGE_RETRIES).increment(1);
                tracing::warn!(reason, failures, "judge failed, trying again");
            }
        }
        Ok(())
    }

    /// Ends what waited longer than the join window.
    pub(super) fn expire(&mut self, now_ms: u64) -> Result<(), LogError> {
        let oldest_ms = now_ms.saturating_sub(self.config.join_window_ms);
        let over: Vec<DecisionId> = self
            .pending
            .iter()
            .filter(|(_, p)| p.phase == Phase::Waiting && p.since_ms < oldest_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.end(&id, Verdict::Expired, now_ms)?;
        }
        let orphans: Vec<String> = self
            .early
            .iter()
            .filter(|(_, early)| early.since_ms < oldest_ms)
            .map(|(name, _)| name.clone())
            .collect();
        orphans.iter().for_each(|name| self.orphan(name));
        Ok(())
    }

    /// What must become durable, if anything.
    pub(super) fn take_commit(&mut self) -> Result<Option<Commit>, LogError> {
        let empty = Commit { partition: self.partition, ..Commit::default() };
        let mut commit = std::mem::replace(&mut self.commit, empty);
        if commit.state.is_empty() && commit.appends.is_empty() && commit.positions.is_empty() {
            return Ok(None);
        }
        commit.positions = self.watermarks.next();
        commit.resume = self.watermarks.positions();
        let value = json(&self.observed())?;
        commit.state.push(StateChange::Put { key: COUNTERS.to_owned(), value });
        Ok(Some(commit))
    }

    /// Notes a record as read; what still needs it holds it.
    pub(super) fn read(&mut self, record: &Record) -> Origin {
        let origin = self.watermarks.hold(record);
        self.watermarks.release(origin);
        self.commit.positions = vec![origin];
        origin
    }

    /// Appends a record in the same commit.
    pub(super) fn append(&mut self, stream: Stream, record: NewRecord) {
        self.commit.appends.push((stream, record));
    }

    /// Episodes due or at the judge: the work that is behind.
    pub(super) fn backlog(&self) -> usize {
        self.pending.values().filter(|pending| pending.phase != Phase::Waiting).count()
    }

    /// How long the oldest episode without a verdict has waited.
    pub(super) fn oldest_age(&self, now_ms: u64) -> Duration {
        let oldest = self.pending.values().map(|pending| pending.since_ms).min();
        Duration::from_millis(oldest.map_or(0, |since_ms| now_ms.saturating_sub(since_ms)))
    }

    /// The counters with the levels of now.
    pub(super) fn observed(&self) -> Observed {
        Observed {
            pending: self.pending.len() as u64,
            early: self.early.len() as u64,
            ..self.counters
        }
    }

    fn end(&mut self, id: &DecisionId, verdict: Verdict, now_ms: u64) -> Result<(), LogError> {
        let Some(pending) = self.pending.remove(id) else { return Ok(()) };
        pending.origins.iter().for_each(|origin| self.watermarks.release(*origin));
        let fate = match &verdict {
            Verdict::Scored { reward } => {
                telemetry::observe(telemetry::REWARD_VALUE, reward.total);
                self.counters.judged += 1;
                "scored"
            }
            Verdict::Abstained { .. } => {
                self.counters.abstained += 1;
                "abstained"
            }
            Verdict::Failed { .. } => {
                self.counters.given_up += 1;
                "failed"
            }
            Verdict::Expired => {
                self.counters.expired += 1;
                "expired"
            }
        };
        telemetry::count(telemetry::JUDGED, "verdict", fate);
        let mut references = pending.episode.query.references;
        references.extend(pending.feedback.into_iter().flat_map(|feedback| feedback.references));
        let judge = self.judge.clone();
        let reward = RewardRecord {
            schema: SCHEMA_VERSION,
            decision_id: id.clone(),
            revision: 0,
            verdict,
            references,
            judge,
            judged_ms: now_ms,
        };
        let new = record(id.as_str(), (id.as_str(), Stream::Rewards.topic()), &reward)?;
        self.commit.appends.push((Stream::Rewards, new));
        self.commit.state.push(StateChange::Delete { key: format!("{EPISODE}{id}") });
        self.done.insert(id.as_str(), &mut self.commit.state);
        Ok(())
    }

    /// Keeps the bound: the oldest that merely waits expires early.
    fn evict(&mut self, now_ms: u64) -> Result<(), LogError> {
        while self.pending.len() > self.config.pending_max {
            let oldest = self
                .pending
                .iter()
                .filter(|(_, pending)| pending.phase == Phase::Waiting)
                .min_by_key(|(_, pending)| pending.since_ms)
                .map(|(id, _)| id.clone());
            // Nothing merely waits: the backlog bound stops the reading instead.
            let Some(id) = oldest else { return Ok(()) };
            self.counters.evicted += 1;
            self.end(&id, Verdict::Expired, now_ms)?;
        }
        Ok(())
    }

    fn failed(&mut self) {
        self.counters.failed += 1;
        telemetry::count(telemetry::JUDGED, "verdict", "unanswered");
    }

    fn orphan(&mut self, name: &str) {
        if let Some(early) = self.early.remove(name) {
            self.watermarks.release(early.origin);
            self.commit.state.push(StateChange::Delete { key: format!("{EARLY}{name}") });
            self.fate("orphan");
        }
    }

    fn fate(&mut self, fate: &'static str) {
        match fate {
            "joined" => self.counters.joined += 1,
            "late" => self.counters.late += 1,
            "orphan" => self.counters.orphan += 1,
            _ => self.counters.duplicate += 1,
        }
        telemetry::count(telemetry::FEEDBACK, "fate", fate);
    }
}

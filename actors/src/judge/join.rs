//! The join of episodes and feedback as pure state: who waits, who is due, who has a verdict.
//!
//! One joiner a partition: episodes and feedback of a decision have the same key, so they meet
//! there. Knows no actor and no log; every change collects in a [`Commit`] that the actor makes
//! durable in one step with the positions it read. It goes on from its derived state, or, where
//! somebody else had the partition, from the rewards written so far.
//!
//! A decision ends with its first verdict. Feedback that comes later, days later perhaps, has the
//! decision looked up in the log (`late.rs`) and gives a revision of the verdict.

use super::waiting::{
    COUNTERS, DONE, EARLY, EPISODE, Early, Lookup, Memory, Pending, Phase, delete, json, name_of,
    parsed, put,
};
use super::{Config, Observed};
use crate::ports::{
    Commit, JudgeTask, Judgement, LogError, NewRecord, Record, StateChange, Stream,
};
use crate::tail::{DerivedState, Origin, Watermarks, backoff};
use crate::telemetry;
use crate::types::{DecisionId, Episode, Feedback, Outcome, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// All that the judge remembers of one partition.
pub(super) struct Joiner {
    partition: u32,
    pub(super) config: Config,
    pub(super) judge: String,
    pub(super) pending: BTreeMap<DecisionId, Pending>,
    pub(super) early: BTreeMap<String, Early>,
    pub(super) done: Memory,
    pub(super) counters: Observed,
    pub(super) watermarks: Watermarks,
    pub(super) commit: Commit,
    /// Decisions whose newest verdict is in the commit, and those of the commit under way: the log
    /// does not give it yet.
    pub(super) unwritten: [BTreeSet<DecisionId>; 2],
}

impl Joiner {
    /// A joiner that knows nothing.
    fn new(partition: u32, config: Config, judge: String) -> Self {
        Self {
            partition,
            judge,
            pending: BTreeMap::new(),
            early: BTreeMap::new(),
            done: Memory::new(DONE, config.done_max),
            counters: Observed::default(),
            watermarks: Watermarks::default(),
            commit: Commit { partition, ..Commit::default() },
            unwritten: Default::default(),
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
            } else if let Some(name) = key.strip_prefix(EARLY) {
                let early: Early = parsed(&key, &value)?;
                joiner.watermarks.hold_again(early.origin);
                // State of before names had their decision in them.
                if name != name_of(&early.feedback) {
                    joiner.commit.state.push(delete(EARLY, name));
                }
                joiner.keep_early(early)?;
            } else if let Some(id) = key.strip_prefix(DONE) {
                joiner.done.restore(id.to_owned(), parsed(&key, &value)?);
            } else if key == COUNTERS {
                joiner.counters = parsed(&key, &value)?;
            } else {
                // Of before repeats were known by the feedback of their decision.
                joiner.commit.state.push(StateChange::Delete { key });
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
        let mut pending = Pending::new(episode, now_ms);
        pending.origins.push(origin);
        for early in self.take_early(&id) {
            self.join(&mut pending, early.feedback, early.origin);
        }
        self.wait_for(id, pending)?;
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
        let id = feedback.decision_id.clone();
        if let Some(mut pending) = self.pending.remove(&id) {
            self.watermarks.hold_again(origin);
            if self.join(&mut pending, feedback, origin) {
                pending.phase = match pending.phase {
                    Phase::Judging { failures, .. } => Phase::Judging { failures, again: true },
                    Phase::Waiting => Phase::default(),
                    due @ Phase::Due { .. } => due,
                };
            }
            return self.wait_for(id, pending);
        }
        if self.early.contains_key(&name_of(&feedback)) {
            self.fate("duplicate");
            return Ok(());
        }
        self.watermarks.hold_again(origin);
        self.keep_early(Early { feedback, since_ms: now_ms, origin, lookup: Lookup::default() })
    }

    /// Puts feedback, whose origin is held, to what is pending; whether it is news.
    pub(super) fn join(
        &mut self,
        pending: &mut Pending,
        feedback: Feedback,
        origin: Origin,
    ) -> bool {
        let fate = match pending.revision {
            _ if pending.has_heard(&feedback) => "duplicate",
            _ if pending.feedback.len() >= self.config.feedback_max => "refused",
            0 => "joined",
            _ => "revised",
        };
        self.fate(fate);
        let is_news = matches!(fate, "joined" | "revised");
        if is_news {
            pending.feedback.push(feedback);
            pending.origins.push(origin);
        } else {
            self.watermarks.release(origin);
        }
        is_news
    }

    pub(super) fn wait_for(&mut self, id: DecisionId, pending: Pending) -> Result<(), LogError> {
        self.commit.state.push(put(EPISODE, id.as_str(), json(&pending)?));
        self.pending.insert(id, pending);
        Ok(())
    }

    /// The next episode that is due, marked as being judged.
    pub(super) fn next_due(&mut self, now_ms: u64) -> Option<(DecisionId, JudgeTask)> {
        let (id, pending) = self.pending.iter_mut().find(|(_, pending)| {
            matches!(pending.phase, Phase::Due { not_before_ms, .. } if not_before_ms <= now_ms)
        })?;
        let Phase::Due { failures, .. } = pending.phase else { return None };
        pending.phase = Phase::Judging { failures, again: false };
        let mut task = JudgeTask::of(&pending.episode)?;
        task.feedback.clone_from(&pending.feedback);
        task.earlier = pending.said.clone().or_else(|| pending.on_record.clone());
        Some((id.clone(), task))
    }

    /// Takes in what the judge said; `Err` is tried again later.
    pub(super) fn judged(
        &mut self,
        id: &DecisionId,
        said: Result<Judgement, String>,
        now_ms: u64,
    ) -> Result<(), LogError> {
        let Some(pending) = self.pending.get_mut(id) else { return Ok(()) };
        let Phase::Judging { failures, again } = pending.phase else { return Ok(()) };
        let verdict = match said {
            // Feedback came that it has not seen.
            Ok(judgement) if again => {
                if let Judgement::Scored { reward } = judgement {
                    pending.said = Some(reward);
                }
                pending.phase = Phase::default();
                return Ok(());
            }
            Ok(Judgement::Scored { reward }) => Verdict::Scored { reward },
            Ok(Judgement::Abstained { reason }) => Verdict::Abstained { reason },
            Ok(Judgement::Refused { reason }) => Verdict::Failed { reason },
            // What was said stays on record; later feedback may make something of it.
            Ok(Judgement::NotYet) if pending.revision > 0 => Verdict::Expired,
            Ok(Judgement::NotYet) => {
                pending.phase = Phase::Waiting;
                return Ok(());
            }
            Err(reason) if failures + 1 >= self.config.attempts_max => {
                tracing::error!(reason, "judge failed as often as it may, episode is given up");
                Verdict::Failed { reason }
            }
            Err(reason) => {
                let failures = failures.saturating_add(1);
                let not_before_ms = now_ms.saturating_add(pause_ms(&self.config, failures));
                pending.phase = Phase::Due { failures, not_before_ms };
                self.counters.retries += 1;
                metrics::counter!(telemetry::JUDGE_RETRIES).increment(1);
                tracing::warn!(reason, failures, "judge failed, trying again");
                return Ok(());
            }
        };
        self.end(id, verdict, now_ms)
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
        self.forget_unknown(oldest_ms);
        Ok(())
    }

    /// What must become durable, if anything.
    pub(super) fn take_commit(&mut self) -> Result<Option<Commit>, LogError> {
        let empty = Commit { partition: self.partition, ..Commit::default() };
        let mut commit = std::mem::replace(&mut self.commit, empty);
        if commit.state.is_empty() && commit.appends.is_empty() && commit.positions.is_empty() {
            return Ok(None);
        }
        self.unwritten = [BTreeSet::new(), std::mem::take(&mut self.unwritten[0])];
        commit.positions = self.watermarks.next();
        commit.resume = self.watermarks.positions();
        let value = json(&self.observed())?;
        commit.state.push(StateChange::Put { key: COUNTERS.to_owned(), value });
        Ok(Some(commit))
    }

    /// The commit that was taken last is durable.
    pub(super) fn committed(&mut self) {
        self.unwritten[1].clear();
    }

    /// Whether the log does not hold the newest verdict on a decision yet.
    pub(super) fn is_unwritten(&self, id: &DecisionId) -> bool {
        self.unwritten.iter().any(|ids| ids.contains(id))
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

    /// Episodes due or at the judge, and feedback whose decision is looked for: the work behind.
    pub(super) fn backlog(&self) -> usize {
        let judged =
            self.pending.values().filter(|pending| pending.phase != Phase::Waiting).count();
        judged + self.looked_for()
    }

    /// How long the oldest episode without a verdict has waited.
    pub(super) fn oldest_age(&self, now_ms: u64) -> Duration {
        let first = self.pending.values().filter(|pending| pending.revision == 0);
        let oldest = first.map(|pending| pending.since_ms).min();
        Duration::from_millis(oldest.map_or(0, |since_ms| now_ms.saturating_sub(since_ms)))
    }

    /// The counters with the levels of now.
    pub(super) fn observed(&self) -> Observed {
        let first = self.pending.values().filter(|pending| pending.revision == 0).count();
        Observed { pending: first as u64, early: self.early.len() as u64, ..self.counters }
    }

    fn failed(&mut self) {
        self.counters.failed += 1;
        telemetry::count(telemetry::JUDGED, "verdict", "unanswered");
    }

    pub(super) fn fate(&mut self, fate: &'static str) {
        match fate {
            "joined" => self.counters.joined += 1,
            "revised" => self.counters.revised += 1,
            "unknown_decision" => self.counters.unknown_decision += 1,
            "refused" => self.counters.refused += 1,
            "duplicate" => self.counters.duplicate += 1,
            // It still waits; its end is counted.
            _ => {}
        }
        telemetry::count(telemetry::FEEDBACK, "fate", fate);
    }
}

/// Pause before another try, milliseconds.
pub(super) fn pause_ms(config: &Config, failures: u32) -> u64 {
    let (base, max) = (config.backoff_ms, config.backoff_max_ms);
    let pause = backoff(failures, Duration::from_millis(base), Duration::from_millis(max));
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

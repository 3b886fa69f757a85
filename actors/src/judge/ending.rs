//! How a wait for a verdict ends: with a record on the log, the first of its decision or a revision.
//!
//! Part of the joiner.

use super::join::Joiner;
use super::waiting::{EPISODE, Phase, delete};
use crate::ports::{LogError, Stream};
use crate::tail::record;
use crate::telemetry;
use crate::types::{DecisionId, RewardRecord, SCHEMA_VERSION, Verdict};

impl Joiner {
    /// Writes the verdict. A revision never takes a reward away: what is on record stays then, with
    /// the feedback that was heard since.
    pub(super) fn end(
        &mut self,
        id: &DecisionId,
        verdict: Verdict,
        now_ms: u64,
    ) -> Result<(), LogError> {
        let Some(pending) = self.pending.remove(id) else { return Ok(()) };
        pending.origins.iter().for_each(|origin| self.watermarks.release(*origin));
        let replaces = pending.on_record.as_ref().map(|reward| reward.total);
        let verdict = match (verdict, pending.on_record) {
            (verdict @ Verdict::Scored { .. }, _) | (verdict, None) => verdict,
            (_, Some(reward)) => Verdict::Scored { reward },
        };
        if pending.revision == 0 {
            self.count(&verdict);
        } else {
            self.counters.revisions += 1;
        }
        if let (Verdict::Scored { reward }, None) = (&verdict, replaces) {
            telemetry::observe(telemetry::REWARD_VALUE, reward.total);
        }
        let mut references = pending.episode.query.references;
        for feedback in &pending.feedback {
            references.extend(feedback.references.iter().chain(&feedback.correction).cloned());
        }
        let reward = RewardRecord {
            schema: SCHEMA_VERSION,
            decision_id: id.clone(),
            revision: pending.revision,
            verdict,
            replaces,
            feedback: pending.feedback,
            references,
            judge: self.judge.clone(),
            judged_ms: now_ms,
        };
        // Each revision is a record of its own; a repeat of one has the name of that one.
        let name = match pending.revision {
            0 => id.as_str().to_owned(),
            revision => format!("{id}/{revision}"),
        };
        let new = record(id.as_str(), (&name, Stream::Rewards.topic()), &reward)?;
        self.commit.appends.push((Stream::Rewards, new));
        self.commit.state.push(delete(EPISODE, id.as_str()));
        self.done.insert(id.as_str(), &mut self.commit.state);
        self.unwritten[0].insert(id.clone());
        Ok(())
    }

    fn count(&mut self, verdict: &Verdict) {
        let (counter, word) = match verdict {
            Verdict::Scored { .. } => (&mut self.counters.judged, "scored"),
            Verdict::Abstained { .. } => (&mut self.counters.abstained, "abstained"),
            Verdict::Failed { .. } => (&mut self.counters.given_up, "failed"),
            Verdict::Expired => (&mut self.counters.expired, "expired"),
        };
        *counter += 1;
        telemetry::count(telemetry::JUDGED, "verdict", word);
    }

    /// Keeps the bound: the oldest that merely waits expires early.
    pub(super) fn evict(&mut self, now_ms: u64) -> Result<(), LogError> {
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
}

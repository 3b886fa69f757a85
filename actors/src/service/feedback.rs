//! Feedback at the door, and what is known of a decision.
//!
//! Both look in the log, by its index of decisions: what it still holds can be spoken of, however
//! old.

use super::{FeedbackError, ServiceHandle};
use crate::ports::{Found, LogError, Stream};
use crate::tail::{self, record};
use crate::telemetry;
use crate::types::{DecisionId, Episode, Feedback, FeedbackFault, RewardRecord};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::timeout;

/// Bounds of feedback at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedbackConfig {
    /// Longest search for a decision in the log, milliseconds, ≥ 1.
    pub deadline_ms: u64,
}

impl Default for FeedbackConfig {
    fn default() -> Self {
        Self { deadline_ms: 1_000 }
    }
}

/// Where feedback stands when it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its decision has no verdict yet; it goes into the first.
    Joined,
    /// Its decision has a verdict, which it revises.
    Revised,
    /// Its decision is not known as far as the log is read; it is stored, and joined once it is.
    Pending,
}

/// What became of feedback at the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Its id: given, or drawn here.
    pub id: String,
    /// The decision it is about.
    pub decision_id: DecisionId,
    /// Where it stands.
    pub status: Standing,
    /// Whether the decision had it already: nothing was stored then.
    pub is_repeat: bool,
}

/// All that the log holds of a decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownDecision {
    /// The query with what was chosen and answered.
    pub episode: Episode,
    /// The verdict that counts, if there is one yet.
    pub reward: Option<RewardRecord>,
    /// All verdicts, the first one first; each names the feedback it rests on.
    pub revisions: Vec<RewardRecord>,
}

impl ServiceHandle {
    /// Takes feedback on any decision that the log holds; it is durable when this returns.
    ///
    /// # Errors
    /// Feedback that is wrong, about nothing known, or beyond what one decision has; a log that
    /// does not answer.
    pub async fn feedback(&self, mut feedback: Feedback) -> Result<Receipt, FeedbackError> {
        let core = &self.0.core;
        feedback.check().map_err(FeedbackError::Refused)?;
        if feedback.stamp(core.ports.clock.now_ms()) {
            telemetry::feedback_ahead();
        }
        let decision_id = feedback.decision_id.clone();
        let newest = self.rewards(&decision_id, 4).await?.pop();
        let mut status = Standing::Revised;
        if let Some(newest) = &newest {
            let most = core.config.judge.feedback_max;
            if !feedback.id.is_empty() && newest.feedback.iter().any(|f| f.id == feedback.id) {
                return Ok(Receipt { id: feedback.id, decision_id, status, is_repeat: true });
            }
            if newest.feedback.len() >= most {
                return Err(FeedbackError::Full(decision_id, most));
            }
        } else {
            let found = self.find(Stream::Episodes, &decision_id, 1).await?;
            status = match (found.records.is_empty(), found.is_complete) {
                (false, _) => Standing::Joined,
                (true, false) => Standing::Pending,
                (true, true) => return Err(FeedbackError::UnknownDecision(decision_id)),
            };
        }
        if feedback.id.is_empty() {
            feedback.id = core.draw_id("f");
        }
        self.append_feedback(&feedback).await.map_err(|error| match error {
            LogError::Refused(reason) => {
                FeedbackError::Refused(FeedbackFault { field: Feedback::WHOLE, reason })
            }
            error => FeedbackError::Unavailable(error.to_string()),
        })?;
        Ok(Receipt { id: feedback.id, decision_id, status, is_repeat: false })
    }

    /// What the log holds of a decision.
    ///
    /// # Errors
    /// One that it does not hold, or not as far as it is read; a log that does not answer.
    pub async fn decision(&self, id: &DecisionId) -> Result<KnownDecision, FeedbackError> {
        let unavailable = |reason: String| Err(FeedbackError::Unavailable(reason));
        let found = self.find(Stream::Episodes, id, 1).await?;
        let Some(newest) = found.records.last() else {
            if found.is_complete {
                return Err(FeedbackError::UnknownDecision(id.clone()));
            }
            return unavailable("the log is still being read".to_owned());
        };
        let episode: Episode = match tail::parse(newest) {
            Ok(episode) => episode,
            Err(reason) => return unavailable(format!("its record cannot be read: {reason}")),
        };
        let most = self.0.core.config.judge.feedback_max.saturating_add(1);
        let mut revisions = self.rewards(id, most).await?;
        revisions.dedup_by_key(|record| record.revision);
        Ok(KnownDecision { episode, reward: revisions.last().cloned(), revisions })
    }

    /// The verdicts on a decision, the one that counts last.
    async fn rewards(
        &self,
        id: &DecisionId,
        newest: usize,
    ) -> Result<Vec<RewardRecord>, FeedbackError> {
        let found = self.find(Stream::Rewards, id, newest).await?;
        let mut rewards: Vec<RewardRecord> =
            found.records.iter().filter_map(|record| tail::parse(record).ok()).collect();
        rewards.sort_by_key(|reward| reward.revision);
        Ok(rewards)
    }

    async fn find(
        &self,
        stream: Stream,
        id: &DecisionId,
        newest: usize,
    ) -> Result<Found, FeedbackError> {
        let core = &self.0.core;
        let wait = Duration::from_millis(core.config.feedback.deadline_ms);
        match timeout(wait, core.ports.log.find(stream, id.as_str(), newest)).await {
            Ok(found) => found.map_err(|error| FeedbackError::Unavailable(error.to_string())),
            Err(_) => {
                let reason = format!("the log gave nothing within {} ms", wait.as_millis());
                Err(FeedbackError::Unavailable(reason))
            }
        }
    }

    async fn append_feedback(&self, feedback: &Feedback) -> Result<(), LogError> {
        let core = &self.0.core;
        let key = feedback.decision_id.as_str();
        // The id counts within its decision.
        let name = format!("{key}/{}", feedback.id);
        let new = record(key, (&name, Stream::Feedback.topic()), feedback)?;
        let wait = Duration::from_millis(core.config.episode.log_deadline_ms);
        match timeout(wait, core.ports.log.append(Stream::Feedback, vec![new])).await {
            Ok(appended) => appended.map(|_| ()),
            Err(_) => Err(LogError::Unavailable("no reply within the deadline".to_owned())),
        }
    }
}

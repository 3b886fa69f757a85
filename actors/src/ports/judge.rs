//! What turns answers into rewards.

use crate::types::{Episode, Feedback, Verdict};
use async_trait::async_trait;

/// One episode to be judged, with what has been said of it so far.
#[derive(Debug, Clone)]
pub struct JudgeTask {
    /// The episode.
    pub episode: Episode,
    /// Feedback joined to it, oldest first.
    pub feedback: Vec<Feedback>,
}

/// Why there is no verdict yet.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The judge cannot be reached; another try may succeed.
    #[error("judge is unavailable: {0}")]
    Unavailable(String),
}

/// Judges answers.
#[async_trait]
pub trait Judge: Send + Sync {
    /// Gives a verdict, or `None` when there is nothing to judge by yet: the episode then waits
    /// for feedback until the join window closes.
    async fn judge(&self, task: &JudgeTask) -> Result<Option<Verdict>, JudgeError>;

    /// Name and version, written into every reward.
    fn name(&self) -> String;
}

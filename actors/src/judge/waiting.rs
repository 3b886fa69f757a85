//! What waits for a verdict or for its episode, the names that are remembered, and how they are kept
//! as derived state.
//!
//! Knows no rule of the join.

use crate::ports::{LogError, StateChange, Stream};
use crate::tail::Origin;
use crate::types::{DecisionId, Episode, Feedback, Reward};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) episode: Episode,
    pub(super) feedback: Vec<Feedback>,
    pub(super) since_ms: u64,
    /// Number of the verdict that is waited for.
    #[serde(default)]
    pub(super) revision: u32,
    /// The reward on record, where there is one already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on_record: Option<Reward>,
    /// The records this rests on: needed until the verdict by whoever has not this state.
    #[serde(default)]
    pub(super) origins: Vec<Origin>,
    /// What the judge said before feedback came that it had not seen.
    #[serde(skip)]
    pub(super) said: Option<Reward>,
    #[serde(skip)]
    pub(super) phase: Phase,
}

impl Pending {
    pub(super) fn new(episode: Episode, since_ms: u64) -> Self {
        Self {
            episode,
            feedback: Vec::new(),
            since_ms,
            revision: 0,
            on_record: None,
            origins: Vec::new(),
            said: None,
            phase: Phase::default(),
        }
    }

    pub(super) fn has_heard(&self, feedback: &Feedback) -> bool {
        self.feedback.iter().any(|known| known.id == feedback.id)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be judged at this time or later.
    Due { failures: u32, not_before_ms: u64 },
    /// At the judge; `again` when feedback came meanwhile.
    Judging { failures: u32, again: bool },
    /// The judge had nothing to judge by; feedback or the end of the window decides.
    Waiting,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Due { failures: 0, not_before_ms: 0 }
    }
}

/// Feedback whose episode is not pending: not read yet, judged already, or of nothing known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Early {
    pub(super) feedback: Feedback,
    pub(super) since_ms: u64,
    #[serde(default = "nowhere")]
    pub(super) origin: Origin,
    #[serde(skip)]
    pub(super) lookup: Lookup,
}

/// How far the search for a decision in the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// To be looked up at this time or later.
    Due { tries: u32, not_before_ms: u64 },
    /// Being looked up.
    Asked { tries: u32 },
    /// The log has no such decision; if it comes, it is read like every other.
    Absent,
}

impl Default for Lookup {
    fn default() -> Self {
        Self::Due { tries: 0, not_before_ms: 0 }
    }
}

/// Where a record came from whose place was not noted.
fn nowhere() -> Origin {
    (Stream::Feedback, 0, 0)
}

/// The name of feedback: its id counts within its decision only.
pub(super) fn name_of(feedback: &Feedback) -> String {
    format!("{}{}", prefix_of(&feedback.decision_id), feedback.id)
}

/// What the names of all feedback on a decision begin with.
pub(super) fn prefix_of(id: &DecisionId) -> String {
    format!("{id}/")
}

/// A set of names that forgets the oldest.
#[derive(Debug)]
pub(super) struct Memory {
    prefix: &'static str,
    max: usize,
    next: u64,
    by_age: BTreeMap<u64, String>,
    pub(super) names: BTreeSet<String>,
}

impl Memory {
    pub(super) fn new(prefix: &'static str, max: usize) -> Self {
        Self { prefix, max, next: 0, by_age: BTreeMap::new(), names: BTreeSet::new() }
    }

    pub(super) fn restore(&mut self, name: String, age: u64) {
        self.next = self.next.max(age + 1);
        self.by_age.insert(age, name.clone());
        self.names.insert(name);
    }

    /// Remembers a name; one that is known stays as old as it is.
    pub(super) fn insert(&mut self, name: &str, changes: &mut Vec<StateChange>) {
        if self.names.contains(name) {
            return;
        }
        let age = self.next;
        self.restore(name.to_owned(), age);
        changes.push(put(self.prefix, name, age.to_string().into_bytes()));
        while self.by_age.len() > self.max {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.names.remove(&oldest);
            changes.push(delete(self.prefix, &oldest));
        }
    }
}

pub(super) const EPISODE: &str = "episode/";
pub(super) const EARLY: &str = "early/";
pub(super) const DONE: &str = "done/";
pub(super) const COUNTERS: &str = "counters";

pub(super) fn put(prefix: &str, name: &str, value: Vec<u8>) -> StateChange {
    StateChange::Put { key: format!("{prefix}{name}"), value }
}

pub(super) fn delete(prefix: &str, name: &str) -> StateChange {
    StateChange::Delete { key: format!("{prefix}{name}") }
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, LogError> {
    serde_json::to_vec(value).map_err(|e| LogError::Refused(format!("judge state: {e}")))
}

pub(super) fn parsed<T: for<'a> Deserialize<'a>>(key: &str, value: &[u8]) -> Result<T, LogError> {
    serde_json::from_slice(value)
        .map_err(|e| LogError::Damaged(format!("judge state `{key}` cannot be read: {e}")))
}

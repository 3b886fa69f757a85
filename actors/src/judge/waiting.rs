//! What waits for a verdict or for its episode, the names that are remembered, and how they are kept
//! as derived state.
//!
//! Knows no rule of the join.

use crate::ports::{LogError, StateChange, Stream};
use crate::tail::Origin;
use crate::types::{Episode, Feedback};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) episode: Episode,
    pub(super) feedback: Vec<Feedback>,
    pub(super) since_ms: u64,
    /// The records this rests on: needed until the verdict by whoever has not this state.
    #[serde(default)]
    pub(super) origins: Vec<Origin>,
    #[serde(skip)]
    pub(super) phase: Phase,
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Early {
    pub(super) feedback: Feedback,
    pub(super) since_ms: u64,
    #[serde(default = "nowhere")]
    pub(super) origin: Origin,
}

/// Where a record came from whose place was not noted.
fn nowhere() -> Origin {
    (Stream::Feedback, 0, 0)
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

    pub(super) fn insert(&mut self, name: &str, changes: &mut Vec<StateChange>) {
        let age = self.next;
        self.restore(name.to_owned(), age);
        changes.push(put(self.prefix, name, age.to_string().into_bytes()));
        while self.by_age.len() > self.max {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.names.remove(&oldest);
            changes.push(StateChange::Delete { key: format!("{}{oldest}", self.prefix) });
        }
    }
}

pub(super) const EPISODE: &str = "episode/";
pub(super) const EARLY: &str = "early/";
pub(super) const SEEN: &str = "seen/";
pub(super) const DONE: &str = "done/";
pub(super) const COUNTERS: &str = "counters";

pub(super) fn put(prefix: &str, name: &str, value: Vec<u8>) -> StateChange {
    StateChange::Put { key: format!("{prefix}{name}"), value }
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, LogError> {
    serde_json::to_vec(value).map_err(|e| LogError::Refused(format!("judge state: {e}")))
}

pub(super) fn parsed<T: for<'a> Deserialize<'a>>(key: &str, value: &[u8]) -> Result<T, LogError> {
    serde_json::from_slice(value)
        .map_err(|e| LogError::Damaged(format!("judge state `{key}` cannot be read: {e}")))
}

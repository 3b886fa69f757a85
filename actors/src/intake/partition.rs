//! What the intake knows of one partition while it is owned: what is done, what is worked on, and
//! what must become durable.
//!
//! Knows no actor and no log.

use crate::ports::{Commit, LogError, StateChange};
use crate::tail::{DerivedState, Origin};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one partition while it is owned.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) tenure: u64,
    next_age: u64,
    by_age: BTreeMap<u64, String>,
    pub(super) seen: BTreeSet<String>,
    pub(super) working: BTreeSet<String>,
    pub(super) is_leaving: bool,
    pub(super) commit: Commit,
    pub(super) committed: Vec<Origin>,
}

impl Partition {
    /// One that leaves before anything of it was seen.
    pub(super) fn leaving() -> Self {
        Self { is_leaving: true, ..Self::default() }
    }

    pub(super) fn restored(tenure: u64, state: DerivedState) -> Result<Self, LogError> {
        let mut partition = Self { tenure, ..Self::default() };
        for (name, age) in state {
            let age = serde_json::from_slice(&age)
                .map_err(|error| LogError::Damaged(format!("intake state `{name}`: {error}")))?;
            partition.remember(name, age);
        }
        Ok(partition)
    }

    fn remember(&mut self, name: String, age: u64) {
        self.next_age = self.next_age.max(age + 1);
        self.by_age.insert(age, name.clone());
        self.seen.insert(name);
    }

    /// Remembers a query as done, in memory and in the next commit, and forgets the oldest.
    pub(super) fn done(&mut self, name: String, seen_max: usize) {
        let age = self.next_age;
        let value = age.to_string().into_bytes();
        self.commit.state.push(StateChange::Put { key: name.clone(), value });
        self.remember(name, age);
        while self.by_age.len() > seen_max {
            let Some((_, key)) = self.by_age.pop_first() else { break };
            self.seen.remove(&key);
            self.commit.state.push(StateChange::Delete { key });
        }
    }
}

//! A bounded cache of readings that forgets what was used longest ago.

use super::Reading;
use actors::types::Document;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Names a pair by what is read of it: question, document id, title and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// Hashes every part with its length, so that no two pairs run into each other.
    pub(super) fn of(question: &str, document: &Document) -> Self {
        let mut hasher = Sha256::new();
        for part in [question, document.id.as_str(), &document.title, &document.text] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Self(hasher.finalize().into())
    }

    /// The name of the pair as `model` reads it.
    pub(super) fn named(&self, model: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(model.as_bytes());
        hasher.update(self.0);
        hasher.finalize().into()
    }
}

/// Readings by key, at most `capacity` of them.
#[derive(Debug)]
pub(super) struct Cache {
    capacity: usize,
    clock: u64,
    entries: HashMap<Key, (u64, Arc<Reading>)>,
    by_use: BTreeMap<u64, Key>,
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, clock: 0, entries: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// The reading, now the most recently used one.
    pub(super) fn get(&mut self, key: &Key) -> Option<Arc<Reading>> {
        let (used, reading) = self.entries.get_mut(key)?;
        self.by_use.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, *key);
        Some(Arc::clone(reading))
    }

    pub(super) fn insert(&mut self, key: Key, reading: Arc<Reading>) {
        if self.capacity == 0 {
            return;
        }
        self.clock += 1;
        if let Some((used, _)) = self.entries.insert(key, (self.clock, reading)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, key);
        while self.entries.len() > self.capacity {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.entries.remove(&oldest);
        }
    }

    /// Readings held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

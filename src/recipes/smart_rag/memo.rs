//! A map with a bound: what was entered first goes first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// At most a given number of entries; a bound of 0 keeps nothing.
#[derive(Debug)]
pub(super) struct Memo<K, V> {
    bound: usize,
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Clone, V: Clone> Memo<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, entries: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).cloned()
    }

    /// Enters a value; one that is there already is replaced and keeps its turn.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.bound == 0 {
            return;
        }
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.entries.len() > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_goes_when_the_bound_is_reached() {
        let mut memo = Memo::new(2);
        for (key, value) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
            memo.insert(key, value);
        }
        assert_eq!((memo.get(&1), memo.get(&2), memo.get(&3)), (None, Some("b"), Some("d")));
        let mut none = Memo::new(0);
        none.insert(1, 1);
        assert_eq!(none.get(&1), None);
    }
}

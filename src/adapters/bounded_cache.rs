//! A map that forgets: at most a given number of entries, the longest unused go first.
//!
//! Two generations instead of a list: an entry that is neither read nor written while half the
//! capacity of others is entered is dropped. Every operation is a constant number of look-ups.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module. Capacity 0 keeps nothing.
#[derive(Debug)]
pub(super) struct BoundedCache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq, V: Clone> BoundedCache<K, V> {
    /// At most `capacity` entries (an odd one is rounded down, 1 is rounded up to 2).
    pub(super) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: capacity.div_ceil(2) }
    }

    /// The value, which becomes young again.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Enters or replaces a value.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stays_bounded_and_keeps_what_is_used() {
        let mut cache = BoundedCache::new(10);
        cache.insert("hot".to_owned(), 0);
        for n in 0..1_000 {
            cache.insert(format!("cold {n}"), n);
            assert_eq!(cache.get(&"hot".to_owned()), Some(0), "after {n} others");
            assert!(cache.len() <= 10, "{} entries", cache.len());
        }
        assert_eq!(cache.get(&"cold 3".to_owned()), None);
        assert_eq!(cache.get(&"cold 999".to_owned()), Some(999));
    }

    #[test]
    fn a_capacity_of_nothing_keeps_nothing() {
        let mut cache = BoundedCache::new(0);
        cache.insert(1, 1);
        assert_eq!((cache.get(&1), cache.len()), (None, 0));
    }
}

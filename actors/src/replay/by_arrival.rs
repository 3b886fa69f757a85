//! Values by decision, of which the one that came first is the first to go.

use crate::types::DecisionId;
use std::collections::BTreeMap;

/// A map that knows in which order its keys came.
#[derive(Debug)]
pub(crate) struct ByArrival<T> {
    next: u64,
    values: BTreeMap<DecisionId, (u64, T)>,
    order: BTreeMap<u64, DecisionId>,
}

impl<T> ByArrival<T> {
    pub(crate) fn new() -> Self {
        Self { next: 0, values: BTreeMap::new(), order: BTreeMap::new() }
    }

    /// Keeps a value as the newest; gives what the decision had before.
    pub(crate) fn insert(&mut self, id: DecisionId, value: T) -> Option<T> {
        let earlier = self.remove(&id);
        self.order.insert(self.next, id.clone());
        self.values.insert(id, (self.next, value));
        self.next += 1;
        earlier
    }

    pub(crate) fn remove(&mut self, id: &DecisionId) -> Option<T> {
        let (place, value) = self.values.remove(id)?;
        self.order.remove(&place);
        Some(value)
    }

    pub(crate) fn get(&self, id: &DecisionId) -> Option<&T> {
        self.values.get(id).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, id: &DecisionId) -> Option<&mut T> {
        self.values.get_mut(id).map(|(_, value)| value)
    }

    /// Takes the oldest out where more than `max` are kept.
    pub(crate) fn pop_beyond(&mut self, max: usize) -> Option<(DecisionId, T)> {
        if self.values.len() <= max {
            return None;
        }
        let (_, id) = self.order.pop_first()?;
        let (_, value) = self.values.remove(&id)?;
        Some((id, value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DecisionId, &T)> {
        self.values.iter().map(|(id, (_, value))| (id, value))
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

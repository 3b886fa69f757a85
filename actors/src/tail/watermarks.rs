//! Up to where a consumer is done, while records finish in any order.
//!
//! Knows positions, and no record's content.

use crate::ports::{Record, Stream};
use std::collections::BTreeMap;

/// Remembers, for each stream and partition, which polled records are still needed, and thereby
/// the position that may be committed.
#[derive(Debug, Default)]
pub(crate) struct Watermarks {
    next: BTreeMap<(Stream, u32), u64>,
    held: BTreeMap<(Stream, u32), std::collections::BTreeSet<u64>>,
}

/// Where a record came from.
pub(crate) type Origin = (Stream, u32, u64);

impl Watermarks {
    /// Notes a record as read and still needed.
    pub(crate) fn hold(&mut self, record: &Record) -> Origin {
        let place = (record.stream, record.partition);
        self.next.insert(place, record.offset + 1);
        self.held.entry(place).or_default().insert(record.offset);
        (record.stream, record.partition, record.offset)
    }

    /// Notes a record as done with.
    pub(crate) fn release(&mut self, origin: Origin) {
        if let Some(held) = self.held.get_mut(&(origin.0, origin.1)) {
            held.remove(&origin.2);
        }
    }

    /// Notes a record as needed that was read in an earlier life.
    pub(crate) fn hold_again(&mut self, origin: Origin) {
        self.held.entry((origin.0, origin.1)).or_default().insert(origin.2);
    }

    /// Drops all that is known of a partition number.
    pub(crate) fn forget(&mut self, partition: u32) {
        self.next.retain(|place, _| place.1 != partition);
        self.held.retain(|place, _| place.1 != partition);
    }

    /// For each partition the next offset to be read.
    pub(crate) fn next(&self) -> Vec<(Stream, u32, u64)> {
        self.next.iter().map(|(place, next)| (place.0, place.1, *next)).collect()
    }

    /// For each partition the first offset still needed, or the next to be read.
    pub(crate) fn positions(&self) -> Vec<(Stream, u32, u64)> {
        self.next
            .iter()
            .map(|(place, next)| {
                let first = self.held.get(place).and_then(|held| held.first().copied());
                (place.0, place.1, first.unwrap_or(*next))
            })
            .collect()
    }
}

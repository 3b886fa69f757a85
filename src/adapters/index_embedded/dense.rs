//! The dense side in memory: one vector a passage, searched by an exact scan.
//!
//! Owns the matrix and its scan. Knows no embedder and no tantivy. Rows lie in chunks that are
//! copied only when one of them changes, so that a search holds a whole state without a lock.

use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Rows in one chunk: what one job scans, and what one changed row copies.
const CHUNK_ROWS: usize = 1_024;

/// A passage found: id and cosine similarity.
pub(super) type Near = (Arc<str>, f32);

#[derive(Clone, Default)]
struct Chunk {
    /// `None` for a free row.
    ids: Vec<Option<Arc<str>>>,
    values: Vec<f32>,
}

/// The rows as the writer holds them.
pub(super) struct Rows {
    width: usize,
    chunks: Vec<Arc<Chunk>>,
    /// (chunk, row) of each passage.
    places: HashMap<Arc<str>, (usize, usize)>,
    free: Vec<(usize, usize)>,
}

/// The rows as a search sees them: they never change.
#[derive(Clone, Default)]
pub(super) struct Vectors {
    width: usize,
    chunks: Vec<Arc<Chunk>>,
}

impl Rows {
    /// No rows; `width` numbers each.
    pub(super) fn new(width: usize) -> Self {
        Self { width, chunks: Vec::new(), places: HashMap::new(), free: Vec::new() }
    }

    /// Enters or replaces the vector of a passage.
    pub(super) fn set(&mut self, id: &str, vector: &[f32]) {
        let place = match self.places.get(id) {
            Some(place) => *place,
            None => {
                let place = self.take_row();
                let id: Arc<str> = id.into();
                Arc::make_mut(&mut self.chunks[place.0]).ids[place.1] = Some(Arc::clone(&id));
                self.places.insert(id, place);
                place
            }
        };
        let from = place.1 * self.width;
        let chunk = Arc::make_mut(&mut self.chunks[place.0]);
        chunk.values[from..from + self.width].copy_from_slice(vector);
    }

    /// Drops the vector of a passage; an unknown one is ignored.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(place) = self.places.remove(id) {
            Arc::make_mut(&mut self.chunks[place.0]).ids[place.1] = None;
            self.free.push(place);
        }
    }

    /// The present state.
    pub(super) fn vectors(&self) -> Vectors {
        Vectors { width: self.width, chunks: self.chunks.clone() }
    }

    fn take_row(&mut self) -> (usize, usize) {
        if let Some(place) = self.free.pop() {
            return place;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.ids.len() == CHUNK_ROWS) {
            self.chunks.push(Arc::default());
        }
        let last = self.chunks.len() - 1;
        let chunk = Arc::make_mut(&mut self.chunks[last]);
        chunk.ids.push(None);
        chunk.values.resize(chunk.ids.len() * self.width, 0.0);
        (last, chunk.ids.len() - 1)
    }
}

impl Vectors {
    /// The `k` nearest by dot product, best first, ties by id; only those above `least`, and of
    /// those that are `admitted` where that is given.
    pub(super) fn top(
        &self,
        query: &[f32],
        k: usize,
        least: f32,
        admitted: Option<&HashSet<String>>,
    ) -> Vec<Near> {
        if query.len() != self.width || k == 0 {
            return Vec::new();
        }
        let admits = |id: &str| admitted.is_none_or(|admitted| admitted.contains(id));
        let scan = |chunk: &Arc<Chunk>| {
            let scores = dots(&chunk.values, query);
            let named = chunk.ids.iter().zip(scores).filter(|(_, score)| *score > least);
            let near = named.filter_map(|(id, score)| Some((id.as_ref()?, score)));
            let near = near.filter(|(id, _)| admits(id)).map(|(id, s)| (Arc::clone(id), s));
            best(near.collect(), k)
        };
        let of_chunks: Vec<Vec<Near>> = self.chunks.par_iter().map(scan).collect();
        let mut near = best(of_chunks.into_iter().flatten().collect(), k);
        near.sort_by(order);
        near.truncate(k);
        near
    }
}

/// Better first, ties by id.
fn order(a: &Near, b: &Near) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0))
}

/// The best `k` in any order.
fn best(mut near: Vec<Near>, k: usize) -> Vec<Near> {
    if near.len() > k {
        near.select_nth_unstable_by(k - 1, order);
        near.truncate(k);
    }
    near
}

/// The dot product of each row with the query, for the widest vector unit there is.
fn dots(rows: &[f32], query: &[f32]) -> Vec<f32> {
    struct Scan<'a> {
        rows: &'a [f32],
        query: &'a [f32],
    }
    impl pulp::NullaryFnOnce for Scan<'_> {
        type Output = Vec<f32>;

        // Inlined into the caller that pulp compiles for each vector unit.
        #[inline(always)]
        fn call(self) -> Vec<f32> {
            let mut scores = Vec::with_capacity(self.rows.len() / self.query.len().max(1));
            for row in self.rows.chunks_exact(self.query.len()) {
                // Sixteen running sums: an order that vectorises and is the same everywhere.
                let mut lanes = [0.0_f32; 16];
                let (blocks, rest) = row.as_chunks::<16>();
                let (query_blocks, query_rest) = self.query.as_chunks::<16>();
                for (a, b) in blocks.iter().zip(query_blocks) {
                    for lane in 0..16 {
                        lanes[lane] += a[lane] * b[lane];
                    }
                }
                let tail: f32 = rest.iter().zip(query_rest).map(|(a, b)| a * b).sum();
                scores.push(lanes.iter().sum::<f32>() + tail);
            }
            scores
        }
    }
    if query.is_empty() {
        return Vec::new();
    }
    pulp::Arch::new().dispatch(Scan { rows, query })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone)]
    enum Change {
        Set(u16, Vec<f32>),
        Remove(u16),
    }

    fn vector() -> impl Strategy<Value = Vec<f32>> {
        // Few distinct values, so that ties happen.
        prop::collection::vec(prop::sample::select(vec![-1.0_f32, 0.0, 0.5, 1.0]), 19)
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            3 => (0..40_u16, vector()).prop_map(|(id, vector)| Change::Set(id, vector)),
            1 => (0..40_u16).prop_map(Change::Remove),
        ]
    }

    proptest! {
        #[test]
        fn the_scan_equals_brute_force_after_any_changes(
            changes in prop::collection::vec(change(), 0..80),
            query in vector(),
            k in 0..12_usize,
        ) {
            let mut rows = Rows::new(19);
            let mut model = BTreeMap::new();
            for change in changes {
                match change {
                    Change::Set(id, vector) => {
                        let id = format!("d{id:02}");
                        rows.set(&id, &vector);
                        model.insert(id, vector);
                    }
                    Change::Remove(id) => {
                        rows.remove(&format!("d{id:02}"));
                        model.remove(&format!("d{id:02}"));
                    }
                }
            }
            prop_assert_eq!(rows.places.len(), model.len());
            let dot = |v: &Vec<f32>| v.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
            let mut expected: Vec<(String, f32)> =
                model.iter().map(|(id, v)| (id.clone(), dot(v))).filter(|e| e.1 > 0.0).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            expected.truncate(k);
            let found: Vec<(String, f32)> = rows
                .vectors()
                .top(&query, k, 0.0, None)
                .into_iter()
                .map(|(id, score)| (id.to_string(), score))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_search_sees_one_state_while_rows_change_beneath_it() {
        let mut rows = Rows::new(1);
        for id in 0..CHUNK_ROWS + 10 {
            rows.set(&format!("{id:05}"), &[id as f32]);
        }
        let before = rows.vectors();
        rows.remove("01033");
        rows.set("00000", &[1e6]);
        let first = |vectors: &Vectors| vectors.top(&[1.0], 1, 0.0, None)[0].0.to_string();
        assert_eq!(first(&before), "01033");
        assert_eq!(first(&rows.vectors()), "00000");
        let admitted = HashSet::from(["00007".to_owned(), "00009".to_owned()]);
        let found = rows.vectors().top(&[1.0], 5, 0.0, Some(&admitted));
        assert_eq!(found.iter().map(|near| &*near.0).collect::<Vec<_>>(), ["00009", "00007"]);
    }
}

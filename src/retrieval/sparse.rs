//! BM25 as sparse vectors, made in this process: any engine that knows a sparse dot product and the
//! inverse document frequency ranks by BM25, with our terms and our constants.
//!
//! `score(q, d) = Σ_t idf(t) · f / (f + k1·(1 − b + b·|d|/avg))`, the sum over the distinct terms of
//! the query: the fraction is the passage's value at the dimension of t, the query's value there
//! is 1, and the engine brings `idf(t) = ln(1 + (N − n_t + ½)/(n_t + ½))`. Source: Robertson and
//! Zaragoza 2009, in Lucene's form. What an index of its own counts and this cannot is the average
//! length: `avg` is a setting, equal for every passage that is ever written.
//!
//! Knows no engine.

use super::tokens;
use std::collections::{BTreeMap, BTreeSet};

/// Names what [`term_index`] and [`tokens`] make of text: vectors of different names must never be
/// compared.
pub const TERM_SPACE: &str = "lower-case-alphanumeric-runs/fnv1a-64-folded-32/1";

/// A vector of which only the values that are not 0 are kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseVector {
    /// Dimensions, ascending, each once.
    pub indices: Vec<u32>,
    /// Their values, as many.
    pub values: Vec<f32>,
}

impl SparseVector {
    /// Whether every value is 0.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// The constants of BM25 with a fixed average length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SparseBm25 {
    /// How slowly further occurrences of a term saturate, ≥ 0.
    pub k1: f64,
    /// How much long passages are marked down, in [0, 1].
    pub b: f64,
    /// Terms of a passage of ordinary length, > 0.
    pub average_length: f64,
}

impl SparseBm25 {
    /// The vector of a passage: for each term its saturated frequency, in (0, 1].
    ///
    /// Terms that fall on one dimension add up there.
    pub fn passage(&self, title: &str, text: &str) -> SparseVector {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut length = 0.0;
        for term in tokens(title).into_iter().chain(tokens(text)) {
            *counts.entry(term).or_default() += 1;
            length += 1.0;
        }
        let norm = self.k1 * (1.0 - self.b + self.b * length / self.average_length);
        let mut values: BTreeMap<u32, f64> = BTreeMap::new();
        for (term, count) in counts {
            let count = f64::from(count);
            *values.entry(term_index(&term)).or_default() += count / (count + norm);
        }
        let (indices, values) = values.into_iter().map(|(i, v)| (i, v as f32)).unzip();
        SparseVector { indices, values }
    }

    /// The vector of a query: 1 for each of its first `terms_max` distinct terms.
    pub fn query(text: &str, terms_max: usize) -> SparseVector {
        let mut seen = BTreeSet::new();
        let mut indices = BTreeSet::new();
        for term in tokens(text) {
            if seen.len() == terms_max {
                break;
            }
            if seen.insert(term.clone()) {
                indices.insert(term_index(&term));
            }
        }
        let indices: Vec<u32> = indices.into_iter().collect();
        let values = vec![1.0; indices.len()];
        SparseVector { indices, values }
    }
}

/// The dimension of a term: FNV-1a in 64 bits, the upper half folded onto the lower. The same on
/// every machine and in every version, for it is written into indexes.
///
/// Of V distinct terms about V²/2³³ pairs share a dimension: one in a hundred thousand terms, a
/// hundred in a million. A shared dimension weakens both terms a little (the idf is that of either)
/// and lets a passage with the one be found by the other; a table of terms would avoid it at the
/// price of state that every writer has to share.
pub fn term_index(term: &str) -> u32 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let hash = term.bytes().fold(OFFSET, step);
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use std::collections::HashMap;

    const BM25: SparseBm25 = SparseBm25 { k1: 0.9, b: 0.4, average_length: 4.0 };

    fn at(vector: &SparseVector, term: &str) -> f32 {
        let place = vector.indices.iter().position(|index| *index == term_index(term));
        place.map_or(0.0, |place| vector.values[place])
    }

    #[test]
    fn dimensions_of_terms_never_change() {
        // Reference values of FNV-1a 64 (draft-eastlake-fnv), folded by hand.
        assert_eq!(term_index(""), 0xcbf2_9ce4 ^ 0x8422_2325);
        assert_eq!(term_index("a"), 0xaf63_dc4c ^ 0x8601_ec8c);
        assert_eq!(term_index("foobar"), 0x8594_4171 ^ 0xf739_67e8);
    }

    #[test]
    fn values_are_those_of_the_formula() {
        // Six terms, one of them three times: the norm is 0.9 · (0.6 + 0.4 · 6/4) = 1.08.
        let vector = BM25.passage("Nile", "the NILE, a river: nile");
        assert!((at(&vector, "nile") - 3.0 / 4.08).abs() < 1e-6, "title and text are one");
        assert!((at(&vector, "river") - 1.0 / 2.08).abs() < 1e-6);
        assert_eq!(vector.indices.len(), 4);
        assert!(vector.indices.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_query_has_each_of_its_first_terms_once() {
        let vector = SparseBm25::query("the river, the Nile and the rest", 3);
        assert_eq!(vector.values, [1.0, 1.0, 1.0]);
        assert_eq!((at(&vector, "nile"), at(&vector, "and")), (1.0, 0.0));
        assert!(SparseBm25::query("?!", 3).is_empty());
        assert!(SparseBm25::query("river", 0).is_empty());
        assert!(BM25.passage("", "…").is_empty());
    }

    /// Two words that share a dimension, found by trying.
    fn collision() -> (String, String) {
        let mut seen = HashMap::new();
        for n in 0..1_000_000_u32 {
            let word = format!("w{n}");
            if let Some(other) = seen.insert(term_index(&word), word.clone()) {
                return (other, word);
            }
        }
        panic!("a million words without a collision: the hash has more than 32 bits");
    }

    #[test]
    fn terms_that_share_a_dimension_add_up_in_a_passage_and_are_one_in_a_query() {
        let (a, b) = collision();
        let both = BM25.passage("", &format!("{a} {b} x y"));
        assert_eq!(both.indices.len(), 3, "an engine refuses a dimension that is given twice");
        assert!((at(&both, &a) - 2.0 * at(&both, "x")).abs() < 1e-6);
        let query = SparseBm25::query(&format!("{a} {b}"), 10);
        assert_eq!(query.values, [1.0]);
    }

    #[test]
    fn dimensions_are_spread_evenly() {
        let words = 200_000_u32;
        let distinct: BTreeSet<u32> = (0..words).map(|n| term_index(&format!("word{n}"))).collect();
        // 200,000² / 2³³ = 4.7 pairs are expected.
        assert!(
            words as usize - distinct.len() < 20,
            "{} collide",
            words as usize - distinct.len()
        );
    }
}

//! Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009): one list out of several.
//!
//! Done here and not by an engine, so that ties break by id and every index fuses alike.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

/// The constant of the paper: how little the first ranks stand out.
pub const RRF_K: f64 = 60.0;

/// One entry of the fused list.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked<I> {
    /// Which document.
    pub id: I,
    /// `Σ 1 / (k + rank)` over the lists that hold it, ranks from 1.
    pub score: f64,
}

/// Fuses ranked lists, best first, into the `limit` best: by score, ties by id. Of an id that a
/// list repeats only the first place counts.
pub fn reciprocal_rank_fusion<I: Clone + Eq + Hash + Ord>(
    lists: &[Vec<I>],
    k: f64,
    limit: usize,
) -> Vec<Ranked<I>> {
    let mut scores: HashMap<&I, f64> = HashMap::new();
    for list in lists {
        let mut seen = std::collections::HashSet::new();
        let distinct = list.iter().filter(|id| seen.insert(*id));
        for (rank, id) in (1_u32..).zip(distinct) {
            *scores.entry(id).or_default() += 1.0 / (k + f64::from(rank));
        }
    }
    let mut fused: Vec<Ranked<I>> =
        scores.into_iter().map(|(id, score)| Ranked { id: id.clone(), score }).collect();
    fused.sort_by(|a, b| {
        b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then_with(|| a.id.cmp(&b.id))
    });
    fused.truncate(limit);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(fused: &[Ranked<&str>]) -> Vec<String> {
        fused.iter().map(|entry| entry.id.to_owned()).collect()
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let fused = reciprocal_rank_fusion(&[vec!["a", "b"], vec!["b", "c"]], 60.0, 10);
        assert_eq!(ids(&fused), ["b", "a", "c"]);
        assert!((fused[0].score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-15);
        assert!((fused[1].score - 1.0 / 61.0).abs() < 1e-15);
    }

    #[test]
    fn ties_break_by_id_and_the_limit_holds() {
        let fused = reciprocal_rank_fusion(&[vec!["z", "m"], vec!["a", "n"]], 60.0, 3);
        assert_eq!(ids(&fused), ["a", "z", "m"]);
    }

    #[test]
    fn a_repeat_within_a_list_counts_once() {
        let fused = reciprocal_rank_fusion(&[vec!["a", "a", "b"]], 1.0, 10);
        assert!((fused[0].score - 0.5).abs() < 1e-15);
        assert!((fused[1].score - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn nothing_fused_is_nothing() {
        assert!(reciprocal_rank_fusion::<u64>(&[], 60.0, 5).is_empty());
        assert!(reciprocal_rank_fusion::<u64>(&[vec![], vec![]], 60.0, 5).is_empty());
    }
}

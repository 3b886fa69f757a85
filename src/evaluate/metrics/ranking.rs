//! Figures of a ranking of documents. A ranking holds no document twice.

use crate::evaluate::retrieval::{Grades, figures};
use std::collections::BTreeSet;

/// Cut-offs of hits and recall.
pub const CUTS: [usize; 5] = [1, 3, 5, 10, 20];

fn found(ranking: &[&str], relevant: &BTreeSet<String>, cut: usize) -> usize {
    ranking.iter().take(cut).filter(|id| relevant.contains(**id)).count()
}

/// 1 where a relevant document is among the first [`CUTS`], else 0; `None` where no document is
/// relevant. Source: `trec_eval -m success`.
pub fn hits(ranking: &[&str], relevant: &BTreeSet<String>) -> Option<[f64; CUTS.len()]> {
    let hit = |cut| f64::from(u8::from(found(ranking, relevant, cut) > 0));
    (!relevant.is_empty()).then(|| CUTS.map(hit))
}

/// Share of the relevant documents among the first [`CUTS`]; `None` where no document is relevant.
/// Source: `trec_eval -m recall`.
pub fn recalls(ranking: &[&str], relevant: &BTreeSet<String>) -> Option<[f64; CUTS.len()]> {
    let recall = |cut| found(ranking, relevant, cut) as f64 / relevant.len() as f64;
    (!relevant.is_empty()).then(|| CUTS.map(recall))
}

/// Discounted gain of the first ten over that of the best order, in [0, 1]; gains are the grades,
/// those of 0 and below count nothing. `None` where no document has a grade above 0. Source:
/// `trec_eval -m ndcg_cut.10`.
pub fn ndcg_at_10(ranking: &[&str], grades: &Grades) -> Option<f64> {
    figures(ranking, grades, 1).map(|figures| figures.ndcg_at_10)
}

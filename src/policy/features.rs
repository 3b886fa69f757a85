//! One state per candidate: the encoder's view of (query, document) and scalar features of the list.
//!
//! Owns which numbers the policy sees, their order and their scales. The list-wise ones matter most:
//! how far the other candidates bear out what this one would answer (`same_*`, `soft_*`, `holds_*`,
//! `group_*`). Does not know how readings are made (`reader.rs`) nor what is done with states.

mod agreement;
mod cues;

use super::reader::Reading;
use crate::text;
use actors::types::Candidate;
use agreement::Agreement;
use cues::Cues;
use std::sync::Arc;

/// Scalar features in the order of a state's trailing columns: name, centre, scale. A feature
/// enters as (value − centre) / scale, held within ±5. Centres and scales are means and deviations
/// over BM25 top-20 lists of open-domain questions, rounded; they only set the units.
pub const SCALARS: &[(&str, f32, f32)] = &[
    ("retrieval_z", 0.0, 1.0),
    ("retrieval_share", 0.59, 0.21),
    ("retrieval_reciprocal_rank", 0.18, 0.22),
    ("relevance", -2.3, 2.6),
    ("relevance_z", 0.0, 1.0),
    ("relevance_reciprocal_rank", 0.18, 0.22),
    ("relevance_gap", -5.0, 2.8),
    ("span", 1.2, 5.2),
    ("no_answer", 8.7, 2.5),
    ("margin", -7.4, 6.9),
    ("margin_z", 0.0, 1.0),
    ("margin_reciprocal_rank", 0.18, 0.22),
    ("margin_gap", -12.0, 7.2),
    ("log_tokens", 4.9, 0.3),
    ("answer_log_words", 1.1, 0.5),
    ("same_count", 0.02, 0.04),
    ("same_by_relevance", 0.03, 0.11),
    ("same_by_margin", 0.03, 0.14),
    ("same_by_rank", 0.02, 0.07),
    ("soft_count", 0.03, 0.05),
    ("soft_by_relevance", 0.05, 0.13),
    ("soft_by_margin", 0.05, 0.16),
    ("holds_count", 0.04, 0.09),
    ("holds_by_relevance", 0.065, 0.18),
    ("holds_by_margin", 0.065, 0.21),
    ("holds_by_rank", 0.05, 0.13),
    ("group_by_relevance", 0.08, 0.2),
    ("group_by_margin", 0.08, 0.24),
    ("group_best_margin", -7.1, 7.1),
    ("group_best_relevance", -2.1, 2.7),
    ("group_log_margin", -10.2, 5.1),
    ("group_log_relevance", -5.5, 2.8),
    ("group_log_size", 0.18, 0.39),
    ("answer_in_query", 0.06, 0.16),
    ("query_in_title", 0.11, 0.18),
    ("title_in_query", 0.2, 0.3),
    ("query_in_document", 0.42, 0.2),
    ("answer_in_title", 0.2, 0.4),
    ("near_query", 0.2, 0.2),
    ("near_query_elsewhere", 0.1, 0.2),
    ("near_query_by_relevance", 0.025, 0.09),
    ("answer_has_digit", 0.17, 0.38),
    ("answer_has_capital", 0.7, 0.46),
    ("answer_has_year", 0.12, 0.33),
    ("wants_number_and_is", 0.12, 0.34),
    ("wants_name_and_is", 0.26, 0.57),
    ("asks_who", 0.29, 0.45),
    ("asks_when", 0.15, 0.36),
    ("asks_where", 0.08, 0.27),
    ("asks_how_many", 0.03, 0.18),
];

/// Position of a scalar feature by name.
pub fn position(name: &str) -> Option<usize> {
    SCALARS.iter().position(|(known, _, _)| *known == name)
}

/// States of one list, row-major `(n, reading width + SCALARS.len())`.
///
/// readings: one a candidate, in the same order. An empty list gives no values.
pub fn states(query: &str, candidates: &[Candidate], readings: &[Arc<Reading>]) -> Vec<f32> {
    let scalars = scalars(query, candidates, readings);
    let mut values = Vec::new();
    for (reading, row) in readings.iter().zip(scalars) {
        values.extend_from_slice(&reading.cls);
        values.extend(row.iter().zip(SCALARS).map(|(value, (_, centre, scale))| {
            let scaled = (value - centre) / scale;
            if scaled.is_finite() { scaled.clamp(-5.0, 5.0) } else { 0.0 }
        }));
    }
    values
}

/// Unscaled features, one row a candidate.
fn scalars(query: &str, candidates: &[Candidate], readings: &[Arc<Reading>]) -> Vec<Vec<f32>> {
    let n = candidates.len().min(readings.len());
    let retrieval: Vec<f32> = candidates[..n].iter().map(|c| c.score).collect();
    let relevance: Vec<f32> = readings[..n].iter().map(|r| r.rel).collect();
    let margin: Vec<f32> = readings[..n].iter().map(|r| r.span_score - r.null_score).collect();
    let answers: Vec<String> = readings[..n].iter().map(|r| text::normalise(&r.answer)).collect();
    let bodies: Vec<String> = candidates[..n]
        .iter()
        .map(|c| text::normalise(&format!("{} {}", c.document.title, c.document.text)))
        .collect();
    let agreement = Agreement::new(&answers, &bodies, &relevance, &margin);
    let cues = Cues::new(query, candidates, &readings[..n], &answers, &bodies);

    let (retrieval_z, relevance_z, margin_z) = (z(&retrieval), z(&relevance), z(&margin));
    let (relevance_rank, margin_rank) = (reciprocal(&relevance), reciprocal(&margin));
    let best = |v: &[f32]| v.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (top_retrieval, top_relevance, top_margin) =
        (best(&retrieval), best(&relevance), best(&margin));
    (0..n)
        .map(|i| {
            let words = answers[i].split(' ').filter(|w| !w.is_empty()).count();
            let mut row = vec![
                retrieval_z[i],
                if top_retrieval > 0.0 { retrieval[i] / top_retrieval } else { 0.0 },
                1.0 / (1.0 + i as f32),
                relevance[i],
                relevance_z[i],
                relevance_rank[i],
                relevance[i] - top_relevance,
                readings[i].span_score,
                readings[i].null_score,
                margin[i],
                margin_z[i],
                margin_rank[i],
                margin[i] - top_margin,
                (readings[i].tokens.max(1) as f32).ln(),
                (1.0 + words as f32).ln(),
            ];
            row.extend(agreement.row(i));
            row.extend(cues.row(i, &agreement));
            row
        })
        .collect()
}

/// Standard scores within the list; 0 where nothing varies.
fn z(values: &[f32]) -> Vec<f32> {
    let n = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
    values.iter().map(|v| (v - mean) / (deviation + 1e-6)).collect()
}

/// 1 / (1 + rank) by falling value, ties in list order.
fn reciprocal(values: &[f32]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let mut ranks = vec![0.0; values.len()];
    for (rank, &i) in order.iter().enumerate() {
        ranks[i] = 1.0 / (1.0 + rank as f32);
    }
    ranks
}

/// Shares that sum to 1: softmax.
fn shares(values: &[f32]) -> Vec<f32> {
    let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f32> = values.iter().map(|v| (v - top).exp()).collect();
    let sum: f32 = exp.iter().sum();
    exp.iter().map(|v| v / sum.max(1e-12)).collect()
}

#[cfg(test)]
mod tests;

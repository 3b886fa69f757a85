//! How far the candidates of a list bear each other out: their best answers compared pairwise.

use super::shares;
use crate::text::token_f1;

/// Pairwise comparisons of a list and weights over it.
pub(super) struct Agreement {
    n: usize,
    /// `[i * n + j]`: 1 where i ≠ j have the same answer.
    same: Vec<f32>,
    /// Token F1 of the two answers, 0 on the diagonal.
    soft: Vec<f32>,
    /// 1 where document j ≠ i contains the answer of i.
    holds: Vec<f32>,
    margin: Vec<f32>,
    relevance: Vec<f32>,
    by_relevance: Vec<f32>,
    by_margin: Vec<f32>,
    by_rank: Vec<f32>,
}

impl Agreement {
    /// answers and bodies: normalised text, one a candidate.
    pub(super) fn new(
        answers: &[String],
        bodies: &[String],
        relevance: &[f32],
        margin: &[f32],
    ) -> Self {
        let n = answers.len();
        let words: Vec<Vec<&str>> =
            answers.iter().map(|a| a.split_whitespace().collect()).collect();
        let padded: Vec<String> = bodies.iter().map(|b| format!(" {b} ")).collect();
        let (mut same, mut soft, mut holds) =
            (vec![0.0; n * n], vec![0.0; n * n], vec![0.0; n * n]);
        for i in (0..n).filter(|&i| !answers[i].is_empty()) {
            let needle = format!(" {} ", answers[i]);
            for j in (0..n).filter(|&j| j != i) {
                same[i * n + j] = f32::from(answers[i] == answers[j]);
                soft[i * n + j] = token_f1(&words[i], &words[j]) as f32;
                holds[i * n + j] = f32::from(padded[j].contains(&needle));
            }
        }
        let harmonic: f32 = (1..=n).map(|r| 1.0 / r as f32).sum();
        let by_rank = (1..=n).map(|r| 1.0 / (r as f32 * harmonic)).collect();
        Self {
            n,
            same,
            soft,
            holds,
            margin: margin.to_vec(),
            relevance: relevance.to_vec(),
            by_relevance: shares(relevance),
            by_margin: shares(margin),
            by_rank,
        }
    }

    /// Weights over the list by relevance.
    pub(super) fn by_relevance(&self) -> &[f32] {
        &self.by_relevance
    }

    /// Whether document j contains the answer of i (its own always does).
    pub(super) fn holds(&self, i: usize, j: usize) -> bool {
        i == j || self.holds[i * self.n + j] > 0.0
    }

    /// The features from `same_count` to `group_log_size`.
    pub(super) fn row(&self, i: usize) -> Vec<f32> {
        let n = self.n;
        let others = n.saturating_sub(1).max(1) as f32;
        let row = |m: &[f32]| m[i * n..(i + 1) * n].to_vec();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        let count = |a: &[f32]| a.iter().sum::<f32>() / others;
        let (same, soft, holds) = (row(&self.same), row(&self.soft), row(&self.holds));
        let group: Vec<usize> = (0..n).filter(|&j| j == i || same[j] > 0.0).collect();
        let of = |v: &[f32]| group.iter().map(|&j| v[j]).sum::<f32>();
        let best = |v: &[f32]| group.iter().map(|&j| v[j]).fold(f32::NEG_INFINITY, f32::max);
        let log_share = |share: f32| share.max(1e-7).ln();
        vec![
            count(&same),
            dot(&same, &self.by_relevance),
            dot(&same, &self.by_margin),
            dot(&same, &self.by_rank),
            count(&soft),
            dot(&soft, &self.by_relevance),
            dot(&soft, &self.by_margin),
            count(&holds),
            dot(&holds, &self.by_relevance),
            dot(&holds, &self.by_margin),
            dot(&holds, &self.by_rank),
            of(&self.by_relevance),
            of(&self.by_margin),
            best(&self.margin),
            best(&self.relevance),
            log_share(of(&self.by_margin)),
            log_share(of(&self.by_relevance)),
            (group.len() as f32).ln(),
        ]
    }
}

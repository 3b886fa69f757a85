//! How far two selections agree. Pure.

use crate::types::{Agreement, Decision};
use std::cmp::Ordering;

/// Agreement of a shadow's decision with what was served from the same candidates.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "k is small")]
pub fn agreement(served: &Decision, shadow: &Decision) -> Agreement {
    let common = served.order.iter().filter(|index| shadow.order.contains(index)).count();
    let overlap = match (served.order.len(), shadow.order.len()) {
        (0, 0) => 1.0,
        (0, _) => 0.0,
        (k, _) => common as f64 / k as f64,
    };
    Agreement {
        kendall_tau: kendall_tau(&served.scores, &shadow.scores),
        overlap,
        k_difference: shadow.order.len() as i64 - served.order.len() as i64,
    }
}

/// Kendall's tau-b of two score lists over the same candidates, in [-1, 1] (Kendall 1945):
/// `(concordant - discordant) / sqrt((pairs - ties_a) (pairs - ties_b))`; 0 where either list has
/// no order at all, or the lists differ in length.
#[expect(clippy::cast_precision_loss, reason = "pairs of one list")]
pub fn kendall_tau(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let (mut balance, mut in_a, mut in_b) = (0_i64, 0_u64, 0_u64);
    for i in 0..a.len() {
        for j in i + 1..a.len() {
            let (in_one, in_other) = (a[i].total_cmp(&a[j]), b[i].total_cmp(&b[j]));
            in_a += u64::from(in_one != Ordering::Equal);
            in_b += u64::from(in_other != Ordering::Equal);
            if in_one != Ordering::Equal && in_other != Ordering::Equal {
                balance += if in_one == in_other { 1 } else { -1 };
            }
        }
    }
    let scale = (in_a as f64 * in_b as f64).sqrt();
    if scale > 0.0 { balance as f64 / scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kendall_tau_b_is_that_of_scipy() {
        // scipy.stats.kendalltau on the same lists.
        let cases: [(&[f32], &[f32], f64); 4] = [
            (&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0], 1.0),
            (&[1.0, 2.0, 3.0, 4.0], &[4.0, 3.0, 2.0, 1.0], -1.0),
            (&[12.0, 2.0, 1.0, 12.0, 2.0], &[1.0, 4.0, 7.0, 1.0, 0.0], -0.471_404_520_791_031_7),
            (&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0], 0.0),
        ];
        for (a, b, expected) in cases {
            assert!((kendall_tau(a, b) - expected).abs() < 1e-12, "{a:?} {b:?}");
        }
    }
}

//! Which passages give the same answer.
//!
//! Knows texts only.

use crate::text;
use std::collections::HashMap;

/// What makes two answers one: SQuAD's normalisation, or the text itself where nothing is left of it
/// ("The", "?!"). The empty text is the answer of a passage without a span.
pub fn answer_key(answer: &str) -> String {
    let normalised = text::normalise(answer);
    if normalised.is_empty() { answer.trim().to_owned() } else { normalised }
}

/// Passages grouped by their answers, in the order of each group's first passage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Groups {
    members: Vec<Vec<usize>>,
    /// Group of each passage.
    of: Vec<usize>,
}

impl Groups {
    /// Groups the answers of passages.
    pub fn new<'a>(answers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut groups = Self::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        for (passage, answer) in answers.into_iter().enumerate() {
            let next = groups.members.len();
            let group = *known.entry(answer_key(answer)).or_insert(next);
            if group == next {
                groups.members.push(Vec::new());
            }
            groups.members[group].push(passage);
            groups.of.push(group);
        }
        groups
    }

    /// Passages of each group, in order.
    pub fn members(&self) -> &[Vec<usize>] {
        &self.members
    }

    /// The group of a passage.
    pub fn of(&self, passage: usize) -> Option<usize> {
        self.of.get(passage).copied()
    }

    /// ln Σ exp of the scores of each group's passages. `scores` has one for each passage.
    pub fn pooled(&self, scores: &[f32]) -> Vec<f64> {
        let pool = |passages: &Vec<usize>| {
            log_sum_exp(passages.iter().filter_map(|&i| scores.get(i)).map(|s| f64::from(*s)))
        };
        self.members.iter().map(pool).collect()
    }
}

/// ln Σ exp; −∞ for nothing.
pub(super) fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + values.map(|v| (v - top).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_one_after_normalisation_and_groups_stand_in_order() {
        let groups = Groups::new(["the Nile", "Amazon", "NILE!", "", "The", ""]);
        assert_eq!(groups.members(), [vec![0, 2], vec![1], vec![3, 5], vec![4]]);
        assert_eq!((groups.of(2), groups.of(4), groups.of(6)), (Some(0), Some(3), None));
    }

    #[test]
    fn scores_of_a_group_are_pooled_by_their_masses() {
        let groups = Groups::new(["a x", "b", "x"]);
        let pooled = groups.pooled(&[2f32.ln(), 5f32.ln(), 3f32.ln()]);
        // Masses 2 + 3 and 5: two weak passages that agree weigh as much as one strong one.
        assert!((pooled[0] - 5f64.ln()).abs() < 1e-6 && (pooled[1] - 5f64.ln()).abs() < 1e-6);
    }
}

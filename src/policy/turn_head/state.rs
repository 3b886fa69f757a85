//! One state per turn: the question, what the generator knows without documents, and everything
//! found so far.
//!
//! Owns which numbers the turn head sees, their order and their scales. Does not know how readings
//! are made nor what is done with states.

use super::moves::RewriteKind;
use crate::policy::reader::{Reading, best_reading};
use crate::text;
use std::sync::Arc;

/// Scalar features in the order of a state's trailing columns: name, centre, scale. A feature
/// enters as (value − centre) / scale, held within ±5. Columns about documents are 0 while there
/// are none.
pub const SCALARS: &[(&str, f32, f32)] = &[
    ("closed_book_answers", 0.0, 1.0),
    ("closed_book_confidence", 0.5, 0.25),
    ("closed_book_log_words", 1.0, 0.5),
    ("question_log_words", 2.3, 0.4),
    ("asks_who", 0.3, 0.45),
    ("asks_when", 0.15, 0.36),
    ("asks_where", 0.1, 0.3),
    ("asks_how_many", 0.05, 0.2),
    ("asks_yes_or_no", 0.1, 0.3),
    ("question_relevance", -2.3, 2.6),
    ("retrievals", 0.5, 0.5),
    ("retrievals_left", 1.0, 1.0),
    ("log_documents", 2.0, 1.5),
    ("relevance_best", -2.3, 2.6),
    ("relevance_mean", -5.0, 2.8),
    ("relevance_lead", 1.0, 1.5),
    ("margin_best", 0.0, 6.0),
    ("margin_mean", -7.4, 6.9),
    ("margin_lead", 2.0, 3.0),
    ("agreement", 0.5, 0.3),
    ("agrees_with_closed_book", 0.2, 0.4),
    ("new_share", 0.5, 0.5),
    ("used_original", 0.0, 1.0),
    ("used_keywords", 0.0, 1.0),
    ("used_bridge", 0.0, 1.0),
    ("used_query2doc", 0.0, 1.0),
    ("used_hyde", 0.0, 1.0),
    ("used_rewrite", 0.0, 1.0),
];

/// First column that is about documents, and one past the last.
const OF_DOCUMENTS: (usize, usize) = (12, 22);

/// Everything a turn's state is made of.
#[derive(Debug, Clone, Copy)]
pub struct TurnView<'a> {
    /// The question as asked.
    pub question: &'a str,
    /// The question read against an empty passage.
    pub alone: &'a Reading,
    /// The generator's answer without documents; empty where it has none.
    pub closed_book: &'a str,
    /// How sure it was of it; any scale that is the same for all questions.
    pub closed_book_confidence: f32,
    /// The question read against every document found so far, in order of arrival.
    pub readings: &'a [Arc<Reading>],
    /// Rewrites searched with so far, in order.
    pub used: &'a [RewriteKind],
    /// Retrievals that the quota still allows.
    pub retrievals_left: u32,
    /// Share of the last observation's documents that were not known before, in [0, 1].
    pub new_share: f32,
}

/// (2 E + [`SCALARS`]) the reader's view of the question, its view of the best document (zeros
/// without one), and the scalars.
pub fn state(view: &TurnView<'_>) -> Vec<f32> {
    let best = best_reading(view.readings.iter().map(|reading| &**reading));
    let mut values = view.alone.cls.clone();
    match best {
        Some((_, reading)) => values.extend_from_slice(&reading.cls),
        None => values.extend(std::iter::repeat_n(0.0, view.alone.cls.len())),
    }
    let has_documents = best.is_some();
    values.extend(scalars(view).iter().zip(SCALARS).enumerate().map(
        |(column, (value, (_, centre, scale)))| {
            if (OF_DOCUMENTS.0..OF_DOCUMENTS.1).contains(&column) && !has_documents {
                return 0.0;
            }
            let scaled = (value - centre) / scale;
            if scaled.is_finite() { scaled.clamp(-5.0, 5.0) } else { 0.0 }
        },
    ));
    values
}

/// Unscaled features.
fn scalars(view: &TurnView<'_>) -> Vec<f32> {
    let question = text::normalise(view.question);
    let closed_book = text::normalise(view.closed_book);
    let words = |text: &str| (1.0 + text.split_whitespace().count() as f32).ln();
    let relevance: Vec<f32> = view.readings.iter().map(|r| r.rel).collect();
    let margin: Vec<f32> = view.readings.iter().map(|r| r.margin()).collect();
    let mut row = vec![
        f32::from(!closed_book.is_empty()),
        if closed_book.is_empty() { 0.0 } else { view.closed_book_confidence },
        words(&closed_book),
        words(&question),
    ];
    row.extend(asks(&question));
    row.extend([view.alone.rel, view.used.len() as f32, view.retrievals_left as f32]);
    row.push((1.0 + view.readings.len() as f32).ln());
    for values in [&relevance, &margin] {
        let (first, second) = two_best(values);
        let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
        row.extend([first, mean, first - second]);
    }
    let (agreement, with_closed_book) = agreement(view.readings, &margin, &closed_book);
    row.extend([agreement, with_closed_book, view.new_share]);
    row.extend(RewriteKind::ALL.map(|kind| f32::from(view.used.contains(&kind))));
    row
}

/// What kind of answer is asked for, English question words: who, when, where, how many, yes or no.
fn asks(question: &str) -> [f32; 5] {
    const CHOICE: [&str; 14] = [
        "is", "are", "was", "were", "do", "does", "did", "can", "could", "has", "have", "will",
        "should", "would",
    ];
    let first = question.split_whitespace().next().unwrap_or_default();
    let has = |word: &str| question.split_whitespace().any(|w| w == word);
    let many = question.contains("how many") || question.contains("how much");
    let yes_or_no = CHOICE.contains(&first);
    [has("who") || has("whose"), has("when"), has("where"), many, yes_or_no].map(f32::from)
}

/// The two largest; the second is the first where there is one only.
fn two_best(values: &[f32]) -> (f32, f32) {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let first = sorted.first().copied().unwrap_or(0.0);
    (first, sorted.get(1).copied().unwrap_or(first))
}

/// Share of the documents, weighted by softmax of their margins, that answer as the best one does;
/// and token F1 of that answer and the closed-book one.
fn agreement(readings: &[Arc<Reading>], margin: &[f32], closed_book: &str) -> (f32, f32) {
    let answers: Vec<String> = readings.iter().map(|r| text::normalise(&r.answer)).collect();
    let Some((best, _)) = best_reading(readings.iter().map(|r| &**r)) else { return (0.0, 0.0) };
    let top = margin[best];
    let weight: Vec<f32> = margin.iter().map(|m| (m - top).exp()).collect();
    let same = answers.iter().zip(&weight).filter(|(a, _)| **a == answers[best]);
    let share = same.map(|(_, w)| w).sum::<f32>() / weight.iter().sum::<f32>();
    let ours: Vec<&str> = answers[best].split_whitespace().collect();
    let theirs: Vec<&str> = closed_book.split_whitespace().collect();
    let f1 = text::token_f1(&ours, &theirs);
    (share, f1 as f32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn reading(answer: &str, rel: f32, margin: f32) -> Arc<Reading> {
        Arc::new(Reading {
            cls: vec![rel; 2],
            span: vec![0.0; 2],
            rel,
            span_score: margin,
            null_score: 0.0,
            answer: answer.to_owned(),
            tokens: 10,
        })
    }

    fn value(state: &[f32], name: &str) -> f32 {
        let column = SCALARS.iter().position(|(known, ..)| *known == name).unwrap();
        let (_, centre, scale) = SCALARS[column];
        state[4 + column] * scale + centre
    }

    #[test]
    fn features_equal_numbers_worked_by_hand() {
        let alone = reading("", -3.0, 0.0);
        let readings = [reading("Nile", -1.0, 2.0), reading("the Nile", -4.0, 2.0)];
        let state = state(&TurnView {
            question: "Is the Nile, or what else, the longest river?",
            alone: &alone,
            closed_book: "Nile river",
            closed_book_confidence: 0.75,
            readings: &readings,
            used: &[RewriteKind::Original],
            retrievals_left: 1,
            new_share: 0.5,
        });
        assert_eq!(state.len(), 4 + SCALARS.len());
        // The question alone, then the first of the equally good documents.
        assert_eq!(state[..4], [-3.0, -3.0, -1.0, -1.0]);
        let near = |name: &str, expected: f32| {
            let found = value(&state, name);
            assert!((found - expected).abs() < 1e-5, "{name}: {found} against {expected}");
        };
        near("closed_book_answers", 1.0);
        near("closed_book_confidence", 0.75);
        near("closed_book_log_words", 3f32.ln());
        near("asks_yes_or_no", 1.0);
        near("asks_who", 0.0);
        near("relevance_best", -1.0);
        near("relevance_mean", -2.5);
        near("relevance_lead", 3.0);
        near("margin_lead", 0.0);
        near("agreement", 1.0);
        // One shared word of one and of two: F1 2/3.
        near("agrees_with_closed_book", 2.0 / 3.0);
        near("used_original", 1.0);
        near("used_bridge", 0.0);
        near("retrievals_left", 1.0);
    }

    #[test]
    fn without_documents_their_columns_are_zero_and_all_is_finite() {
        let alone = reading("", f32::MAX, f32::MAX);
        let state = state(&TurnView {
            question: "",
            alone: &alone,
            closed_book: "",
            closed_book_confidence: f32::NAN,
            readings: &[],
            used: &[],
            retrievals_left: 2,
            new_share: 0.0,
        });
        assert_eq!(state[2..4], [0.0; 2]);
        assert_eq!(state[4 + OF_DOCUMENTS.0..4 + OF_DOCUMENTS.1], [0.0; 10]);
        assert!(state[4..].iter().all(|v| v.abs() <= 5.0));
        assert_eq!(SCALARS[OF_DOCUMENTS.0].0, "log_documents");
        assert_eq!(SCALARS[OF_DOCUMENTS.1 - 1].0, "new_share");
    }
}

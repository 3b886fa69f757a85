//! How good a generator is on fixed contexts.
//!
//! Knows no training.

use super::super::fit::{RecipeError, rng_of};
use super::GeneratorSettings;
use super::contexts::{draw, first};
use super::examples::Example;
use super::losses::{Rows, sft_loss};
use crate::policy::answer_head::{AnswerHead, Found, Limits, Passages, decode};
use crate::policy::reader::best_reading;
use crate::rewards::{exact_match, token_f1};
use serde::Serialize;

/// Contexts in one forward pass.
const BATCH: usize = 32;
/// Bound of long answers where only short ones and labels are scored.
const LONG_WORDS_MAX: usize = 120;

/// Means over questions, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figures {
    /// Questions scored.
    pub questions: usize,
    /// Exact match; for a label its accuracy.
    pub exact_match: f64,
    /// Token F1.
    pub token_f1: f64,
}

impl Figures {
    fn of<'a>(answers: impl Iterator<Item = (&'a Example, String)>) -> Self {
        let mut sum = Self::default();
        for (example, text) in answers {
            sum.questions += 1;
            sum.exact_match += exact_match(&text, &example.query.references);
            sum.token_f1 += token_f1(&text, &example.query.references);
        }
        let n = sum.questions.max(1) as f64;
        Self { exact_match: sum.exact_match / n, token_f1: sum.token_f1 / n, ..sum }
    }
}

/// The head's answer to each example from its first k candidates.
///
/// # Errors
/// The head fails.
pub fn answers(
    head: &AnswerHead,
    examples: &[Example],
    k: usize,
) -> Result<Vec<Found>, RecipeError> {
    let of = |example: &Example| {
        let cut = first(example, k).len();
        let passages = Passages {
            question: &example.query.text,
            documents: &example.documents[..cut],
            readings: &example.readings[..cut],
        };
        let limits = Limits { long_words_max: LONG_WORDS_MAX };
        Ok(decode(head, passages, &example.wanted, limits)?.unwrap_or_default())
    };
    examples.iter().map(of).collect()
}

/// The head's figures from the first k candidates.
///
/// # Errors
/// The head fails.
pub fn figures(head: &AnswerHead, examples: &[Example], k: usize) -> Result<Figures, RecipeError> {
    let texts = answers(head, examples, k)?.into_iter().map(|found| found.text);
    Ok(Figures::of(examples.iter().zip(texts)))
}

/// Figures of the plain rule, the span with the widest margin, from the first k candidates.
pub fn margin_rule(examples: &[Example], k: usize) -> Figures {
    let answer = |example: &Example| {
        let cut = first(example, k).len();
        let best = best_reading(example.readings[..cut].iter().map(|reading| &**reading));
        best.map_or_else(String::new, |(_, reading)| reading.answer.clone())
    };
    Figures::of(examples.iter().map(|example| (example, answer(example))))
}

/// Mean F1 over sizes of contexts; `None` without examples.
pub(super) fn mean_f1(
    head: &AnswerHead,
    examples: &[Example],
    sizes: &[usize],
) -> Result<Option<f64>, RecipeError> {
    if examples.is_empty() || sizes.is_empty() {
        return Ok(None);
    }
    let mut sum = 0.0;
    for &k in sizes {
        sum += figures(head, examples, k)?.token_f1;
    }
    Ok(Some(sum / sizes.len() as f64))
}

/// Mean log-likelihood of what SFT teaches, nats, on one context of each example that never changes;
/// `None` where no example teaches anything.
///
/// # Errors
/// The head fails.
pub fn mean_likelihood(
    head: &AnswerHead,
    examples: &[Example],
    settings: &GeneratorSettings,
) -> Result<Option<f64>, RecipeError> {
    let mut rng = rng_of(settings.seed, "generator-validation-contexts", 0);
    let taught = examples.iter().filter(|example| example.is_taught());
    let rows: Vec<_> = taught.map(|e| (e, draw(e, settings, &mut rng))).collect();
    let (mut sum, mut total) = (0.0, 0.0);
    for chunk in rows.chunks(BATCH) {
        let rows = Rows::new(head, chunk)?;
        let (_, counts) = rows.targets(head.labels().len(), settings);
        let count = f64::from(counts.iter().sum::<f32>());
        sum -= count * f64::from(sft_loss(head, &rows, settings)?.to_scalar::<f32>()?);
        total += count;
    }
    Ok((total > 0.0).then(|| sum / total))
}

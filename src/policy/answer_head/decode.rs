//! From logits to an answer of the kind that is wanted.
//!
//! Owns the choice among answers and its confidence. Knows no tensors and no query.

use super::groups::log_sum_exp;
use super::sentences::around_spans;
use super::{AnswerHead, Groups, Lists, states};
use crate::policy::reader::Reading;
use actors::types::Document;
use candle_core::{Device, Result};
use std::sync::Arc;

/// Log-odds beyond this are certainty; keeps a confidence finite.
const LOG_ODDS_MAX: f64 = 60.0;

/// What kind of answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wanted {
    /// A span of a passage.
    #[default]
    Short,
    /// Sentences of several passages.
    Long,
    /// One of these labels; of all that the head knows where none is given.
    Label(Vec<String>),
}

/// Bounds of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most words of a long answer.
    pub long_words_max: usize,
}

/// Passages as the generator was given them, in order, and what the reader says of each.
#[derive(Debug, Clone, Copy)]
pub struct Passages<'a> {
    /// The question.
    pub question: &'a str,
    /// (n) the documents.
    pub documents: &'a [Document],
    /// (n) the readings.
    pub readings: &'a [Arc<Reading>],
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Its text; empty where there is none.
    pub text: String,
    /// Passages it rests on, ascending.
    pub cites: Vec<usize>,
    /// Log-odds, natural, in ±60: of this answer against every other and "none" (short), of any
    /// passage holding an answer (long), of this label against the others it was chosen from.
    pub confidence: f32,
}

/// The answer to one question.
///
/// Short: the answer with the largest pooled probability, ties to the one that stands first, as its
/// best passage spells it; every passage that says it is cited. "None" is never chosen over an
/// answer: whether that is worth giving is for a threshold on the confidence. `Ok(None)` where a
/// label is wanted and the head knows none of those given. No passage gives the empty answer.
pub fn decode(
    head: &AnswerHead,
    passages: Passages<'_>,
    wanted: &Wanted,
    limits: Limits,
) -> Result<Option<Found>> {
    let n = passages.documents.len().min(passages.readings.len());
    if n == 0 {
        return Ok(Some(Found::default()));
    }
    let rows = states(passages.question, passages.documents, passages.readings);
    let width = rows.len() / n;
    let logits = head.forward(&Lists::pad(&[rows], width, &Device::Cpu)?)?;
    let spans: Vec<f32> = logits.spans.flatten_all()?.to_vec1()?;
    Ok(match wanted {
        Wanted::Short => Some(short(&spans, passages)),
        Wanted::Long => Some(long(&spans, passages, limits)),
        Wanted::Label(known) => label(&logits.labels.flatten_all()?.to_vec1()?, head, known)
            .map(|found| Found { cites: (0..n).collect(), ..found }),
    })
}

/// `spans` has one score for each passage and that of "none".
fn short(spans: &[f32], passages: Passages<'_>) -> Found {
    let readings = passages.readings;
    let groups = Groups::new(readings.iter().map(|reading| reading.answer.as_str()));
    let pooled = groups.pooled(spans);
    let Some(best) = first_best(&pooled) else { return Found::default() };
    let cites = groups.members()[best].clone();
    let scores: Vec<f64> = cites.iter().map(|&i| f64::from(spans[i])).collect();
    let speaker = first_best(&scores).map_or(0, |at| cites[at]);
    let text = readings[speaker].answer.clone();
    let others = pooled.iter().enumerate().filter(|(group, _)| *group != best);
    let none = spans.last().map(|score| f64::from(*score));
    let rest = log_sum_exp(others.map(|(_, p)| *p).chain(none));
    let cites = if text.is_empty() { Vec::new() } else { cites };
    Found { text, cites, confidence: log_odds(pooled[best], rest) }
}

fn long(spans: &[f32], passages: Passages<'_>, limits: Limits) -> Found {
    let given: Vec<(&str, &str)> = passages
        .documents
        .iter()
        .zip(passages.readings)
        .map(|(document, reading)| (document.text.as_str(), reading.answer.as_str()))
        .collect();
    let (text, cites) = around_spans(&given, limits.long_words_max);
    let wide = spans.iter().map(|score| f64::from(*score));
    let none = wide.clone().next_back().unwrap_or_default();
    let any = log_sum_exp(wide.take(spans.len().saturating_sub(1)));
    Found { text, cites, confidence: log_odds(any, none) }
}

fn label(logits: &[f32], head: &AnswerHead, wanted: &[String]) -> Option<Found> {
    let open: Vec<(&String, f64)> = head
        .labels()
        .iter()
        .zip(logits)
        .filter(|(label, _)| wanted.is_empty() || wanted.contains(label))
        .map(|(label, logit)| (label, f64::from(*logit)))
        .collect();
    let scores: Vec<f64> = open.iter().map(|(_, logit)| *logit).collect();
    let best = first_best(&scores)?;
    let others = scores.iter().enumerate().filter(|(at, _)| *at != best).map(|(_, logit)| *logit);
    let confidence = log_odds(scores[best], log_sum_exp(others));
    Some(Found { text: open[best].0.clone(), cites: Vec::new(), confidence })
}

/// The largest, first of equals; `None` of nothing.
fn first_best(values: &[f64]) -> Option<usize> {
    let better = |best: Option<usize>, next: usize| match best {
        Some(best) if values[best] >= values[next] => Some(best),
        _ => Some(next),
    };
    (0..values.len()).fold(None, better)
}

fn log_odds(of: f64, rest: f64) -> f32 {
    let odds = of - rest;
    let bounded = if odds.is_nan() { 0.0 } else { odds.clamp(-LOG_ODDS_MAX, LOG_ODDS_MAX) };
    bounded as f32
}

//! A parity case: what goes to the other side, and comes back with its logits.
//!
//! Knows no weights.

use super::super::files::{self, FileError};
use super::super::records::TrainingRecord;
use actors::types::{CandidateStates, Document, Sample};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Largest tolerance that a case may ask for: beyond it logits do not agree in any useful sense.
pub const TOLERANCE_MAX: f64 = 0.1;

/// Which numbers a case holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// The cross-encoder's logit that a document answers the question.
    #[default]
    Relevance,
    /// Start plus end logit of the first token: no answer in the document.
    NoAnswer,
    /// The selection head's score of each candidate, from the case's states.
    Scores,
}

/// One question with its documents; filled once `logits` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The question.
    pub question: String,
    /// Its documents.
    pub documents: Vec<Document>,
    /// What the selection head reads, one row a document; only a policy needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<CandidateStates>,
    /// Which logits.
    #[serde(default)]
    pub quantity: Quantity,
    /// What the other side computed, one a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits: Option<Vec<f64>>,
    /// The documents as the other side ranks them, from 0; may end early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<u32>>,
    /// Largest difference of a logit, in (0, 0.1]; without it the one asked for applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

/// Cases of judged episodes, with the states that were logged; `quantity` says what is to be filled.
pub fn cases_of_samples(samples: &[Sample], quantity: Quantity, most: usize) -> Vec<Case> {
    let with_documents = samples.iter().filter(|sample| !sample.episode.candidates.is_empty());
    let case = |sample: &Sample| {
        let states = sample.episode.decision.as_ref().map(|decision| decision.states.clone());
        Case {
            question: sample.episode.query.text.clone(),
            documents: sample.episode.candidates.iter().map(|c| c.document.clone()).collect(),
            states: states.filter(|_| quantity == Quantity::Scores),
            quantity,
            logits: None,
            order: None,
            tolerance: None,
        }
    };
    with_documents.take(most).map(case).collect()
}

/// Cases of records, which know no states.
pub fn cases_of_records(records: &[TrainingRecord], quantity: Quantity, most: usize) -> Vec<Case> {
    let with_documents = records.iter().filter(|record| !record.candidates().is_empty());
    let case = |record: &TrainingRecord| Case {
        question: record.query().text.clone(),
        documents: record.candidates().iter().map(|c| c.document.clone()).collect(),
        states: None,
        quantity,
        logits: None,
        order: None,
        tolerance: None,
    };
    with_documents.take(most).map(case).collect()
}

/// Writes cases for the other side to fill, beside the place and renamed.
///
/// # Errors
/// The file cannot be written.
pub fn write_cases(path: &Path, cases: &[Case]) -> Result<(), FileError> {
    files::write_lines(path, cases).map(|_| ())
}

pub(super) fn check_case(case: &Case) -> Result<(), String> {
    let n = case.documents.len();
    let Some(logits) = &case.logits else {
        return Err("field `logits` is missing: the other side fills it, as \
                    tests/oracles/parity.py does"
            .to_owned());
    };
    if logits.len() != n || n == 0 {
        return Err(format!("field `logits` has {} numbers for {n} documents", logits.len()));
    }
    if let Some(bad) = logits.iter().find(|logit| !logit.is_finite()) {
        return Err(format!("field `logits` holds {bad}"));
    }
    let order = case.order.as_deref().unwrap_or_default();
    if let Some(bad) = order.iter().find(|at| **at as usize >= n) {
        return Err(format!("field `order` holds {bad}, there are {n} documents"));
    }
    match case.tolerance.filter(|tolerance| !(*tolerance > 0.0 && *tolerance <= TOLERANCE_MAX)) {
        Some(bad) => {
            Err(format!("field `tolerance` is {bad}, expected above 0, at most {TOLERANCE_MAX}"))
        }
        None => Ok(()),
    }
}

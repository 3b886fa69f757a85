//! Whether weights compute here what they compute elsewhere.
//!
//! A file of cases goes to the other side with questions and documents (and, for a policy, the states
//! its head reads), and comes back with logits; `tests/oracles/parity.py` fills it by transformers
//! and torch. Here the same logits are computed and compared one by one, and so is the order they
//! give. Knows no file of weights.

mod case;

pub use case::{Case, Quantity, TOLERANCE_MAX, cases_of_records, cases_of_samples, write_cases};

use super::files::{self, FileError};
use crate::policy::features;
use crate::policy::head::Head;
use crate::policy::reader::PairReader;
use candle_core::{DType, Device, Tensor};
use case::check_case;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a line of a file of cases is.
const EXPECTED: &str = "a parity case";

/// Why weights are not what the other side has, or it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// The file of cases.
    #[error(transparent)]
    File(#[from] FileError),
    /// The logits of a case cannot be computed.
    #[error("{path}:{line}: cannot compute the logits of this case: {reason}")]
    Compute {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Why.
        reason: String,
    },
    /// A logit is another.
    #[error(
        "parity failed: {beyond} of {logits} logits differ by more than their tolerance; the worst \
         at {path}:{line}, question `{question}`, document {document}: expected {expected}, found \
         {found}, a difference of {difference:.3e} where {tolerance:e} is allowed; nothing was \
         imported"
    )]
    Differs {
        /// Logits beyond their tolerance.
        beyond: u64,
        /// Logits compared.
        logits: u64,
        /// The file.
        path: PathBuf,
        /// Line of the worst, from 1.
        line: u64,
        /// Its question.
        question: String,
        /// Its document's position, from 0.
        document: usize,
        /// The other side's logit.
        expected: f64,
        /// Ours.
        found: f64,
        /// How far they are apart.
        difference: f64,
        /// How far they may be.
        tolerance: f64,
    },
    /// Documents stand in another order.
    #[error(
        "{path}:{line}: parity failed: the other side ranks document {before} before {after}, the \
         logits here are {before_logit} and {after_logit}; nothing was imported"
    )]
    OutOfOrder {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Ranked before `after` there.
        before: u32,
        /// Ranked before `before` here.
        after: u32,
        /// Logit of `before` here.
        before_logit: f64,
        /// Logit of `after` here.
        after_logit: f64,
    },
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Report {
    /// Cases compared.
    pub cases: u64,
    /// Logits compared.
    pub logits: u64,
    /// Largest difference of a logit.
    pub max_difference: f64,
    /// Mean Kendall τ between the orders by logit, over cases with two documents or more, in [-1, 1];
    /// pairs that are equal on either side are left out.
    pub kendall_tau: Option<f64>,
}

/// A file of cases.
#[derive(Debug, Clone, PartialEq)]
pub struct Cases {
    path: PathBuf,
    /// Each with its line, from 1.
    cases: Vec<(u64, Case)>,
    tolerance: f64,
}

impl Cases {
    /// Reads a filled file; `tolerance` applies where a case has none of its own.
    ///
    /// # Errors
    /// The first line that is no case, was not filled, or whose numbers do not fit its documents.
    pub fn read(path: &Path, tolerance: f64) -> Result<Self, ParityError> {
        let mut cases = Vec::new();
        files::read_lines(path, EXPECTED, |line, case: Case| {
            check_case(&case)?;
            cases.push((line, case));
            Ok(())
        })?;
        Ok(Self { path: path.to_owned(), cases, tolerance })
    }

    /// Holds the cases against what `compute` gives for each, one logit a document.
    ///
    /// # Errors
    /// The worst logit where any is beyond its tolerance, the first pair that stands in another
    /// order, or logits that cannot be computed.
    pub fn check(
        &self,
        mut compute: impl FnMut(&Case) -> Result<Vec<f64>, String>,
    ) -> Result<Report, ParityError> {
        let (mut tally, mut out_of_order) = (Tally::default(), None);
        for (line, case) in &self.cases {
            let failed =
                |reason| ParityError::Compute { path: self.path.clone(), line: *line, reason };
            let found = compute(case).map_err(failed)?;
            let expected = case.logits.as_deref().unwrap_or_default();
            if found.len() != expected.len() {
                let (found, expected) = (found.len(), expected.len());
                return Err(failed(format!("{found} logits came out, {expected} were expected")));
            }
            let tolerance = case.tolerance.unwrap_or(self.tolerance);
            tally.take(*line, expected, &found, tolerance);
            out_of_order =
                out_of_order.or_else(|| self.check_order(*line, case, &found, tolerance).err());
        }
        // A logit that is off says more than the order that follows from it.
        let report = tally.report(self)?;
        out_of_order.map_or(Ok(report), Err)
    }

    /// Neighbours in the other side's order stand so here, unless two tolerances could turn them.
    fn check_order(
        &self,
        line: u64,
        case: &Case,
        found: &[f64],
        tolerance: f64,
    ) -> Result<(), ParityError> {
        for pair in case.order.as_deref().unwrap_or_default().windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let (before_logit, after_logit) = (found[before as usize], found[after as usize]);
            if before_logit < after_logit - 2.0 * tolerance {
                let path = self.path.clone();
                return Err(ParityError::OutOfOrder {
                    path,
                    line,
                    before,
                    after,
                    before_logit,
                    after_logit,
                });
            }
        }
        Ok(())
    }
}

/// One logit that is off.
#[derive(Debug, Clone, Copy)]
struct Off {
    line: u64,
    document: usize,
    expected: f64,
    found: f64,
    tolerance: f64,
}

impl Off {
    fn difference(&self) -> f64 {
        (self.expected - self.found).abs()
    }
}

#[derive(Default)]
struct Tally {
    cases: u64,
    logits: u64,
    beyond: u64,
    max_difference: f64,
    worst: Option<Off>,
    taus: Vec<f64>,
}

impl Tally {
    fn take(&mut self, line: u64, expected: &[f64], found: &[f64], tolerance: f64) {
        self.cases += 1;
        for (document, (expected, found)) in expected.iter().zip(found).enumerate() {
            let off = Off { line, document, expected: *expected, found: *found, tolerance };
            let difference = off.difference();
            self.logits += 1;
            self.max_difference = self.max_difference.max(difference);
            // Not a number is beyond every tolerance.
            if difference.is_nan() || difference > tolerance {
                self.beyond += 1;
                let is_worse = |worst: Off| difference.is_nan() || difference > worst.difference();
                if self.worst.is_none_or(is_worse) {
                    self.worst = Some(off);
                }
            }
        }
        self.taus.extend(kendall_tau(expected, found));
    }

    fn report(self, cases: &Cases) -> Result<Report, ParityError> {
        if let Some(worst) = self.worst {
            let Off { line, document, expected, found, tolerance } = worst;
            let case = cases.cases.iter().find(|(at, _)| *at == line);
            let question = case.map_or("", |(_, case)| case.question.as_str());
            return Err(ParityError::Differs {
                beyond: self.beyond,
                logits: self.logits,
                path: cases.path.clone(),
                line,
                question: question.chars().take(80).collect(),
                document,
                expected,
                found,
                difference: worst.difference(),
                tolerance,
            });
        }
        let mean = self.taus.iter().sum::<f64>() / self.taus.len().max(1) as f64;
        Ok(Report {
            cases: self.cases,
            logits: self.logits,
            max_difference: self.max_difference,
            kendall_tau: (!self.taus.is_empty()).then_some(mean),
        })
    }
}

/// (concordant − discordant) / (pairs without ties); `None` without such a pair.
fn kendall_tau(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mut agree, mut pairs) = (0.0, 0.0);
    for i in 0..a.len() {
        for j in 0..i {
            let product = (a[i] - a[j]) * (b[i] - b[j]);
            if product != 0.0 {
                agree += product.signum();
                pairs += 1.0;
            }
        }
    }
    (pairs > 0.0).then(|| agree / pairs)
}

/// What a reader computes for a case: [`Quantity::Relevance`] or [`Quantity::NoAnswer`].
///
/// # Errors
/// A case that asks for something else, or cannot be read.
pub fn of_reader(reader: &PairReader, case: &Case) -> Result<Vec<f64>, String> {
    let pairs: Vec<_> =
        case.documents.iter().map(|document| (case.question.as_str(), document)).collect();
    let readings = reader.read(&pairs).map_err(|error| error.to_string())?;
    let logits = readings.iter().map(|reading| match case.quantity {
        Quantity::Relevance => Some(f64::from(reading.rel)),
        Quantity::NoAnswer => Some(f64::from(reading.null_score)),
        Quantity::Scores => None,
    });
    let logits: Option<Vec<f64>> = logits.collect();
    logits.ok_or_else(|| "its quantity is `scores`, which an encoder does not give".to_owned())
}

/// What a selection head computes for a case: [`Quantity::Scores`] of its states.
///
/// # Errors
/// A case without states, with states of another width, or that asks for something else.
pub fn of_head(head: &Head, case: &Case) -> Result<Vec<f64>, String> {
    if case.quantity != Quantity::Scores {
        return Err("a policy is compared by `\"quantity\": \"scores\"`".to_owned());
    }
    let Some(states) = &case.states else {
        return Err("it has no `states`, which the selection head reads; export the cases from \
                    the log"
            .to_owned());
    };
    let (n, width) = (states.rows(), states.width());
    if n != case.documents.len() || width != head.config().state_width() {
        let (documents, expected) = (case.documents.len(), head.config().state_width());
        return Err(format!(
            "its states are {n} x {width}, expected {documents} x {expected} ({} of them features)",
            features::SCALARS.len()
        ));
    }
    let scores = || -> candle_core::Result<Vec<f64>> {
        let input = Tensor::from_slice(states.values(), (1, n, width), &Device::Cpu)?;
        let present = Tensor::ones((1, n), DType::F32, &Device::Cpu)?;
        Ok(head.forward(&input, &present)?.logits(0, n)?.scores)
    };
    scores().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;

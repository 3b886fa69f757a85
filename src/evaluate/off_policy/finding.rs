//! What a log says of one policy, and of one against another.
//!
//! Owns the two questions and the shape of their answers: figures with intervals, or a reason.
//! Every interval is withheld where the diagnostics refuse.

use super::bootstrap::{Table, spread};
use super::confidence;
use super::config::OffPolicyConfig;
use super::diagnostics::{Diagnostics, Refusal};
use super::estimators::{self, Estimator, Term};
use super::row::Row;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// A figure with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Lower end.
    pub low: f64,
    /// The figure itself.
    pub value: f64,
    /// Upper end.
    pub high: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// What one estimator says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The policy's mean reward.
    pub reward: Spread,
    /// That minus the logged policy's, on the same decisions.
    pub difference: Spread,
}

/// What one estimator says, or why it says nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figure {
    /// A figure.
    Estimated(Estimate),
    /// No figure.
    Refused {
        /// Why.
        refused: String,
    },
}

/// What a log says of one policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// What the weights are like.
    #[serde(flatten)]
    pub diagnostics: Diagnostics,
    /// The estimator to go by: the configured one, or `sndr` where every row has a prediction, else
    /// `snips`.
    pub estimator: Estimator,
    /// Each estimator by name.
    pub estimates: BTreeMap<&'static str, Figure>,
    /// An empirical-Bernstein interval of the mean reward that holds at every sample size; `None`
    /// where rewards leave `reward_range`.
    pub sequence: Option<(f64, f64)>,
}

impl Evaluation {
    /// What `estimator` says, if it does.
    pub fn estimate(&self, estimator: Estimator) -> Option<Estimate> {
        match self.estimates.get(estimator.name()) {
            Some(Figure::Estimated(estimate)) => Some(*estimate),
            _ => None,
        }
    }
}

/// Estimates the mean reward of the policy that `rows` are weighted for.
///
/// # Errors
/// Support that is too small, with the reason; then there is no interval at all.
pub fn evaluate(rows: &[Row], config: &OffPolicyConfig) -> Result<Evaluation, Refusal> {
    let diagnostics = Diagnostics::of(rows, config.clip);
    diagnostics.check(config)?;
    let fits = |estimator: &Estimator| estimator.fits(rows).is_ok();
    let chosen: Vec<Estimator> = Estimator::ALL.into_iter().filter(fits).collect();
    let columns = Columns::new(&[(rows, &chosen)], config);
    let mut rng = StdRng::seed_from_u64(config.seed);
    let replicates = columns.table.replicates(&columns.figures, config.bootstrap_draws, &mut rng);
    let total = columns.table.total();
    let values: Vec<f64> =
        columns.figures.iter().map(|at| estimators::value(&total[at.clone()])).collect();
    let mut estimates = BTreeMap::new();
    for estimator in Estimator::ALL {
        let found = estimator.fits(rows).and_then(|()| {
            let at = chosen.iter().position(|known| *known == estimator).unwrap_or(0);
            check_spread(estimator, &replicates[at])?;
            // `Logged` is the first of all and needs nothing.
            let paired = differences(&replicates[at], &replicates[0]);
            let reward = interval(values[at], &replicates[at], config.alpha)?;
            let difference = interval(values[at] - values[0], &paired, config.alpha)?;
            Ok(Estimate { reward, difference })
        });
        let figure = match found {
            Ok(estimate) => Figure::Estimated(estimate),
            Err(refusal) => Figure::Refused { refused: refusal.to_string() },
        };
        estimates.insert(estimator.name(), figure);
    }
    let estimator = primary(rows, config)?;
    Ok(Evaluation { diagnostics, estimator, estimates, sequence: sequence(rows, config) })
}

/// The estimator that a verdict goes by.
fn primary(rows: &[Row], config: &OffPolicyConfig) -> Result<Estimator, Refusal> {
    match config.estimator {
        Some(estimator) => estimator.fits(rows).map(|()| estimator),
        None if Estimator::Sndr.fits(rows).is_ok() => Ok(Estimator::Sndr),
        None => Ok(Estimator::Snips),
    }
}

/// Whether the replicates of an estimate differ at all: where every reward that counts is the same,
/// drawing them again says nothing of the others.
fn check_spread(estimator: Estimator, replicates: &[f64]) -> Result<(), Refusal> {
    let is_weighted = !matches!(estimator, Estimator::Logged | Estimator::Dm);
    let first = replicates.first().copied().unwrap_or(f64::NAN);
    let is_constant = replicates.iter().all(|value| (value - first).abs() < 1e-12);
    if is_weighted && is_constant { Err(Refusal::NoSpread) } else { Ok(()) }
}

/// Weight and reward of each query: rows of one query count as one value, their mean.
fn sequence(rows: &[Row], config: &OffPolicyConfig) -> Option<(f64, f64)> {
    let (groups, count) = groups(rows);
    let mut means = vec![(0.0, 0.0, 0.0); count];
    for (row, &group) in rows.iter().zip(&groups) {
        let mean = &mut means[group];
        mean.0 += row.weight();
        mean.1 += row.weight() * row.reward;
        mean.2 += 1.0;
    }
    let [low, high] = config.reward_range;
    if rows.iter().any(|row| row.reward < low || row.reward > high) {
        return None;
    }
    // Weight and weighted reward of a mean, as a weight and a reward.
    let of = |(w, wr, n): (f64, f64, f64)| (w / n, if w > 0.0 { wr / w } else { low });
    let values: Vec<(f64, f64)> = means.into_iter().map(of).collect();
    let clamped = values.into_iter().map(|(w, r)| (w, r.clamp(low, high)));
    confidence::interval(&clamped.collect::<Vec<_>>(), config.reward_range, config.alpha)
}

/// What a log says of a candidate against a champion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Whether the log says enough for an interval.
    pub supported: bool,
    /// Why not, or what was found.
    pub reason: String,
    /// Candidate minus champion: `(low, value, high)`; `None` where the support is too small.
    pub difference: Option<(f64, f64, f64)>,
    /// By this estimator.
    pub estimator: Estimator,
    /// Smallest effective sample size of the two.
    pub ess: f64,
    /// Largest weight of the two.
    pub weight_max: f64,
    /// Largest share of clipped rows of the two.
    pub clipped_share: f64,
    /// Decisions scored under both.
    pub rows: usize,
    /// The difference by every estimator that the rows allow, by name.
    pub estimates: BTreeMap<&'static str, Spread>,
}

/// Compares a candidate with a champion on the same logged decisions, paired by query.
///
/// champion: its own rows, matched by the decision's name, those of one side only left out; `None`
/// for the policy that was logged, whose rewards are in the candidate's rows.
pub fn compare(candidate: &[Row], champion: Option<&[Row]>, config: &OffPolicyConfig) -> Finding {
    let (candidate, champion) = match champion {
        None => (candidate.to_vec(), None),
        Some(rows) => {
            let (candidate, champion) = matching(candidate, rows);
            (candidate, Some(champion))
        }
    };
    let mut worst = Diagnostics::of(&candidate, config.clip);
    if let Some(rows) = &champion {
        let other = Diagnostics::of(rows, config.clip);
        worst.ess = worst.ess.min(other.ess);
        worst.weight_max = worst.weight_max.max(other.weight_max);
        worst.clipped_share = worst.clipped_share.max(other.clipped_share);
    }
    let mut finding = Finding {
        supported: false,
        reason: String::new(),
        difference: None,
        estimator: config.estimator.unwrap_or(Estimator::Snips),
        ess: worst.ess,
        weight_max: worst.weight_max,
        clipped_share: worst.clipped_share,
        rows: candidate.len(),
        estimates: BTreeMap::new(),
    };
    match paired(&candidate, champion.as_deref(), config) {
        Err(refusal) => finding.reason = refusal.to_string(),
        Ok((estimator, estimates)) => {
            finding.estimator = estimator;
            match estimates.get(estimator.name()) {
                None => finding.reason = Refusal::Degenerate { share: 1.0 }.to_string(),
                Some(s) => {
                    finding.supported = true;
                    finding.difference = Some((s.low, s.value, s.high));
                    finding.reason = format!(
                        "{} says {:+.4} [{:+.4}, {:+.4}] on {} decisions worth {:.1} effective ones",
                        estimator.name(),
                        s.value,
                        s.low,
                        s.high,
                        candidate.len(),
                        worst.ess
                    );
                }
            }
            finding.estimates = estimates;
        }
    }
    finding
}

type Differences = (Estimator, BTreeMap<&'static str, Spread>);

fn paired(
    candidate: &[Row],
    champion: Option<&[Row]>,
    config: &OffPolicyConfig,
) -> Result<Differences, Refusal> {
    Diagnostics::of(candidate, config.clip).check(config)?;
    if let Some(rows) = champion {
        Diagnostics::of(rows, config.clip).check(config)?;
    }
    let fits = |estimator: &Estimator| {
        estimator.fits(candidate).is_ok()
            && champion.is_none_or(|rows| estimator.fits(rows).is_ok())
    };
    let chosen: Vec<Estimator> = Estimator::ALL.into_iter().filter(fits).collect();
    let logged = vec![Estimator::Logged; chosen.len()];
    let other: (&[Row], &[Estimator]) = match champion {
        Some(rows) => (rows, &chosen),
        None => (candidate, &logged),
    };
    let has_model = chosen.contains(&Estimator::Sndr);
    let primary = match config.estimator {
        Some(estimator) => {
            estimator.fits(candidate)?;
            estimator.fits(champion.unwrap_or(candidate))?;
            estimator
        }
        None => {
            if has_model {
                Estimator::Sndr
            } else {
                Estimator::Snips
            }
        }
    };
    let columns = Columns::new(&[(candidate, &chosen), other], config);
    let mut rng = StdRng::seed_from_u64(config.seed);
    let replicates = columns.table.replicates(&columns.figures, config.bootstrap_draws, &mut rng);
    let total = columns.table.total();
    let value = |at: usize| estimators::value(&total[columns.figures[at].clone()]);
    let mut found = BTreeMap::new();
    for (at, &estimator) in chosen.iter().enumerate().skip(1) {
        let against = chosen.len() + at;
        let values = differences(&replicates[at], &replicates[against]);
        let difference = check_spread(estimator, &replicates[at])
            .and_then(|()| interval(value(at) - value(against), &values, config.alpha));
        match difference {
            Ok(spread) => {
                found.insert(estimator.name(), spread);
            }
            Err(refusal) if estimator == primary => return Err(refusal),
            Err(_) => {}
        }
    }
    Ok((primary, found))
}

/// The rows of the decisions that both have, in the candidate's order.
fn matching(candidate: &[Row], champion: &[Row]) -> (Vec<Row>, Vec<Row>) {
    let by_name: BTreeMap<&str, &Row> =
        champion.iter().map(|row| (row.decision.as_str(), row)).collect();
    let pair =
        |row: &Row| by_name.get(row.decision.as_str()).map(|other| (row.clone(), (*other).clone()));
    candidate.iter().filter_map(pair).unzip()
}

/// Terms of several estimators side by side, summed by query.
struct Columns {
    table: Table,
    figures: Vec<Range<usize>>,
}

impl Columns {
    /// `parts`: rows, all of the same decisions in the same order, each with its estimators.
    fn new(parts: &[(&[Row], &[Estimator])], config: &OffPolicyConfig) -> Self {
        let mut figures = Vec::new();
        let mut columns = 0;
        let sized: Vec<_> = parts.iter().map(|part| (part, estimators::slots(part.0))).collect();
        for ((_, chosen), slots) in &sized {
            for estimator in *chosen {
                let ratios = estimator.ratios(*slots);
                figures.push(columns..columns + ratios);
                columns += ratios;
            }
        }
        let rows = parts.first().map_or(&[][..], |part| part.0);
        let mut terms: Vec<Term> = Vec::with_capacity(rows.len() * columns);
        for at in 0..rows.len() {
            for ((rows, chosen), slots) in &sized {
                for estimator in *chosen {
                    estimator.terms(&rows[at], *slots, config, &mut terms);
                }
            }
        }
        let (groups, count) = groups(rows);
        Self { table: Table::new(columns, &terms, (&groups, count)), figures }
    }
}

/// The number of each row's group, and how many there are, in order of first appearance.
fn groups(rows: &[Row]) -> (Vec<usize>, usize) {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut numbers = Vec::with_capacity(rows.len());
    for row in rows {
        let next = known.len();
        numbers.push(*known.entry(row.group.as_str()).or_insert(next));
    }
    let count = known.len();
    (numbers, count)
}

fn differences(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter().zip(right).map(|(l, r)| l - r).collect()
}

fn interval(value: f64, replicates: &[f64], alpha: f64) -> Result<Spread, Refusal> {
    let none = replicates.iter().filter(|v| !v.is_finite()).count() as f64;
    let share = none / replicates.len().max(1) as f64;
    match spread(replicates, alpha) {
        Some((low, high, standard_error)) if value.is_finite() => {
            Ok(Spread { low, value, high, standard_error })
        }
        _ => Err(Refusal::Degenerate { share }),
    }
}

#[cfg(test)]
mod tests;

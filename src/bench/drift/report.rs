//! What came of the courses: rewards with intervals, paired gains, forgetting, alarms.

use super::alarms::{Stretch, Watched};
use super::course::{Course, Learning};
use crate::evaluate::resample::{Values, difference, interval};
use serde::Serialize;
use std::fmt::Write as _;

/// Resamples of every interval.
const RESAMPLES: usize = 2_000;

/// The whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftReport {
    /// One for each stream.
    pub streams: Vec<StreamReport>,
    /// The detectors, stream by seed.
    pub watched: Vec<Watched>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// Its blocks.
    pub blocks: Vec<String>,
    /// Questions served, over all blocks; those that some policy or seed could not be scored on are
    /// left out for all.
    pub questions: usize,
    /// One for each policy.
    pub rows: Vec<Row>,
    /// Continual learning less the others.
    pub gains: Vec<Gain>,
}

/// One policy on one stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The policy.
    pub learning: Learning,
    /// Seeds.
    pub seeds: usize,
    /// Reward over all questions, mean over seeds.
    pub cumulative: f64,
    /// Its 95% interval over questions and seeds.
    pub interval: (f64, f64),
    /// Mean reward in each block, over seeds.
    pub blocks: Vec<f64>,
    /// Mean documents a question in each block, over seeds.
    pub documents: Vec<f64>,
    /// What was forgotten of the first domain.
    pub forgotten: Forgotten,
    /// What each update of each seed said.
    pub updates: Vec<Vec<String>>,
}

/// Reward on the held-out questions of the first domain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forgotten {
    /// After the warm-up and after each block, mean over seeds.
    pub held_out: Vec<f64>,
    /// Its own best less its last, mean over seeds.
    pub last: f64,
    /// Its deepest fall below its best so far, mean over seeds.
    pub deepest: f64,
}

/// A paired difference of cumulative rewards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gain {
    /// Who.
    pub of: Learning,
    /// Less whom.
    pub over: Learning,
    /// Difference of the rewards over all questions.
    pub cumulative: f64,
    /// Its 95% interval over questions and seeds.
    pub interval: (f64, f64),
    /// Two-sided p-value.
    pub p: f64,
}

/// Puts the courses together; all seeds and policies of a stream are there.
pub(super) fn build(courses: &[Course], watched: Vec<Watched>, seed: u64) -> DriftReport {
    let mut names: Vec<&str> = courses.iter().map(|course| course.stream.as_str()).collect();
    names.dedup();
    let of = |name: &&str| {
        let courses: Vec<&Course> = courses.iter().filter(|c| c.stream == *name).collect();
        stream(name, &courses, seed)
    };
    DriftReport { streams: names.iter().map(of).collect(), watched }
}

fn stream(name: &str, courses: &[&Course], seed: u64) -> StreamReport {
    let flat: Vec<Vec<Option<f64>>> = courses
        .iter()
        .map(|course| course.blocks.iter().flat_map(|(_, rewards)| rewards.clone()).collect())
        .collect();
    let count = flat.iter().map(Vec::len).min().unwrap_or(0);
    let scored: Vec<usize> =
        (0..count).filter(|at| flat.iter().all(|rewards| rewards[*at].is_some())).collect();
    let values = |learning: Learning| {
        let runs = courses.iter().zip(&flat).filter(|(course, _)| course.learning == learning);
        let kept = |rewards: &Vec<Option<f64>>| -> Vec<f64> {
            scored.iter().filter_map(|at| rewards[*at]).collect()
        };
        Values::new(runs.map(|(_, rewards)| vec![kept(rewards)]).collect())
    };
    let n = scored.len() as f64;
    let rows = Learning::ALL.map(|learning| {
        let own: Vec<&&Course> = courses.iter().filter(|c| c.learning == learning).collect();
        row(learning, &own, &values(learning), (n, seed))
    });
    let against = [
        (Learning::Continual, Learning::Frozen),
        (Learning::Continual, Learning::Nightly),
        (Learning::ContinualGated, Learning::Frozen),
        (Learning::ContinualGated, Learning::Nightly),
    ];
    let gains = against.map(|(of, over)| {
        let paired = difference(&values(of), &values(over), RESAMPLES, seed);
        let interval = (n * paired.interval.0, n * paired.interval.1);
        Gain { of, over, cumulative: n * paired.mean, interval, p: paired.p }
    });
    StreamReport {
        name: name.to_owned(),
        blocks: courses.first().map_or_else(Vec::new, |course| {
            course.blocks.iter().map(|(name, _)| name.clone()).collect()
        }),
        questions: scored.len(),
        rows: rows.to_vec(),
        gains: gains.to_vec(),
    }
}

fn row(learning: Learning, own: &[&&Course], values: &Values, (n, seed): (f64, u64)) -> Row {
    let (low, high) = interval(values, RESAMPLES, seed);
    let block_means = |course: &&&Course| -> Vec<f64> {
        let mean = |(_, rewards): &(String, Vec<Option<f64>>)| {
            let scored: Vec<f64> = rewards.iter().copied().flatten().collect();
            mean(&scored)
        };
        course.blocks.iter().map(mean).collect()
    };
    let falls: Vec<(f64, f64)> = own.iter().map(|course| fall(&course.held_out)).collect();
    Row {
        learning,
        seeds: own.len(),
        cumulative: n * values.mean(),
        interval: (n * low, n * high),
        blocks: columns(&own.iter().map(block_means).collect::<Vec<_>>()),
        documents: columns(&own.iter().map(|course| course.documents.clone()).collect::<Vec<_>>()),
        forgotten: Forgotten {
            held_out: columns(&own.iter().map(|c| c.held_out.clone()).collect::<Vec<_>>()),
            last: mean(&falls.iter().map(|fall| fall.0).collect::<Vec<_>>()),
            deepest: mean(&falls.iter().map(|fall| fall.1).collect::<Vec<_>>()),
        },
        updates: own.iter().map(|course| course.updates.clone()).collect(),
    }
}

/// The best of a curve less its last, and the deepest fall below the best so far.
fn fall(curve: &[f64]) -> (f64, f64) {
    let (mut best, mut deepest) = (f64::NEG_INFINITY, 0.0_f64);
    for value in curve {
        best = best.max(*value);
        deepest = deepest.max(best - value);
    }
    (curve.last().map_or(0.0, |last| best - last), deepest)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Mean of each column.
fn columns(rows: &[Vec<f64>]) -> Vec<f64> {
    let width = rows.iter().map(Vec::len).min().unwrap_or(0);
    (0..width).map(|at| mean(&rows.iter().map(|row| row[at]).collect::<Vec<_>>())).collect()
}

/// The report as a table for people; rewards of single questions as percentages.
pub fn table(report: &DriftReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for stream in &report.streams {
        let _ = writeln!(
            out,
            "{}: {} questions in {} blocks, held-out questions of the first domain",
            stream.name,
            stream.questions,
            stream.blocks.len()
        );
        let _ = writeln!(
            out,
            "  {:<16} {:>10} {:>17}  {:>8} {:>8} {:>9} {:>8}",
            "policy", "cumulative", "95%", "old last", "forgot", "deepest", "k"
        );
        for row in &stream.rows {
            let _ = writeln!(
                out,
                "  {:<16} {:>10.1} [{:>6.1}, {:>6.1}]   {:>8.1} {:>8.1} {:>9.1} {:>8.2}",
                row.learning.name(),
                row.cumulative,
                row.interval.0,
                row.interval.1,
                100.0 * row.forgotten.held_out.last().copied().unwrap_or(0.0),
                100.0 * row.forgotten.last,
                100.0 * row.forgotten.deepest,
                mean(&row.documents),
            );
        }
        for gain in &stream.gains {
            let _ = writeln!(
                out,
                "  {} less {}: {:+.1} [{:+.1}, {:+.1}], p {:.3}",
                gain.of.name(),
                gain.over.name(),
                gain.cumulative,
                gain.interval.0,
                gain.interval.1,
                gain.p
            );
        }
        blocks(&mut out, stream);
    }
    for watched in &report.watched {
        let _ = writeln!(out, "detectors over {}, seed {}:", watched.stream, watched.seed);
        for stretch in watched.stretches.iter().chain([&watched.shuffled]) {
            let _ = writeln!(out, "  {}", alarms(stretch));
        }
    }
    out
}

/// Mean reward of each policy in each block.
fn blocks(out: &mut String, stream: &StreamReport) {
    let _ = write!(out, "  {:<22}", "reward in block");
    for row in &stream.rows {
        let _ = write!(out, " {:>16}", row.learning.name());
    }
    let _ = writeln!(out);
    for (at, block) in stream.blocks.iter().enumerate() {
        let _ = write!(out, "  {block:<22}");
        for row in &stream.rows {
            let _ = write!(out, " {:>16.1}", 100.0 * row.blocks.get(at).copied().unwrap_or(0.0));
        }
        let _ = writeln!(out);
    }
}

fn alarms(stretch: &Stretch) -> String {
    let told: Vec<String> =
        stretch.alarms.iter().map(|(d, at)| format!("{} after {at}", d.name())).collect();
    let told = if told.is_empty() { "no alarm".to_owned() } else { told.join(", ") };
    format!("{:<20} {:>5} queries: {told}", stretch.name, stretch.queries)
}

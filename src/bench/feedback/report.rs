//! What came of the courses: held-out F1 by decisions, paired with the weights that stay, and how
//! much of what there was to gain was gained.

use super::course::{Bought, Checkpoint, Course};
use super::material::Material;
use crate::evaluate::resample::{Paired, Values, difference, interval};
use crate::evaluate::scores::Columns;
use crate::evaluate::users::Temper;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Resamples of every interval.
const RESAMPLES: usize = 2_000;

/// The whole run. Figures are means over data sets, in points of F1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeedbackReport {
    /// Questions asked, and questions measured on.
    pub questions: (usize, usize),
    /// Data sets.
    pub datasets: Vec<String>,
    /// F1 and context tokens of retrieval order cut at a fixed k.
    pub cuts: Vec<(String, f64, f64)>,
    /// One for each arm, kind of users and number of decisions.
    pub rows: Vec<Row>,
}

/// One arm after some decisions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The arm.
    pub arm: String,
    /// Its users.
    pub users: Temper,
    /// Decisions; 0 for an arm that is not told anything.
    pub decisions: usize,
    /// Seeds.
    pub seeds: usize,
    /// F1 on the test questions.
    pub f1: f64,
    /// Its 95% interval over questions and seeds.
    pub interval: (f64, f64),
    /// F1 on each data set.
    pub by_dataset: Vec<f64>,
    /// Less the frozen weights, paired by question and seed.
    pub gain: Option<Gain>,
    /// Less the best fixed cut, paired by question.
    pub over_cut: Option<Gain>,
    /// Share of what full information gains over frozen weights that this arm gains.
    pub closed: Option<f64>,
    /// Seeds whose champion is worse than the frozen weights on the test questions.
    pub seeds_below: usize,
    /// Mean documents and context tokens a question.
    pub k: f64,
    /// Context tokens.
    pub tokens: f64,
    /// Mean F1 of what was served on the way.
    pub served_f1: f64,
    /// Swaps, a seed.
    pub swaps: f64,
    /// Requests without an answer, over all seeds.
    pub failed: u64,
    /// Updates so far over all seeds, by how they ended.
    pub outcomes: BTreeMap<String, usize>,
    /// The first reason of each kind of ending.
    pub reasons: BTreeMap<String, String>,
    /// What updates bought, over all seeds.
    pub bought: Bought,
    /// Decisions a second while asking.
    pub rate: f64,
}

/// A paired difference, in points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gain {
    /// The difference.
    pub points: f64,
    /// Its 95% interval.
    pub interval: (f64, f64),
    /// Two-sided p-value.
    pub p: f64,
}

impl From<Paired> for Gain {
    fn from(paired: Paired) -> Self {
        let (low, high) = paired.interval;
        Self { points: 100.0 * paired.mean, interval: (100.0 * low, 100.0 * high), p: paired.p }
    }
}

/// Puts the courses together.
pub(super) fn build(
    courses: &[Course],
    cuts: &[(String, Columns)],
    material: &Material,
    seed: u64,
) -> FeedbackReport {
    let datasets: Vec<&str> = material.test.iter().map(|q| q.dataset.as_str()).collect();
    let mut names: Vec<String> = datasets.iter().map(|name| (*name).to_owned()).collect();
    names.dedup();
    let column = |columns: &Columns, name: &str| -> Vec<f64> {
        columns.get(name).into_iter().flatten().map(|value| value.unwrap_or(0.0)).collect()
    };
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let figures: Vec<(String, f64, f64, Values)> = cuts
        .iter()
        .map(|(name, columns)| {
            let f1 = Values::new(vec![strata(&column(columns, "f1"), &datasets)]);
            (name.clone(), 100.0 * f1.mean(), mean(&column(columns, "context_tokens")), f1)
        })
        .collect();
    let best = figures.iter().reduce(|a, b| if b.1 > a.1 { b } else { a }).map(|cut| &cut.3);
    let mut rows: Vec<Row> = Vec::new();
    for (arm, users, decisions) in keys(courses) {
        let own: Vec<&Course> =
            courses.iter().filter(|c| c.arm == arm && c.users == users).collect();
        rows.push(row(&own, decisions, (courses, &datasets), (best, seed)));
    }
    FeedbackReport {
        questions: (material.train.len(), material.test.len()),
        datasets: names,
        cuts: figures.into_iter().map(|(name, f1, tokens, _)| (name, f1, tokens)).collect(),
        rows,
    }
}

/// Every arm, kind of users and number of decisions that there is, in order.
fn keys(courses: &[Course]) -> Vec<(String, Temper, usize)> {
    let mut keys = Vec::new();
    for course in courses {
        for point in &course.checkpoints {
            let key = (course.arm.clone(), course.users, point.decisions);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

/// Values of the questions, data set by data set.
fn strata(values: &[f64], datasets: &[&str]) -> Vec<Vec<f64>> {
    let mut names: Vec<&str> = datasets.to_vec();
    names.dedup();
    let of = |name: &&str| {
        let own = values.iter().zip(datasets).filter(|(_, of)| *of == name);
        own.map(|(value, _)| *value).collect()
    };
    names.iter().map(of).collect()
}

/// F1 of some courses after so many decisions: a run each.
fn values(courses: &[&Course], decisions: usize, datasets: &[&str]) -> Values {
    let point = |course: &&Course| {
        course.checkpoints.iter().find(|point| point.decisions == decisions).cloned()
    };
    let runs = courses.iter().filter_map(point).map(|point| strata(&point.f1, datasets));
    Values::new(runs.collect())
}

fn row(
    own: &[&Course],
    decisions: usize,
    (courses, datasets): (&[Course], &[&str]),
    (cut, seed): (Option<&Values>, u64),
) -> Row {
    let points: Vec<_> = own
        .iter()
        .flat_map(|course| &course.checkpoints)
        .filter(|point| point.decisions == decisions)
        .collect();
    let f1 = values(own, decisions, datasets);
    // The same seeds on both sides, or the difference is not paired.
    let seeds: Vec<u64> = own.iter().map(|course| course.seed).collect();
    let beside = |arm: &str| {
        let of = |c: &&Course| c.arm == arm && seeds.contains(&c.seed);
        let found: Vec<&Course> = courses.iter().filter(of).collect();
        values(&found, 0, datasets)
    };
    let (frozen, oracle) = (beside("frozen"), beside("oracle"));
    let is_told = own.first().is_some_and(|course| course.arm != "frozen");
    let less = |other: &Values| Gain::from(difference(&f1, other, RESAMPLES, seed));
    let gain = (is_told && !frozen.is_empty()).then(|| less(&frozen));
    // Without both ends there is no gap to close.
    let gap = if oracle.is_empty() { 0.0 } else { 100.0 * (oracle.mean() - frozen.mean()) };
    let below = |(mine, kept): (f64, f64)| mine < kept - 1e-12;
    let (low, high) = interval(&f1, RESAMPLES, seed);
    let n = points.len().max(1) as f64;
    let mut bought = Bought::default();
    points.iter().for_each(|point| bought += point.bought);
    let (mut outcomes, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    for update in own.iter().flat_map(|course| &course.updates) {
        if update.decisions <= decisions {
            *outcomes.entry(update.outcome.clone()).or_default() += 1;
            reasons.entry(update.outcome.clone()).or_insert_with(|| update.reason.clone());
        }
    }
    let seconds: f64 = points.iter().map(|point| point.seconds).sum();
    Row {
        arm: own.first().map(|course| course.arm.clone()).unwrap_or_default(),
        users: own.first().map_or(Temper::Honest, |course| course.users),
        decisions,
        seeds: points.len(),
        f1: 100.0 * f1.mean(),
        interval: (100.0 * low, 100.0 * high),
        by_dataset: by_dataset(&points, datasets),
        closed: gain.filter(|_| gap > 1e-9).map(|gain| gain.points / gap),
        gain,
        over_cut: cut.map(less),
        seeds_below: f1.by_run().into_iter().zip(frozen.by_run()).filter(|p| below(*p)).count(),
        k: points.iter().map(|point| point.k).sum::<f64>() / n,
        tokens: points.iter().map(|point| point.tokens).sum::<f64>() / n,
        served_f1: 100.0 * points.iter().map(|point| point.served_f1).sum::<f64>() / n,
        swaps: points.iter().map(|point| point.swaps as f64).sum::<f64>() / n,
        failed: points.iter().map(|point| point.failed).sum(),
        outcomes,
        reasons,
        bought,
        rate: (decisions * points.len()) as f64 / seconds.max(1e-9),
    }
}

/// Mean F1 of each data set over some checkpoints, in points.
fn by_dataset(points: &[&Checkpoint], datasets: &[&str]) -> Vec<f64> {
    let all: Vec<Vec<Vec<f64>>> = points.iter().map(|p| strata(&p.f1, datasets)).collect();
    let count = all.first().map_or(0, Vec::len);
    let of = |at: usize| {
        let values: Vec<f64> = all.iter().flat_map(|run| run[at].iter().copied()).collect();
        100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64
    };
    (0..count).map(of).collect()
}

/// The report as a table for people.
pub fn table(report: &FeedbackReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let (asked, held_out) = report.questions;
    let _ = writeln!(
        out,
        "{asked} questions asked again and again, {held_out} others measured on ({})",
        report.datasets.join(", ")
    );
    for (name, f1, tokens) in &report.cuts {
        let _ = writeln!(out, "  {name:<14} F1 {f1:>5.1} {tokens:>8.0} tokens");
    }
    let _ = writeln!(
        out,
        "  {:<8} {:<8} {:>9} {:>5} {:>15} {:>7} {:>15} {:>6} {:>7} {:>6} {:>5} {:>6} {:>9} {:>6}",
        "arm",
        "users",
        "decisions",
        "F1",
        "95%",
        "gain",
        "95%",
        "closed",
        "served",
        "tokens",
        "k",
        "swaps",
        "bought",
        "below"
    );
    report.rows.iter().for_each(|row| line(&mut out, row));
    for row in &report.rows {
        let each: Vec<String> = row.by_dataset.iter().map(|f1| format!("{f1:.1}")).collect();
        let (arm, users, at) = (&row.arm, row.users.name(), row.decisions);
        let _ = writeln!(out, "  {arm} {users} {at}: {} by data set", each.join(" "));
    }
    for row in report.rows.iter().filter(|row| !row.outcomes.is_empty()) {
        endings(&mut out, row);
    }
    out
}

/// One row of the table.
fn line(out: &mut String, row: &Row) {
    let (low, high) = row.interval;
    let gain = row.gain.map_or_else(String::new, |gain| format!("{:+.1}", gain.points));
    let within = row.gain.map_or_else(String::new, |gain| {
        format!("[{:+.1}, {:+.1}]", gain.interval.0, gain.interval.1)
    });
    let closed = row.closed.map_or_else(String::new, |share| format!("{:.0}%", 100.0 * share));
    let _ = writeln!(
        out,
        "  {:<8} {:<8} {:>9} {:>5.1} {:>15} {gain:>7} {within:>15} {closed:>6} {:>7.1} {:>6.0} \
         {:>5.2} {:>6.1} {:>9} {:>3}/{}",
        row.arm,
        row.users.name(),
        row.decisions,
        row.f1,
        format!("[{low:.1}, {high:.1}]"),
        row.served_f1,
        row.tokens,
        row.k,
        row.swaps,
        row.bought.generator_calls + row.bought.judge_calls,
        row.seeds_below,
        row.seeds,
    );
}

/// How the updates of an arm ended, and why.
fn endings(out: &mut String, row: &Row) {
    let counts: Vec<String> =
        row.outcomes.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let _ = writeln!(
        out,
        "  {} {} {}: updates {}; {:.0} decisions a second, {} failed",
        row.arm,
        row.users.name(),
        row.decisions,
        counts.join(", "),
        row.rate,
        row.failed
    );
    for (word, reason) in &row.reasons {
        let _ = writeln!(out, "    {word}: {reason}");
    }
}

//! Headroom: what the best selection would be worth against the best fixed cut, for one reader and
//! one data set. Where there is none, no policy can learn anything and no training should be run.
//!
//! Owns the figures and the table. The built-in generator answers from the chosen passage of the
//! widest margin, so a set is worth what that one document is worth alone, and the best set of any
//! size is the best single document. That is checked on sets drawn at random before it is used.

mod keep;

pub use keep::keep;

use super::{BenchError, Watch};
use crate::config::Config;
use crate::datasets::{self, Question};
use crate::evaluate::answer_scores;
use crate::evaluate::resample::{Values, difference};
use crate::recipes::instance::{Instance, lay_out};
use crate::wiring::{self, Lab};
use actors::ports::{Generator, SearchIndex};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::index;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Fixed cuts that the best document is compared with.
const CUTS: [usize; 4] = [1, 3, 5, 10];
/// Points of F1 under which a policy has nothing to learn.
const LEAST_POINTS: f64 = 3.0;
/// Documents of a set drawn for the check.
const SET: usize = 3;
/// Questions laid out between two steps of progress.
const CHUNK: usize = 32;
/// Resamples of every interval.
const RESAMPLES: usize = 2_000;

/// One question with what each candidate alone would be worth.
#[derive(Debug, Clone)]
pub struct Laid {
    /// Question, candidates, states, tokens.
    pub instance: Instance,
    /// (n) token F1 of the answer from each candidate alone, in [0, 1].
    pub f1: Vec<f64>,
    /// (n) how much the best span of each beats "no answer".
    pub margin: Vec<f32>,
    /// (n) logit that the passage answers the question.
    pub relevance: Vec<f32>,
}

impl Laid {
    /// The candidate that answers for a set: the widest margin, the first of equals.
    fn speaker(&self, set: impl IntoIterator<Item = usize>) -> Option<usize> {
        set.into_iter().reduce(|best, j| if self.margin[j] > self.margin[best] { j } else { best })
    }

    /// F1 of what is answered from a set; 0 of none.
    pub fn worth(&self, set: impl IntoIterator<Item = usize>) -> f64 {
        self.speaker(set).map_or(0.0, |j| self.f1[j])
    }

    fn best_by(&self, of: impl Fn(usize) -> f64) -> Vec<usize> {
        let better = |best: usize, j: usize| if of(j) > of(best) { j } else { best };
        (0..self.f1.len()).reduce(better).into_iter().collect()
    }
}

/// What one rule for choosing is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The rule.
    pub name: String,
    /// Mean token F1, in points of 100.
    pub f1: f64,
    /// Mean context tokens a question.
    pub tokens: f64,
}

/// The headroom of one data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Headroom {
    /// The data set.
    pub dataset: String,
    /// Questions with a known answer.
    pub questions: usize,
    /// Mean candidates a question.
    pub candidates: f64,
    /// The best single document, which is the best set of up to three too.
    pub best: Row,
    /// The document that an untrained policy puts first.
    pub relevance: Row,
    /// Retrieval order cut at a fixed k.
    pub cuts: Vec<Row>,
    /// Which of them is best.
    pub best_cut: String,
    /// Best document less best cut, in points, with its 95% interval over questions.
    pub points: f64,
    /// The interval.
    pub interval: (f64, f64),
    /// Sets drawn for the check, and how many were answered from the widest margin.
    pub sets: (usize, usize),
}

impl Headroom {
    /// Whether a policy could learn something here.
    pub fn is_enough(&self) -> bool {
        self.points >= LEAST_POINTS
    }
}

/// The questions of a data set and the index of its pool, from `DATA/NAME.questions.jsonl.gz` and
/// `DATA/GROUP.passages.jsonl.gz` (`NAME` where the questions name no group). Questions without a
/// known answer are left out.
///
/// # Errors
/// A file that is missing or broken, or an index that cannot be opened.
pub async fn load(
    data: &Path,
    dataset: &str,
    config: &Config,
) -> Result<(Vec<Question>, Arc<dyn SearchIndex>), BenchError> {
    let file = |name: &str, kind: &str| data.join(format!("{name}.{kind}.jsonl.gz"));
    let mut questions = datasets::load_questions(&[file(dataset, "questions")])?;
    questions.retain(|question| !question.answers.is_empty());
    let group = questions.first().map(|q| q.group.as_str()).filter(|group| !group.is_empty());
    let passages = datasets::load_passages(&[file(group.unwrap_or(dataset), "passages")])?;
    let index = wiring::pool(config, &passages).await?;
    Ok((questions, index))
}

/// Reads every pair of the questions and scores each document alone.
///
/// # Errors
/// The index fails, or a text cannot be read.
pub async fn lay(
    dataset: &str,
    questions: &[Question],
    (index, lab): (&dyn SearchIndex, &Lab),
    top_n: usize,
    watch: &mut dyn Watch,
) -> Result<Vec<Laid>, BenchError> {
    let mut laid = Vec::with_capacity(questions.len());
    for chunk in questions.chunks(CHUNK) {
        for instance in lay_out(index, &lab.reader, chunk, top_n, &mut |_, _| {}).await? {
            laid.push(scored(instance, lab)?);
        }
        watch.step("questions read", (laid.len(), questions.len()), dataset);
    }
    Ok(laid)
}

fn scored(instance: Instance, lab: &Lab) -> Result<Laid, BenchError> {
    let text = instance.query.text.as_str();
    let pairs: Vec<_> = instance.candidates.iter().map(|c| (text, &c.document)).collect();
    let readings = lab.reader.read(&pairs).map_err(|error| {
        let entrant = format!("the reader on {}", instance.query.id);
        BenchError::Serve { entrant, reason: error.to_string() }
    })?;
    let f1 = |answer: &str| answer_scores(answer, &instance.query.references).0;
    Ok(Laid {
        f1: readings.iter().map(|r| f1(&r.answer)).collect(),
        margin: readings.iter().map(|r| r.margin()).collect(),
        relevance: readings.iter().map(|r| r.rel).collect(),
        instance,
    })
}

/// The figures over laid questions; `generator` is what the check asks.
///
/// # Errors
/// The generator fails.
pub async fn measure(
    dataset: &str,
    laid: &[Laid],
    generator: &dyn Generator,
    seed: u64,
) -> Result<Headroom, BenchError> {
    let sets = check(laid, generator, seed).await?;
    let cut = |k: usize| move |q: &Laid| (0..q.f1.len().min(k)).collect::<Vec<_>>();
    let cuts: Vec<(Row, Vec<f64>)> =
        CUTS.iter().map(|&k| row(format!("retrieval_k{k}"), laid, cut(k))).collect();
    let best = row("best document".to_owned(), laid, |q| q.best_by(|j| q.f1[j]));
    let first = |q: &Laid| q.best_by(|j| f64::from(q.relevance[j]));
    let relevance = row("relevance_k1".to_owned(), laid, first);
    let leader = cuts
        .iter()
        .reduce(|a, b| if b.0.f1 > a.0.f1 { b } else { a })
        .cloned()
        .unwrap_or(best.clone());
    let values = |of: &[f64]| Values::new(vec![vec![of.to_vec()]]);
    let paired = difference(&values(&best.1), &values(&leader.1), RESAMPLES, seed);
    let candidates: usize = laid.iter().map(|q| q.f1.len()).sum();
    Ok(Headroom {
        dataset: dataset.to_owned(),
        questions: laid.len(),
        candidates: candidates as f64 / laid.len().max(1) as f64,
        points: 100.0 * paired.mean,
        interval: (100.0 * paired.interval.0, 100.0 * paired.interval.1),
        best_cut: leader.0.name,
        best: best.0,
        relevance: relevance.0,
        cuts: cuts.into_iter().map(|(row, _)| row).collect(),
        sets,
    })
}

/// One rule over all questions, and its F1 on each.
fn row(name: String, laid: &[Laid], choose: impl Fn(&Laid) -> Vec<usize>) -> (Row, Vec<f64>) {
    let (mut f1, mut tokens) = (Vec::with_capacity(laid.len()), 0.0);
    for question in laid {
        let set = choose(question);
        tokens += set.iter().map(|j| f64::from(question.instance.tokens[*j])).sum::<f64>();
        f1.push(question.worth(set));
    }
    let n = laid.len().max(1) as f64;
    (Row { name, f1: 100.0 * f1.iter().sum::<f64>() / n, tokens: tokens / n }, f1)
}

/// Draws one set a question, in random order, and asks the generator: sets, and those answered from
/// the widest margin.
async fn check(
    laid: &[Laid],
    generator: &dyn Generator,
    seed: u64,
) -> Result<(usize, usize), BenchError> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut drawn, mut agreed) = (0, 0);
    for question in laid {
        let n = question.f1.len();
        let set = index::sample(&mut rng, n, n.min(SET)).into_vec();
        let order: Vec<u32> = set.iter().map(|j| *j as u32).collect();
        let query = &question.instance.query;
        let documents = question.instance.documents(&order);
        let answer = generator.answer(query, &documents).await.map_err(|error| {
            let entrant = format!("the generator on {}", query.id);
            BenchError::Serve { entrant, reason: error.to_string() }
        })?;
        let found = answer_scores(&answer.text, &query.references).0;
        drawn += 1;
        agreed += usize::from((found - question.worth(set)).abs() < 1e-9);
    }
    Ok((drawn, agreed))
}

/// The figures as a table for people.
pub fn table(all: &[Headroom]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for set in all {
        let _ = writeln!(
            out,
            "{}: {} questions, {:.1} candidates each",
            set.dataset, set.questions, set.candidates
        );
        for row in set.cuts.iter().chain([&set.relevance, &set.best]) {
            let _ =
                writeln!(out, "  {:<16} F1 {:>5.1}  {:>7.0} tokens", row.name, row.f1, row.tokens);
        }
        let (drawn, agreed) = set.sets;
        let _ = writeln!(
            out,
            "  best set of up to {SET}: {} ({agreed} of {drawn} sets drawn are answered from their \
             widest margin)",
            if agreed == drawn { "the best document" } else { "at least the best document" },
        );
        let _ = writeln!(
            out,
            "  headroom over {}: {:+.1} [{:+.1}, {:+.1}]{}",
            set.best_cut,
            set.points,
            set.interval.0,
            set.interval.1,
            if set.is_enough() { "" } else { ": nothing can be learned here" },
        );
    }
    out
}

#[cfg(test)]
mod tests;

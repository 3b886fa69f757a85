//! The drift figure: what continual learning is worth when traffic changes, against weights that
//! stay and weights trained anew.
//!
//! Two streams of real questions in blocks: RealTimeQA by date, and SQuAD with the domains of
//! SQuADShifts after it. Each block is served by every policy as it stands, its rewards counted,
//! and then learned from. All begin with the same warm-up. After every block each policy also
//! serves questions of the first domain that are never learned from: what it forgets shows there.
//! Beside it the detectors of [`actors::drift`] watch longer streams of the same questions.
//!
//! A folder holds one run: readings, and a file for each stream, policy and seed; what is there is
//! not done again.

mod alarms;
mod course;
mod report;
mod streams;

pub use alarms::{Stretch, Watched};
pub use course::{Course, Learning};
pub use report::{DriftReport, Forgotten, Gain, Row, StreamReport, table};
pub use streams::{Block, Item, Stream};

use super::{BenchError, Watch, read_json, write_json};
use crate::config::Config;
use crate::wiring::Lab;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Questions a block.
    pub limit: usize,
    /// Blocks that RealTimeQA is cut into; SQuAD has three a domain.
    pub blocks: usize,
    /// Candidates a question.
    pub top_n: usize,
    /// Blocks that an update learns from: the newest, the warm-up being the first.
    pub window: usize,
    /// Questions of each domain that the detectors watch.
    pub watched: usize,
    /// Seeds of training, and of the detectors' shuffles.
    pub seeds: Vec<u64>,
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Takes a folder for this plan: an empty one, or one of the same plan. More seeds than before
    /// are welcome.
    ///
    /// # Errors
    /// It holds another run, or cannot be written.
    pub fn take(folder: &Path, plan: &Plan) -> Result<Self, BenchError> {
        let path = folder.join("plan.json");
        if path.is_file() {
            let found: Plan = read_json(&path)?;
            let differs = [
                ("limit", found.limit != plan.limit),
                ("blocks", found.blocks != plan.blocks),
                ("top_n", found.top_n != plan.top_n),
                ("window", found.window != plan.window),
                ("watched", found.watched != plan.watched),
            ];
            if let Some((field, _)) = differs.into_iter().find(|(_, differs)| *differs) {
                return Err(BenchError::OtherRun { folder: folder.to_owned(), field });
            }
        }
        write_json(&path, plan)?;
        Ok(Self(folder.to_owned()))
    }

    /// The file of kept readings.
    pub fn readings(folder: &Path) -> PathBuf {
        folder.join("readings.redb")
    }

    fn course(&self, stream: &str, learning: Learning, seed: u64) -> PathBuf {
        self.0.join("courses").join(format!("{stream}-{}-{seed}.json", learning.name()))
    }

    fn watched(&self, stream: &str, seed: u64) -> PathBuf {
        self.0.join("watched").join(format!("{stream}-{seed}.json"))
    }
}

/// Plays every course that is not done yet, and returns the report over all.
///
/// # Errors
/// The first thing that fails; run again to go on from there.
pub async fn run(
    folder: &Folder,
    (data, plan): (&Path, &Plan),
    (lab, config): (&Lab, &Config),
    watch: &mut dyn Watch,
) -> Result<DriftReport, BenchError> {
    let material = streams::load(data, plan, config).await?;
    let mut watched = Vec::new();
    for questions in &material.watched {
        for &seed in &plan.seeds {
            let path = folder.watched(&questions.name, seed);
            watched.push(if path.is_file() {
                read_json(&path)?
            } else {
                let found = alarms::watch(questions, seed);
                write_json(&path, &found)?;
                found
            });
        }
    }
    for stream in &material.streams {
        streams::read(stream, lab, watch)?;
    }
    let units: Vec<(&Stream, u64, Learning)> = material
        .streams
        .iter()
        .flat_map(|stream| {
            let seeds = plan.seeds.iter();
            seeds.flat_map(move |seed| Learning::ALL.map(|learning| (stream, *seed, learning)))
        })
        .collect();
    let mut courses = Vec::with_capacity(units.len());
    for (done, (stream, seed, learning)) in units.iter().enumerate() {
        let name = format!("{}-{}-{seed}", stream.name, learning.name());
        watch.step("courses", (done, units.len()), &name);
        let path = folder.course(&stream.name, *learning, *seed);
        courses.push(if path.is_file() {
            read_json(&path)?
        } else {
            let course = course::play(stream, (*learning, *seed), plan.window, (lab, config))?;
            write_json(&path, &course)?;
            course
        });
    }
    watch.step("courses", (units.len(), units.len()), "report");
    let resampling = plan.seeds.first().copied().unwrap_or(0);
    Ok(report::build(&courses, watched, resampling))
}

#[cfg(test)]
mod tests;

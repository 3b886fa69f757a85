//! The figure on feedback: what a whole service learns from what its users say, against weights
//! that stay and against all that there is to know.
//!
//! Real questions, retrieved and read once. A service of its own is asked the training part over
//! and over, in random order; users say of some answers, later, whether they were content; it
//! learns when as many decisions have been made as the plan says. What then serves is measured,
//! greedily, on questions that are never asked.
//!
//! A folder holds one run: readings, and a file for each arm, kind of users and seed; what is there
//! is not done again.

mod arm;
mod course;
mod live;
mod material;
mod oracle;
mod report;

pub use arm::Arm;
pub use course::{Bought, Checkpoint, Course};
pub use material::{DATASETS, Material, load};
pub use report::{FeedbackReport, Row, table};

use super::{BenchError, Watch, read_json, write_json};
use crate::config::Config;
use crate::evaluate::scores::Columns;
use crate::evaluate::users::{Habits, Temper};
use crate::wiring::Lab;
use actors::types::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Data sets.
    pub datasets: Vec<String>,
    /// Questions of each part (train, test) of each data set, at most.
    pub limit: usize,
    /// Candidates a question.
    pub top_n: usize,
    /// Decisions after which the serving policy is measured, ascending.
    pub decisions: Vec<usize>,
    /// Factor by which decisions grow from one update to the next; there is one at each of
    /// `decisions` too.
    pub growth: f64,
    /// Share of the answers that users say something about.
    pub share: f64,
    /// Chance that what they say is turned round.
    pub flips: f64,
    /// Most decisions that are made between an answer and what is said of it.
    pub delay: usize,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// Who learns.
    pub arms: Vec<String>,
    /// What the users are like.
    pub users: Vec<Temper>,
    /// Times that `oracle` is trained on all training questions.
    pub rounds: usize,
    /// Seeds of order, users, exploration and training.
    pub seeds: Vec<u64>,
}

impl Plan {
    /// What the users of an arm are like.
    fn habits(&self, arm: &Arm, temper: Temper) -> Habits {
        let (share, flips, delay, tells) = (self.share, self.flips, self.delay, arm.tells());
        Habits { share, flips, delay, temper, tells }
    }

    /// Decisions after which the service learns, ascending; those measured are among them.
    fn updates(&self) -> Vec<usize> {
        let mut all = self.decisions.clone();
        let last = all.iter().copied().max().unwrap_or(0);
        let mut at = self.decisions.iter().copied().min().unwrap_or(0) as f64 / 2.0;
        while (at as usize) < last {
            // One beside a measured one would only repeat it.
            let is_close = |known: &usize| (*known as f64 / at).ln().abs() < self.growth.ln() / 2.0;
            if at >= 1.0 && !self.decisions.iter().any(is_close) {
                all.push(at as usize);
            }
            at = (at * self.growth).max(at + 1.0);
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Takes a folder for this plan: an empty one, or one of the same plan. More arms, users and
    /// seeds than before are welcome.
    ///
    /// # Errors
    /// It holds another run, or cannot be written.
    pub fn take(folder: &Path, plan: &Plan) -> Result<Self, BenchError> {
        let path = folder.join("plan.json");
        if path.is_file() {
            let found: Plan = read_json(&path)?;
            let differs = [
                ("datasets", found.datasets != plan.datasets),
                ("limit", found.limit != plan.limit),
                ("top_n", found.top_n != plan.top_n),
                ("decisions", found.decisions != plan.decisions),
                ("growth", found.growth != plan.growth),
                ("share", found.share != plan.share),
                ("flips", found.flips != plan.flips),
                ("delay", found.delay != plan.delay),
                ("rounds", found.rounds != plan.rounds),
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

    fn course(&self, arm: &Arm, users: Temper, seed: u64) -> PathBuf {
        self.0.join("courses").join(format!("{}-{}-{seed}.json", arm.name(), users.name()))
    }
}

/// Figures of weights that were measured already.
type Known = BTreeMap<Digest, Columns>;

/// Plays every course that is not done yet, and returns the report over all.
///
/// # Errors
/// The first thing that fails; run again to go on from there.
pub async fn run(
    folder: &Folder,
    plan: &Plan,
    (lab, config): (&Lab, &Config),
    material: &Material,
    watch: &mut dyn Watch,
) -> Result<FeedbackReport, BenchError> {
    let arms: Vec<Arm> = plan.arms.iter().map(|name| Arm::named(name)).collect::<Result<_, _>>()?;
    let mut units: Vec<(&Arm, Temper, u64)> = Vec::new();
    for arm in &arms {
        for &users in if arm.is_told() { plan.users.as_slice() } else { &[Temper::Honest] } {
            units.extend(plan.seeds.iter().map(|seed| (arm, users, *seed)));
        }
    }
    let mut known = Known::new();
    let mut courses = Vec::with_capacity(units.len());
    for (done, (arm, users, seed)) in units.iter().enumerate() {
        let name = format!("{}-{}-{seed}", arm.name(), users.name());
        watch.step("courses", (done, units.len()), &name);
        let path = folder.course(arm, *users, *seed);
        courses.push(if path.is_file() {
            read_json(&path)?
        } else {
            let unit = (*arm, *users, *seed);
            let stage = course::Stage { plan, lab, config, material, name: &name };
            let course = course::play(unit, &stage, &mut known, watch).await?;
            write_json(&path, &course)?;
            course
        });
    }
    watch.step("courses", (units.len(), units.len()), "report");
    let cuts = course::cuts(lab, material, plan.top_n).await?;
    let resampling = plan.seeds.first().copied().unwrap_or(0);
    Ok(report::build(&courses, &cuts, material, resampling))
}

#[cfg(test)]
mod tests;

//! Who learns, and from what.

use crate::bench::BenchError;
use crate::evaluate::users::Tells;
use crate::recipes::online::Objective;

/// Objectives that learn from the log alone: what they are told is whether a user was content.
const FROM_THE_LOG: [&str; 3] = ["dr", "snips", "ips"];
/// Objectives that try documents out on the generator: what they are told is the right answer.
const SIMULATED: [&str; 4] = ["rrpo", "grpo", "dpo", "sft"];

/// How a service learns; all else of it is the same.
#[derive(Debug, Clone, PartialEq)]
pub enum Arm {
    /// It does not.
    Frozen,
    /// By this objective, from what users say.
    Learns {
        /// `learner.objective`.
        objective: Objective,
        /// What users say.
        tells: Tells,
    },
    /// Full information: the recipe `online` with the right answers to all training questions, and
    /// no gate.
    Oracle,
}

impl Arm {
    /// The names of all arms, in the order of the table.
    pub fn names() -> Vec<&'static str> {
        let learning = FROM_THE_LOG.into_iter().chain(SIMULATED);
        ["frozen"].into_iter().chain(learning).chain(["oracle"]).collect()
    }

    /// The arm of a name: `frozen`, `oracle`, or an objective.
    ///
    /// # Errors
    /// There is none, or this build has no such objective.
    pub fn named(name: &str) -> Result<Self, BenchError> {
        let unknown =
            || BenchError::Entrant { name: name.to_owned(), known: Self::names().join(", ") };
        match name {
            "frozen" => Ok(Self::Frozen),
            "oracle" => Ok(Self::Oracle),
            _ => {
                let objective = serde_json::from_value(name.into()).map_err(|_| unknown())?;
                let is_from_the_log = FROM_THE_LOG.contains(&name);
                let tells = if is_from_the_log { Tells::Overlap } else { Tells::References };
                Ok(Self::Learns { objective, tells })
            }
        }
    }

    /// Its name in files and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Learns { objective, .. } => objective.name(),
            Self::Oracle => "oracle",
        }
    }

    /// Whether users tell it anything.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Learns { .. })
    }

    /// What its users say.
    pub fn tells(&self) -> Tells {
        match self {
            Self::Learns { tells, .. } => *tells,
            Self::Frozen | Self::Oracle => Tells::Overlap,
        }
    }
}

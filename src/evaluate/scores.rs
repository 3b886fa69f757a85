//! Every figure of every question: what reports are made of, and what travels in them so that
//! contenders of several reports can be compared.
//!
//! Owns the table and how tables are joined. Does not know what the figures mean.

use super::metrics::{METRICS, Scored};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A figure of each question, in the order of the table; `None` where it is not known.
pub type Column = Vec<Option<f64>>;

/// The figures of one run by name of the metric.
pub type Columns = BTreeMap<String, Column>;

/// The figures of several contenders on the same questions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScoreTable {
    /// Ids of the questions, each once.
    pub questions: Vec<String>,
    /// Data set of each question; may be empty.
    pub datasets: Vec<String>,
    /// Who answered them.
    pub contenders: Vec<ContenderScores>,
    /// What could not be scored, and why.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// The figures of one contender.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContenderScores {
    /// Its name.
    pub name: String,
    /// One a run (seed) of it; at least one.
    pub runs: Vec<Columns>,
}

/// Questions that some figure could not be had of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// What they are not part of: `everything`, or a metric's name.
    pub of: String,
    /// Because of whom; empty where it is the question that does not say what is right.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contender: String,
    /// Why: `search`, `decide`, `generate`, …, or what is not known.
    pub reason: String,
    /// How many.
    pub questions: usize,
    /// The first of them, with what was said.
    pub first: String,
}

/// Why tables cannot be joined or used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScoresError {
    /// The tables are not about the same questions.
    #[error(
        "`{}` is not about the questions of `{}`: {}, {}; take the common ones with --intersect, \
         or evaluate both on the same files, split and limit",
        .0.1.name, .0.0.name, .0.0, .0.1
    )]
    Differ(Box<(Own, Own)>),
    /// The tables have no question in common.
    #[error("`{left}` and `{right}` have no question in common")]
    Disjoint {
        /// Name of the first table.
        left: String,
        /// Name of the other.
        right: String,
    },
    /// A question is in another data set in each.
    #[error("question `{id}` is of data set `{left}` in one report and of `{right}` in another")]
    Dataset {
        /// The question.
        id: String,
        /// One data set.
        left: String,
        /// The other.
        right: String,
    },
    /// A table that contradicts itself, perhaps written by hand.
    #[error("the scores of `{name}` are broken: {reason}")]
    Broken {
        /// Name of the table.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// No contender of this name.
    #[error("there is no contender `{name}`; there are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
}

/// The questions that one table has and the other has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Name of the table.
    pub name: String,
    /// How many it alone has.
    pub only: usize,
    /// How many it has.
    pub total: usize,
    /// The first of those it alone has.
    pub first: Option<String>,
}

impl std::fmt::Display for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} are only in `{}`", self.only, self.total, self.name)?;
        match &self.first {
            Some(id) => write!(f, " (the first is `{id}`)"),
            None => Ok(()),
        }
    }
}

/// The columns of one run.
pub fn columns(scored: &[Scored]) -> Columns {
    let column = |of: fn(&Scored) -> Option<f64>| scored.iter().map(of).collect();
    METRICS.iter().map(|metric| (metric.name.to_owned(), column(metric.of))).collect()
}

impl ScoreTable {
    /// Adds a run: to the contender of this name, or as a new one.
    pub fn add(&mut self, name: &str, run: Columns) {
        match self.contenders.iter_mut().find(|contender| contender.name == name) {
            Some(contender) => contender.runs.push(run),
            None => {
                let name = name.to_owned();
                self.contenders.push(ContenderScores { name, runs: vec![run] });
            }
        }
    }

    /// Names of the contenders, in order.
    pub fn names(&self) -> Vec<&str> {
        self.contenders.iter().map(|contender| contender.name.as_str()).collect()
    }

    /// Checks what the other methods rely on; `name` stands in the error.
    ///
    /// # Errors
    /// A question that comes twice, or a column that is shorter or longer than the questions.
    pub fn check(&self, name: &str) -> Result<(), ScoresError> {
        let broken = |reason| Err(ScoresError::Broken { name: name.to_owned(), reason });
        let n = self.questions.len();
        if self.datasets.len() != n {
            return broken(format!("{n} questions have {} data sets", self.datasets.len()));
        }
        let mut seen = BTreeSet::new();
        if let Some(id) = self.questions.iter().find(|id| !seen.insert(id.as_str())) {
            return broken(format!("question `{id}` comes twice"));
        }
        let mut names = BTreeSet::new();
        for contender in &self.contenders {
            if contender.runs.is_empty() || !names.insert(&contender.name) {
                return broken(format!("contender `{}` has no run or comes twice", contender.name));
            }
            for (metric, column) in contender.runs.iter().flatten() {
                if column.len() != n {
                    return broken(format!(
                        "`{metric}` of `{}` has {} values for {n} questions",
                        contender.name,
                        column.len()
                    ));
                }
                if let Some(value) = column.iter().flatten().find(|value| !value.is_finite()) {
                    return broken(format!("`{metric}` of `{}` holds {value}", contender.name));
                }
            }
        }
        Ok(())
    }

    /// The same contenders on these questions only, in this order; unknown ids are ignored.
    fn of_questions(&self, ids: &[&str]) -> Self {
        let places: HashMap<&str, usize> =
            self.questions.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
        let kept: Vec<usize> = ids.iter().filter_map(|id| places.get(id).copied()).collect();
        let pick = |column: &Column| kept.iter().map(|&at| column[at]).collect();
        let run = |run: &Columns| run.iter().map(|(name, c)| (name.clone(), pick(c))).collect();
        let contender = |contender: &ContenderScores| ContenderScores {
            name: contender.name.clone(),
            runs: contender.runs.iter().map(run).collect(),
        };
        Self {
            questions: kept.iter().map(|&at| self.questions[at].clone()).collect(),
            datasets: kept.iter().map(|&at| self.datasets[at].clone()).collect(),
            contenders: self.contenders.iter().map(contender).collect(),
            left_out: self.left_out.clone(),
        }
    }
}

/// Joins tables, each under a name, over the questions of the first. A contender that comes again
/// with the same figures (times apart) is one; with others it takes the name of its table along.
///
/// # Errors
/// Tables that are not about the same questions, unless `intersect` takes the common ones; tables
/// that are broken.
pub fn join(tables: &[(String, ScoreTable)], intersect: bool) -> Result<ScoreTable, ScoresError> {
    let Some(((first, table), others)) = tables.split_first() else {
        return Ok(ScoreTable::default());
    };
    tables.iter().try_for_each(|(name, table)| table.check(name))?;
    let mut common: Vec<&str> = table.questions.iter().map(String::as_str).collect();
    for (name, other) in others {
        let theirs: BTreeSet<&str> = other.questions.iter().map(String::as_str).collect();
        if !intersect {
            same_questions((first, table), (name, other))?;
        }
        common.retain(|id| theirs.contains(id));
        if common.is_empty() {
            return Err(ScoresError::Disjoint { left: first.clone(), right: name.clone() });
        }
    }
    let mut joined = table.of_questions(&common);
    for (name, other) in others {
        let other = other.of_questions(&common);
        let mut pairs = joined.datasets.iter().zip(&other.datasets);
        if let Some(at) = pairs.position(|(left, right)| left != right) {
            let of = |table: &ScoreTable| table.datasets[at].clone();
            let id = joined.questions[at].clone();
            return Err(ScoresError::Dataset { id, left: of(&joined), right: of(&other) });
        }
        for contender in other.contenders {
            take(&mut joined, contender, name);
        }
        for left_out in other.left_out {
            if !joined.left_out.contains(&left_out) {
                joined.left_out.push(left_out);
            }
        }
    }
    Ok(joined)
}

fn take(joined: &mut ScoreTable, mut contender: ContenderScores, table: &str) {
    let is_same = |known: &ContenderScores| {
        known.name == contender.name && untimed(known) == untimed(&contender)
    };
    if joined.contenders.iter().any(is_same) {
        return;
    }
    let own = contender.name.clone();
    let mut number = 1;
    while joined.contenders.iter().any(|known| known.name == contender.name) {
        let number_shown = if number == 1 { String::new() } else { format!(" {number}") };
        contender.name = format!("{own} ({table}{number_shown})");
        number += 1;
    }
    joined.contenders.push(contender);
}

/// The figures without the times, which no two runs share.
fn untimed(contender: &ContenderScores) -> Vec<BTreeMap<&str, &Column>> {
    contender.runs.iter().map(untimed_run).collect()
}

fn untimed_run(run: &Columns) -> BTreeMap<&str, &Column> {
    let kept = run.iter().filter(|(name, _)| !name.ends_with("_ms"));
    kept.map(|(name, column)| (name.as_str(), column)).collect()
}

fn same_questions(
    left: (&str, &ScoreTable),
    right: (&str, &ScoreTable),
) -> Result<(), ScoresError> {
    let (own_left, own_right) = (own(left, right.1), own(right, left.1));
    if own_left.only == 0 && own_right.only == 0 {
        return Ok(());
    }
    Err(ScoresError::Differ(Box::new((own_left, own_right))))
}

fn own((name, table): (&str, &ScoreTable), other: &ScoreTable) -> Own {
    let theirs: BTreeSet<&String> = other.questions.iter().collect();
    let mut only = table.questions.iter().filter(|id| !theirs.contains(id));
    let first = only.next().cloned();
    let count = only.count() + usize::from(first.is_some());
    Own { name: name.to_owned(), only: count, total: table.questions.len(), first }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn table(ids: &[&str], names: &[&str], f1: f64) -> ScoreTable {
        let mut table = ScoreTable {
            questions: ids.iter().map(|id| (*id).to_owned()).collect(),
            datasets: vec!["d".to_owned(); ids.len()],
            ..ScoreTable::default()
        };
        for name in names {
            let scored = Scored { f1: Some(f1), ..Scored::default() };
            table.add(name, columns(&vec![scored; ids.len()]));
        }
        table
    }

    fn named(tables: Vec<ScoreTable>) -> Vec<(String, ScoreTable)> {
        tables.into_iter().enumerate().map(|(n, table)| (format!("r{n}"), table)).collect()
    }

    #[test]
    fn runs_of_one_name_are_one_contender() {
        let table = table(&["a", "b"], &["x", "y", "x"], 0.5);
        assert_eq!(table.names(), ["x", "y"]);
        assert_eq!(table.contenders[0].runs.len(), 2);
        assert_eq!(table.contenders[0].runs[0]["f1"], [Some(0.5), Some(0.5)]);
        assert_eq!(table.contenders[0].runs[0]["em"], [None, None]);
    }

    #[test]
    fn tables_join_over_the_same_questions_in_any_order() {
        let joined = join(
            &named(vec![table(&["a", "b"], &["x"], 0.1), table(&["b", "a"], &["y"], 0.2)]),
            false,
        );
        let joined = joined.unwrap();
        assert_eq!(joined.questions, ["a", "b"]);
        assert_eq!(joined.names(), ["x", "y"]);
    }

    #[test]
    fn a_contender_that_comes_again_is_one_or_takes_its_report_along() {
        let mut slower = table(&["a"], &["x"], 0.1);
        slower.contenders[0].runs[0].insert("decide_ms".to_owned(), vec![Some(9.0)]);
        let tables = named(vec![
            table(&["a"], &["x"], 0.1),
            slower,
            table(&["a"], &["x"], 0.3),
            table(&["a"], &["x (r2)"], 0.4),
        ]);
        assert_eq!(join(&tables, false).unwrap().names(), ["x", "x (r2)", "x (r2) (r3)"]);
    }

    #[test]
    fn other_questions_are_refused_and_counted_unless_the_common_ones_are_asked_for() {
        let tables = named(vec![
            table(&["a", "b", "c"], &["x"], 0.1),
            table(&["b", "c", "d", "e"], &["y"], 0.2),
        ]);
        let error = join(&tables, false).unwrap_err().to_string();
        for part in
            ["1 of 3 are only in `r0`", "`a`", "2 of 4 are only in `r1`", "`d`", "--intersect"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(join(&tables, true).unwrap().questions, ["b", "c"]);
        let apart = named(vec![table(&["a"], &["x"], 0.1), table(&["b"], &["y"], 0.1)]);
        assert!(matches!(join(&apart, true), Err(ScoresError::Disjoint { .. })));
    }

    #[test]
    fn broken_tables_are_refused_with_what_is_wrong() {
        let mut twice = table(&["a", "a"], &["x"], 0.1);
        assert!(twice.check("r").unwrap_err().to_string().contains("`a` comes twice"));
        twice.questions[1] = "b".to_owned();
        twice.check("r").unwrap();
        twice.contenders[0].runs[0].insert("f1".to_owned(), vec![None]);
        let error = twice.check("r").unwrap_err().to_string();
        assert!(error.contains("`f1` of `x` has 1 values for 2 questions"), "{error}");
        let mut other = table(&["a"], &["y"], 0.1);
        other.datasets[0] = "e".to_owned();
        let tables = named(vec![table(&["a"], &["x"], 0.1), other]);
        assert!(matches!(join(&tables, false), Err(ScoresError::Dataset { .. })));
    }
}

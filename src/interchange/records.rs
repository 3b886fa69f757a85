//! What is exported, before it has a shape: demonstrations and preferences over one list of
//! candidates, as a log or a recipe's rollouts give them.
//!
//! A recipe writes them with [`write_records`], `regrade export --records` reads them. Knows no
//! prompt and no trainer. Orders are positions among the candidates, from 0.

use super::files::{self, FileError};
use actors::types::{Candidate, PolicyStamp, Query};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One selection that is worth imitating, and the answer given from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demonstration {
    /// The question, with its references where they are known.
    pub query: Query,
    /// What could be chosen, in retrieval order.
    pub candidates: Vec<Candidate>,
    /// Chosen candidates in the order the generator sees them; empty for none.
    pub order: Vec<u32>,
    /// What the generator answered from them; `None` where nothing was generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// What it was worth; `None` where nobody judged it, as an expert's selection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// Natural log-probability of the selection under the policy that drew it, ≤ 0; `None` where
    /// chance had no part in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_prob: Option<f64>,
    /// Which weights chose; the default stamp for an expert.
    #[serde(default)]
    pub policy: PolicyStamp,
}

/// One of the selections of a [`Preference`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// Chosen candidates in the order the generator sees them; empty for none.
    pub order: Vec<u32>,
    /// What the generator answered from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// What it was worth.
    pub reward: f64,
    /// Natural log-probability under the policy that drew it, ≤ 0; `None` where it was not drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_prob: Option<f64>,
}

/// A better and a worse selection from the same candidates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// The question, with its references where they are known.
    pub query: Query,
    /// What could be chosen, in retrieval order; the same for both.
    pub candidates: Vec<Candidate>,
    /// The better one.
    pub chosen: Tried,
    /// The worse one.
    pub rejected: Tried,
    /// Which weights chose; of the better one where they differ.
    #[serde(default)]
    pub policy: PolicyStamp,
}

/// One line of a file of records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TrainingRecord {
    /// Something to imitate.
    Demonstration(Demonstration),
    /// Something to prefer.
    Preference(Preference),
}

impl TrainingRecord {
    /// The question.
    pub fn query(&self) -> &Query {
        match self {
            Self::Demonstration(record) => &record.query,
            Self::Preference(record) => &record.query,
        }
    }

    /// What could be chosen.
    pub fn candidates(&self) -> &[Candidate] {
        match self {
            Self::Demonstration(record) => &record.candidates,
            Self::Preference(record) => &record.candidates,
        }
    }

    /// Which weights chose.
    pub fn policy(&self) -> &PolicyStamp {
        match self {
            Self::Demonstration(record) => &record.policy,
            Self::Preference(record) => &record.policy,
        }
    }

    /// Says what is wrong with the record, if anything: a question without text, a position out of
    /// range or chosen twice, a reward or log-probability that is none.
    ///
    /// # Errors
    /// The first field that is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.query().text.trim().is_empty() {
            return Err("field `query.query` is empty".to_owned());
        }
        let n = self.candidates().len();
        match self {
            Self::Demonstration(record) => {
                check_order("order", &record.order, n)?;
                check_numbers("", record.reward, record.log_prob)
            }
            Self::Preference(record) => {
                for (name, tried) in [("chosen", &record.chosen), ("rejected", &record.rejected)] {
                    check_order(&format!("{name}.order"), &tried.order, n)?;
                    check_numbers(&format!("{name}."), Some(tried.reward), tried.log_prob)?;
                }
                Ok(())
            }
        }
    }
}

fn check_order(field: &str, order: &[u32], n: usize) -> Result<(), String> {
    for (at, position) in order.iter().enumerate() {
        if *position as usize >= n {
            return Err(format!("field `{field}` holds {position}, there are {n} candidates"));
        }
        if order[..at].contains(position) {
            return Err(format!("field `{field}` holds {position} twice"));
        }
    }
    Ok(())
}

fn check_numbers(lead: &str, reward: Option<f64>, log_prob: Option<f64>) -> Result<(), String> {
    if let Some(reward) = reward.filter(|reward| !reward.is_finite()) {
        return Err(format!("field `{lead}reward` is {reward}"));
    }
    // A probability may exceed 1 by rounding.
    match log_prob.filter(|value| value.is_nan() || *value > 1e-9) {
        Some(value) => Err(format!("field `{lead}log_prob` is {value}, expected at most 0")),
        None => Ok(()),
    }
}

/// What a line of a file of records is.
const EXPECTED: &str = "a demonstration or a preference";

/// Writes records, one JSON object a line, beside the place and renamed; returns their SHA-256.
///
/// # Errors
/// The file cannot be written.
pub fn write_records<'a>(
    path: &Path,
    records: impl IntoIterator<Item = &'a TrainingRecord>,
) -> Result<String, FileError> {
    files::write_lines(path, records)
}

/// Reads a file of [`write_records`], checking every record.
///
/// # Errors
/// The first line that is none, with its place and what is wrong.
pub fn read_records(path: &Path) -> Result<Vec<TrainingRecord>, FileError> {
    let mut records = Vec::new();
    files::read_lines(path, EXPECTED, |_, record: TrainingRecord| {
        record.check()?;
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use actors::types::Document;

    fn preference() -> Preference {
        let candidate = |rank: u32| Candidate {
            document: Document { id: format!("d{rank}").as_str().into(), ..Document::default() },
            score: 1.0,
            rank,
        };
        let tried = |order: &[u32], reward| Tried {
            order: order.to_vec(),
            answer: Some("x".to_owned()),
            reward,
            log_prob: Some(-1.5),
        };
        Preference {
            query: Query { text: "who?".to_owned(), ..Query::default() },
            candidates: (0..3).map(candidate).collect(),
            chosen: tried(&[2, 0], 0.9),
            rejected: tried(&[], 0.1),
            policy: PolicyStamp::default(),
        }
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let Preference { query, candidates, policy, chosen, .. } = preference();
        let Tried { order, answer, .. } = chosen;
        let (reward, log_prob) = (None, None);
        let demonstration =
            Demonstration { query, candidates, order, answer, reward, log_prob, policy };
        let records = vec![
            TrainingRecord::Preference(preference()),
            TrainingRecord::Demonstration(demonstration),
        ];
        write_records(&path, &records).unwrap();
        assert_eq!(read_records(&path).unwrap(), records);
    }

    #[test]
    fn a_record_that_makes_no_sense_is_refused_with_file_line_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let sound = preference();
        let with = |change: &dyn Fn(&mut Preference)| {
            let mut record = sound.clone();
            change(&mut record);
            TrainingRecord::Preference(record)
        };
        let cases = [
            (with(&|r| r.chosen.order = vec![3]), "`chosen.order` holds 3, there are 3 candidates"),
            (with(&|r| r.rejected.order = vec![1, 1]), "`rejected.order` holds 1 twice"),
            (with(&|r| r.rejected.log_prob = Some(0.5)), "`rejected.log_prob` is 0.5"),
            (with(&|r| r.query.text = " ".to_owned()), "`query.query` is empty"),
        ];
        for (record, expected) in cases {
            let records = [TrainingRecord::Preference(sound.clone()), record];
            write_records(&path, &records).unwrap();
            let error = read_records(&path).unwrap_err().to_string();
            assert!(error.contains("records.jsonl:2: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        std::fs::write(&path, "{\"kind\": \"preference\"}\n").unwrap();
        let error = read_records(&path).unwrap_err().to_string();
        assert!(error.contains(":1: ") && error.contains("missing field"), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert!(read_records(&path).unwrap_err().to_string().contains("is empty"));
    }
}

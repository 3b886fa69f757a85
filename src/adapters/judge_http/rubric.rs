//! What an answer is judged by, as a file.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

const SHIPPED: &str = include_str!("../../../configs/rubrics/answer.toml");
const SHIPPED_FILE: &str = "configs/rubrics/answer.toml";

/// Criteria with their weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    /// Name, part of the judge's.
    pub name: String,
    /// Version, part of the judge's name.
    pub version: u32,
    /// Best score of a criterion, 1 to 100; the worst is 0.
    pub scale_max: u32,
    /// The criteria, at least one.
    pub criteria: Vec<Criterion>,
}

/// One thing that is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Key of its score in a verdict: small letters, digits and `_`.
    pub name: String,
    /// Weight in the mean, > 0.
    pub weight: f64,
    /// What the model is asked.
    pub question: String,
}

/// Why a rubric cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RubricError {
    /// The file cannot be read.
    #[error("cannot read rubric `{file}`: give the path of a TOML file, or leave the setting out")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or of another shape.
    #[error("rubric `{file}` is not as it should be: {reason}")]
    Wrong {
        /// The file.
        file: String,
        /// What is wrong, with its place where that is known.
        reason: String,
    },
}

impl Rubric {
    /// Reads and checks the file, or takes what is shipped.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(file: Option<&Path>) -> Result<Self, RubricError> {
        let (file, text) = match file {
            None => (SHIPPED_FILE.to_owned(), SHIPPED.to_owned()),
            Some(path) => {
                let file = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|source| RubricError::Unreadable { file: file.clone(), source })?;
                (file, text)
            }
        };
        let wrong = |reason: String| RubricError::Wrong { file: file.clone(), reason };
        let rubric: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        rubric.check().map_err(wrong)?;
        Ok(rubric)
    }

    fn check(&self) -> Result<(), String> {
        if self.criteria.is_empty() {
            return Err("`criteria`: expected at least one".to_owned());
        }
        if !(1..=100).contains(&self.scale_max) {
            return Err(format!("`scale_max`: {} lies outside 1 to 100", self.scale_max));
        }
        let mut names = BTreeSet::new();
        for criterion in &self.criteria {
            let name = criterion.name.as_str();
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(is_plain) {
                return Err(format!("`{name}`: expected small letters, digits and `_` as a name"));
            }
            if !names.insert(name) {
                return Err(format!("`{name}`: there are two criteria of that name"));
            }
            if !(criterion.weight.is_finite() && criterion.weight > 0.0) {
                let weight = criterion.weight;
                return Err(format!("`{name}.weight`: {weight}, expected a number above 0"));
            }
        }
        Ok(())
    }

    /// The weighted mean of scores, each over the scale, in [0, 1]; one score a criterion, in order.
    pub(super) fn value(&self, scores: &[u32]) -> f64 {
        let weights: f64 = self.criteria.iter().map(|criterion| criterion.weight).sum();
        let scored = self.criteria.iter().zip(scores);
        let sum: f64 = scored.map(|(criterion, score)| criterion.weight * f64::from(*score)).sum();
        (sum / (weights * f64::from(self.scale_max))).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_shipped_rubric_loads_and_its_value_is_the_weighted_mean() {
        let rubric = Rubric::load(None).unwrap();
        let best = vec![rubric.scale_max; rubric.criteria.len()];
        assert!((rubric.value(&best) - 1.0).abs() < 1e-12);
        // 0.6 * 5 + 0.3 * 10 + 0.1 * 0 over 10.
        assert!((rubric.value(&[5, 10, 0]) - 0.6).abs() < 1e-12);
        assert!(rubric.value(&[0, 0, 0]).abs() < 1e-12);
    }

    #[test]
    fn a_wrong_rubric_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        let head = "name = \"r\"\nversion = 1\nscale_max = 10\n";
        let one = "[[criteria]]\nname = \"a\"\nweight = 1.0\nquestion = \"?\"\n";
        for (text, told) in [
            (format!("{head}criteria = []\n"), "at least one"),
            (format!("{head}{one}{one}"), "two criteria"),
            (format!("{head}{}", one.replace("\"a\"", "\"A b\"")), "small letters"),
            (format!("{head}{}", one.replace("1.0", "nan")), "above 0"),
            (format!("{}{one}", head.replace("10", "0")), "outside 1 to 100"),
            (format!("{head}{one}extra = 1\n"), "unknown field `extra`"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = Rubric::load(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("r.toml"), "{error}");
        }
        assert!(Rubric::load(Some(Path::new("no/such.toml"))).is_err());
    }
}

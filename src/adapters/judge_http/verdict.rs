//! What the model may say, and nothing else: one JSON object of exactly the shape that was asked
//! for, which names its task.
//!
//! There is no search for a number in a text. Whoever answers out of shape has not judged.

use super::{Rubric, VerdictFormat};
use crate::chat::shape_error;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::fmt;

/// Longest reason asked for, characters.
const REASON_CHARS_MAX: u32 = 300;

/// Why a reply is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum VerdictError {
    /// Not the JSON that was asked for.
    #[error("the verdict cannot be read: {0}")]
    Unreadable(String),
    /// Made for another task: copied from somewhere, perhaps from the very answer.
    #[error("the verdict does not name its task")]
    WrongTask,
}

/// Which of two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Winner {
    First,
    Second,
    Tie,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grades {
    task: String,
    reason: String,
    scores: Scores,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    task: String,
    reason: String,
    winner: Winner,
}

/// Reads a reply as the scores of one task, in the order of the rubric.
pub(super) fn grades(reply: &str, task: &str, rubric: &Rubric) -> Result<Vec<u32>, VerdictError> {
    let unreadable = |reason: String| Err(VerdictError::Unreadable(reason));
    let said: Grades = parse(reply)?;
    checked(&said.task, &said.reason, task)?;
    let mut scores = Vec::with_capacity(rubric.criteria.len());
    for criterion in &rubric.criteria {
        let found = said.scores.0.iter().find(|(name, _)| *name == criterion.name);
        match found {
            Some((_, score)) if *score <= rubric.scale_max => scores.push(*score),
            Some((_, score)) => {
                return unreadable(format!("{score} lies outside 0 to {}", rubric.scale_max));
            }
            None => return unreadable(format!("no score for `{}`", criterion.name)),
        }
    }
    if said.scores.0.len() > scores.len() {
        return unreadable("scores for criteria that nobody asked for".to_owned());
    }
    Ok(scores)
}

/// Reads a reply as the winner of one task.
pub(super) fn winner(reply: &str, task: &str) -> Result<Winner, VerdictError> {
    let said: Choice = parse(reply)?;
    checked(&said.task, &said.reason, task)?;
    Ok(said.winner)
}

fn parse<'a, T: Deserialize<'a>>(reply: &'a str) -> Result<T, VerdictError> {
    serde_json::from_str(reply.trim()).map_err(|e| VerdictError::Unreadable(shape_error(&e)))
}

fn checked(said: &str, reason: &str, task: &str) -> Result<(), VerdictError> {
    tracing::debug!(task, reason, "the judge has spoken");
    if said == task { Ok(()) } else { Err(VerdictError::WrongTask) }
}

/// Scores by name; a name that comes twice is an error, for no one knows which was meant.
struct Scores(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Scores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of whole numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scores, A::Error> {
                let mut pairs: Vec<(String, u32)> = Vec::new();
                while let Some((name, score)) = map.next_entry()? {
                    if pairs.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("two scores for `{name}`")));
                    }
                    pairs.push((name, score));
                }
                Ok(Scores(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The `response_format` for grades.
pub(super) fn grades_format(format: VerdictFormat, rubric: &Rubric) -> Option<Value> {
    let score = json!({"type": "integer", "minimum": 0, "maximum": rubric.scale_max});
    let names: Vec<&str> = rubric.criteria.iter().map(|c| c.name.as_str()).collect();
    let scores: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), score.clone())).collect();
    let scores = json!({"type": "object", "properties": scores, "required": names,
        "additionalProperties": false});
    formatted(format, "grades", &json!({"scores": scores}))
}

/// The `response_format` for a winner.
pub(super) fn winner_format(format: VerdictFormat) -> Option<Value> {
    let winner = json!({"type": "string", "enum": ["first", "second", "tie"]});
    formatted(format, "winner", &json!({"winner": winner}))
}

/// The task is free text to the schema: a server that forced the right one onto every verdict would
/// make the check of it worthless.
fn formatted(format: VerdictFormat, name: &str, verdict: &Value) -> Option<Value> {
    let mut properties = json!({
        "task": {"type": "string", "maxLength": 64},
        "reason": {"type": "string", "maxLength": REASON_CHARS_MAX},
    });
    let mut required = vec!["task", "reason"];
    if let (Some(all), Some(verdict)) = (properties.as_object_mut(), verdict.as_object()) {
        required.extend(verdict.keys().map(String::as_str));
        all.extend(verdict.clone());
    }
    let schema = json!({"type": "object", "properties": properties, "required": required,
        "additionalProperties": false});
    match format {
        VerdictFormat::None => None,
        VerdictFormat::JsonObject => Some(json!({"type": "json_object", "schema": schema})),
        VerdictFormat::JsonSchema => Some(json!({"type": "json_schema",
            "json_schema": {"name": name, "strict": true, "schema": schema}})),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_the_verdict_that_was_asked_for_is_read() {
        let rubric = Rubric::load(None).unwrap();
        let good = r#"{"task": "t1", "reason": "ok", "scores": {"correct": 5, "direct": 1, "grounded": 10}}"#;
        assert_eq!(grades(good, "t1", &rubric), Ok(vec![5, 10, 1]));
        assert_eq!(grades(&format!(" {good}\n"), "t1", &rubric), Ok(vec![5, 10, 1]));
        assert_eq!(grades(good, "t2", &rubric), Err(VerdictError::WrongTask));
        for (from, to) in [
            ("5", "11"),
            ("5", "-1"),
            ("5", "5.5"),
            ("5", "1e999"),
            ("5", "NaN"),
            ("5", "null"),
            ("5", "\"5\""),
            ("\"correct\": 5", "\"correct\": 5, \"correct\": 10"),
            ("\"correct\": 5, ", ""),
            ("\"correct\": 5", "\"correct\": 5, \"style\": 5"),
            ("\"reason\": \"ok\", ", ""),
            ("\"reason\"", "\"total\": 10, \"reason\""),
            ("{\"task\"", "Here it is: {\"task\""),
            ("}}", "}} 10"),
            ("}}", "}"),
            (good, "10"),
            (good, "The score is 10 out of 10."),
            (good, "```json\n{}\n```"),
            (good, ""),
            (good, "[]"),
        ] {
            let bad = good.replacen(from, to, 1);
            let found = grades(&bad, "t1", &rubric);
            assert!(matches!(found, Err(VerdictError::Unreadable(_))), "{bad}: {found:?}");
        }
    }

    #[test]
    fn a_winner_is_one_of_three_words() {
        let say = |winner: &str| format!(r#"{{"task": "t", "reason": "", "winner": "{winner}"}}"#);
        assert_eq!(winner(&say("first"), "t"), Ok(Winner::First));
        assert_eq!(winner(&say("tie"), "t"), Ok(Winner::Tie));
        assert_eq!(winner(&say("second"), "u"), Err(VerdictError::WrongTask));
        assert!(winner(&say("both"), "t").is_err());
    }

    #[test]
    fn the_schema_names_every_criterion_and_leaves_the_task_to_the_model() {
        let rubric = Rubric::load(None).unwrap();
        let format = grades_format(VerdictFormat::JsonSchema, &rubric).unwrap();
        let schema = &format["json_schema"]["schema"];
        assert_eq!(schema["properties"]["scores"]["properties"]["correct"]["maximum"], 10);
        assert_eq!(schema["required"], json!(["task", "reason", "scores"]));
        assert_eq!(schema["properties"]["task"], json!({"type": "string", "maxLength": 64}));
        let object = grades_format(VerdictFormat::JsonObject, &rubric).unwrap();
        assert_eq!(object["schema"], *schema);
        assert_eq!(winner_format(VerdictFormat::None), None);
    }
}

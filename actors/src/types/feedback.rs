//! What people and programs say of an answer, later.

use super::{DecisionId, DocumentId};
use serde::{Deserialize, Serialize};

/// What kind of statement feedback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackKind {
    /// How good the answer was: `value`.
    Value,
    /// Answers that are right: `references`.
    References,
    /// What the answer should have been: `correction`.
    Correction,
    /// Documents that somebody opened from the answer: `documents`.
    Citation,
}

/// A statement on a decision that arrives after the answer, perhaps days late, twice, or for
/// nothing known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// Names this feedback among those of its decision; a repeat with the same id is dropped.
    pub id: String,
    /// The decision it is about.
    pub decision_id: DecisionId,
    /// What it is; the field of that kind must be filled. Absent: what is filled says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FeedbackKind>,
    /// A score in [0, 1], if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Reference answers, any of which is right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// The answer as it should have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<String>,
    /// Documents that were opened from the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<DocumentId>,
    /// Who says so: `user`, `application`, a client's name. The last value of each source counts.
    #[serde(default)]
    pub source: String,
    /// When it was given, milliseconds since the Unix epoch; 0 where that is not known.
    #[serde(default)]
    pub time_ms: u64,
}

/// Why feedback is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FeedbackFault {
    /// The field that is wrong.
    pub field: &'static str,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl Feedback {
    /// The field that a fault of the whole names.
    pub const WHOLE: &'static str = "feedback";

    /// Whether it can be used, by its own words.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), FeedbackFault> {
        let wrong = |field, reason: &str| Err(FeedbackFault { field, reason: reason.to_owned() });
        if self.decision_id.as_str().is_empty() {
            return wrong("decision_id", "send the `decision_id` of an answer");
        }
        if let Some(value) = self.value
            && !(0.0..=1.0).contains(&value)
        {
            return wrong("value", &format!("{value} lies outside 0..=1"));
        }
        if self.correction.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return wrong("correction", "is empty; send the answer as it should have been");
        }
        let missing = match self.kind {
            Some(FeedbackKind::Value) => self.value.is_none().then_some("value"),
            Some(FeedbackKind::References) => self.references.is_empty().then_some("references"),
            Some(FeedbackKind::Correction) => self.correction.is_none().then_some("correction"),
            Some(FeedbackKind::Citation) => self.documents.is_empty().then_some("documents"),
            None => None,
        };
        if let Some(field) = missing {
            return wrong("kind", &format!("feedback of this kind needs the field `{field}`"));
        }
        let says_nothing = self.value.is_none()
            && self.references.is_empty()
            && self.correction.is_none()
            && self.documents.is_empty();
        if says_nothing {
            let reason = "it says nothing: send `value`, `references`, `correction` or \
                          `documents`";
            return wrong(Self::WHOLE, reason);
        }
        Ok(())
    }

    /// Stamps it with the time of its coming where it has none, or one that has not come yet;
    /// returns whether its clock was ahead.
    pub fn stamp(&mut self, now_ms: u64) -> bool {
        let is_ahead = self.time_ms > now_ms;
        if is_ahead || self.time_ms == 0 {
            self.time_ms = now_ms;
        }
        is_ahead
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn about() -> Feedback {
        Feedback { id: "f".to_owned(), decision_id: "d".into(), ..Feedback::default() }
    }

    #[test]
    fn feedback_that_cannot_be_used_is_refused_with_its_field() {
        let value = |value| Feedback { value: Some(value), ..about() };
        for good in [0.0, 0.5, 1.0] {
            assert_eq!(value(good).check(), Ok(()));
        }
        let of = |kind| Feedback { kind: Some(kind), source: "u".to_owned(), ..about() };
        for (bad, field) in [
            (value(1.5), "value"),
            (value(-0.1), "value"),
            (value(f64::NAN), "value"),
            (about(), Feedback::WHOLE),
            (Feedback { decision_id: "".into(), ..value(1.0) }, "decision_id"),
            (Feedback { correction: Some("  ".to_owned()), ..about() }, "correction"),
            (Feedback { kind: Some(FeedbackKind::Correction), ..value(1.0) }, "kind"),
            (of(FeedbackKind::Value), "kind"),
            (of(FeedbackKind::References), "kind"),
            (of(FeedbackKind::Citation), "kind"),
        ] {
            assert_eq!(bad.check().unwrap_err().field, field, "{bad:?}");
        }
    }

    #[test]
    fn a_record_of_before_there_were_kinds_is_read() {
        let old = r#"{"id":"f","decision_id":"d","value":0.5,"source":"user","time_ms":3}"#;
        let read: Feedback = serde_json::from_str(old).unwrap();
        assert_eq!((read.value, read.kind, read.time_ms), (Some(0.5), None, 3));
        for bad in [
            r#"{"id":"f","decision_id":"d","value":true}"#,
            r#"{"id":"f","decision_id":"d","value":NaN}"#,
            r#"{"id":"f","decision_id":"d","kind":"applause","value":1}"#,
        ] {
            assert!(serde_json::from_str::<Feedback>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_is_set_to_now() {
        let stamped = |time_ms| {
            let mut feedback = Feedback { time_ms, ..about() };
            (feedback.stamp(100), feedback.time_ms)
        };
        assert_eq!([stamped(0), stamped(7), stamped(101)], [(false, 100), (false, 7), (true, 100)]);
    }
}

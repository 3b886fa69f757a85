//! Typed access to the fields of one line, with errors that name field and expectation.

use super::error::{DatasetError, Place};
use super::lines::kind_of;
use serde_json::{Map, Value};

/// The fields of one object; each is taken once, the rest stays.
pub(super) struct Fields<'a> {
    place: &'a Place,
    object: Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(place: &'a Place, object: Map<String, Value>) -> Self {
        Self { place, object }
    }

    /// A non-empty string under the first of `names` that is present.
    pub(super) fn text(&mut self, names: &[&str]) -> Result<String, DatasetError> {
        let field = names.first().copied().unwrap_or_default();
        match self.given_text(names)? {
            Some(text) => Ok(text),
            None => Err(self.wrong(field, "a non-empty string", "nothing")),
        }
    }

    /// A non-empty string under the first of `names` that is present; `None` where it is missing
    /// or null.
    pub(super) fn given_text(&mut self, names: &[&str]) -> Result<Option<String>, DatasetError> {
        let field = names.first().copied().unwrap_or_default();
        match self.optional_text(names)? {
            Some(text) if text.trim().is_empty() => {
                Err(self.wrong(field, "a non-empty string", "an empty one"))
            }
            found => Ok(found),
        }
    }

    /// A string, or `None` where it is missing or null.
    pub(super) fn optional_text(&mut self, names: &[&str]) -> Result<Option<String>, DatasetError> {
        match self.take(names) {
            None | Some((_, Value::Null)) => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            // Numeric ids are common in public sets and mean the same as their digits.
            Some((_, Value::Number(number))) => Ok(Some(number.to_string())),
            Some((name, other)) => Err(self.wrong(&name, "a string", kind_of(&other))),
        }
    }

    /// A list of strings; one string is a list of one; missing or null is empty.
    pub(super) fn texts(&mut self, names: &[&str]) -> Result<Vec<String>, DatasetError> {
        let (name, values) = match self.take(names) {
            None | Some((_, Value::Null)) => return Ok(Vec::new()),
            Some((_, Value::String(text))) => return Ok(vec![text]),
            Some((name, Value::Array(values))) => (name, values),
            Some((name, other)) => {
                return Err(self.wrong(&name, "a list of strings", kind_of(&other)));
            }
        };
        let mut texts = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                Value::Number(number) => texts.push(number.to_string()),
                other => {
                    let field = format!("{name}[{index}]");
                    return Err(self.wrong(&field, "a string", kind_of(&other)));
                }
            }
        }
        Ok(texts)
    }

    /// An object; missing or null is empty.
    pub(super) fn optional_object(
        &mut self,
        name: &str,
    ) -> Result<Map<String, Value>, DatasetError> {
        match self.object.remove(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(other) => Err(self.wrong(name, "an object", kind_of(&other))),
        }
    }

    /// The fields nobody took.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.object
    }

    pub(super) fn wrong(&self, field: &str, expected: &'static str, found: &str) -> DatasetError {
        DatasetError::Field {
            place: self.place.clone(),
            field: field.to_owned(),
            expected,
            found: found.to_owned(),
        }
    }

    fn take(&mut self, names: &[&str]) -> Option<(String, Value)> {
        names.iter().find_map(|name| Some(((*name).to_owned(), self.object.remove(*name)?)))
    }
}

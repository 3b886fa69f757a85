//! The checks that every configuration section shares.

/// Refuses 0 for a bound or a duration, naming the field.
pub(crate) fn at_least_one(field: &str, value: u64) -> Result<(), String> {
    if value == 0 { Err(format!("{field}: must be at least 1")) } else { Ok(()) }
}

/// Checks a table of `(field, value)` pairs that must all be at least 1.
pub(crate) fn all_at_least_one(fields: &[(&str, u64)]) -> Result<(), String> {
    fields.iter().try_for_each(|(field, value)| at_least_one(field, *value))
}

//! When recorded questions were asked, and in which order they are asked again.

use crate::datasets::Question;
use serde_json::Value;

/// Names under which a file may give the time, the most exact first.
const NAMES: [&str; 4] = ["time_ms", "timestamp", "time", "date"];
const DAY_MS: i64 = 86_400_000;

/// A question and when it was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recorded {
    /// The question.
    pub(super) question: Question,
    /// Milliseconds since the Unix epoch; `None` where no question before it in the file has one.
    pub(super) time_ms: Option<i64>,
}

/// Sorts by time. A question without one keeps its place behind the one before it, so that files
/// without any time stay in their order.
pub(super) fn in_time_order(questions: Vec<Question>) -> Vec<Recorded> {
    let mut last = None;
    let mut recorded: Vec<Recorded> = questions
        .into_iter()
        .map(|question| {
            last = time_of(&question).or(last);
            Recorded { question, time_ms: last }
        })
        .collect();
    recorded.sort_by_key(|recorded| recorded.time_ms);
    recorded
}

fn time_of(question: &Question) -> Option<i64> {
    NAMES.iter().find_map(|name| match question.meta.get(*name)? {
        Value::Number(ms) => ms.as_i64(),
        Value::String(text) => iso_8601_ms(text),
        _ => None,
    })
}

/// `YYYY-MM-DD`, alone or with `THH:MM[:SS[.fff]]` (or a space for the T) and `Z` or nothing, which
/// is UTC too; other offsets are not understood.
fn iso_8601_ms(text: &str) -> Option<i64> {
    let text = text.trim().trim_end_matches(['Z', 'z']);
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(0..=9_999).contains(&year) {
        return None;
    }
    let within = time.map_or(Some(0), milliseconds_of_day)?;
    Some(days_since_epoch(year, month, day) * DAY_MS + within)
}

fn milliseconds_of_day(time: &str) -> Option<i64> {
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse::<i64>().ok()?);
    let second = parts.next().map_or(Some(0.0), |second| second.parse::<f64>().ok())?;
    let is_valid =
        (0..24).contains(&hour) && (0..60).contains(&minute) && (0.0..61.0).contains(&second);
    // Below a day in milliseconds: exact.
    is_valid.then_some((hour * 60 + minute) * 60_000 + (second * 1_000.0).round() as i64)
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `days_from_civil`).
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::datasets::read_questions;

    #[test]
    fn dates_are_milliseconds_since_the_epoch() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            // python: datetime(2024, 2, 29, 12, 30, 1, 500_000, timezone.utc).timestamp()
            ("2024-02-29T12:30:01.5Z", Some(1_709_209_801_500)),
            ("2024-02-29 12:30", Some(1_709_209_800_000)),
            ("1969-12-31", Some(-DAY_MS)),
            ("2024-13-01", None),
            ("yesterday", None),
            ("2024-01-01T25:00", None),
        ] {
            assert_eq!(iso_8601_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn questions_go_by_time_and_without_one_stay_behind_their_neighbour() {
        let text = r#"
            {"id":"first","question":"q"}
            {"id":"march","question":"q","meta":{"date":"2024-03-01"}}
            {"id":"after march","question":"q"}
            {"id":"january","question":"q","time_ms":1704067200000}
        "#;
        let recorded = in_time_order(read_questions("q.jsonl", text.as_bytes()).unwrap());
        let ids: Vec<&str> = recorded.iter().map(|r| r.question.id.as_str()).collect();
        assert_eq!(ids, ["first", "january", "march", "after march"]);
        assert_eq!(recorded[0].time_ms, None);
        assert_eq!(recorded[2].time_ms, recorded[3].time_ms);
    }
}

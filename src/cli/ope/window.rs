//! Points in time as an operator writes them.

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Milliseconds since 1970 of `7d`, `12h`, `30m` before `now_ms`, of a date, a UTC time, or a
/// number.
///
/// # Errors
/// Why the text is none of these.
pub(super) fn parse(text: &str, now_ms: u64) -> Result<u64, String> {
    if let Ok(number) = text.parse::<u64>() {
        return Ok(number);
    }
    for (unit, length) in [("d", DAY_MS), ("h", 3_600_000), ("m", 60_000)] {
        if let Some(count) = text.strip_suffix(unit).and_then(|c| c.parse::<u64>().ok()) {
            return Ok(now_ms.saturating_sub(count.saturating_mul(length)));
        }
    }
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.trim_end_matches('Z')),
        None => (text, "00:00:00"),
    };
    let expected = "expected 7d, 12h, 30m, 2026-01-31, 2026-01-31T12:00:00Z or milliseconds";
    let day = day(date).ok_or(expected)?;
    Ok(day * DAY_MS + of_day(time).ok_or(expected)?)
}

/// Days since 1970 of `YYYY-MM-DD`.
fn day(date: &str) -> Option<u64> {
    let mut parts = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let is_leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    let valid = (1970..10_000).contains(&year) && (1..=length).contains(&day);
    if !valid || parts.next().is_some() {
        return None;
    }
    let years = (1970..year).map(|y| if is_leap(y) { 366 } else { 365 }).sum::<u64>();
    Some(years + lengths.iter().take(month as usize - 1).sum::<u64>() + day - 1)
}

/// Milliseconds since midnight of `HH:MM` or `HH:MM:SS`.
fn of_day(time: &str) -> Option<u64> {
    let parts: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    match parts[..] {
        [h, m] if h < 24 && m < 60 => Some((h * 60 + m) * 60_000),
        [h, m, s] if h < 24 && m < 60 && s < 60 => Some(((h * 60 + m) * 60 + s) * 1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::parse;

    #[test]
    fn times_are_what_they_say() {
        let now = 1_000_000_000_000;
        assert_eq!(parse("1234", now), Ok(1_234));
        assert_eq!(parse("7d", now), Ok(now - 604_800_000));
        assert_eq!(parse("12h", now), Ok(now - 43_200_000));
        assert_eq!(parse("99999999d", now), Ok(0));
        assert_eq!(parse("1970-01-01", now), Ok(0));
        assert_eq!(parse("2024-03-01", now), Ok(1_709_251_200_000));
        assert_eq!(parse("2001-09-09T01:46:40Z", now), Ok(1_000_000_000_000));
        assert_eq!(parse("2001-09-09 01:46", now), Ok(999_999_960_000));
    }

    #[test]
    fn what_is_no_time_is_told_what_one_looks_like() {
        for text in ["yesterday", "2023-02-29", "2024-13-01", "2024-1-1-1", "2024-01-01T25:00", ""]
        {
            assert!(parse(text, 0).unwrap_err().contains("expected 7d"), "{text}");
        }
    }
}

//! When to ask again: pauses, and what `Retry-After` says.

use actors::clock::Clock;
use rand::Rng;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::{Duration, UNIX_EPOCH};

/// The pause after so many failures: doubled each time up to `max`, then varied in [0.5, 1].
pub(super) fn pause(failures: u32, base: Duration, max: Duration, rng: &mut impl Rng) -> Duration {
    let doubled = base.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(0));
    // A shift too far is a pause beyond any limit.
    let doubled = if doubled.is_zero() { max } else { doubled.min(max) };
    doubled.mul_f64(rng.random_range(0.5..=1.0))
}

/// How long the server asks us to wait: seconds, or a date to be measured against `clock`.
/// `None` where it says nothing or nothing readable.
pub(super) fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let at = date.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(at.saturating_sub(Duration::from_millis(clock.now_ms())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn pauses_double_up_to_their_limit_and_vary() {
        let mut rng = StdRng::seed_from_u64(1);
        let (base, max) = (Duration::from_millis(100), Duration::from_secs(1));
        for (failures, longest) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (90, 1_000)] {
            for _ in 0..50 {
                let found = pause(failures, base, max, &mut rng);
                let longest = Duration::from_millis(longest);
                assert!(found <= longest && found >= longest / 2, "{failures}: {found:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_read_as_seconds_and_as_a_date() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let clock = Clock::simulated(784_111_777_000);
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, &clock)
        };
        assert_eq!(read(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO), "gone by");
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), &clock), None);
    }
}

//! Retries of one call: bounded in number and in time, with pauses that back off and vary.
//!
//! A pause that would end after the deadline is not begun: the caller gets the error at once and can
//! still do something else.

use super::telemetry;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Bounds of the retries of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Attempts, the first included, ≥ 1.
    pub attempts_max: u32,
    /// Pause after the first failure, milliseconds, ≥ 1; doubled for each further one, then drawn
    /// from its upper half.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ `backoff_ms`; what a service asks for may be longer.
    pub backoff_max_ms: u64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { attempts_max: 3, backoff_ms: 50, backoff_max_ms: 1_000 }
    }
}

impl RetryConfig {
    /// The first field that is wrong, and what it may be.
    ///
    /// # Errors
    /// `(field, expected)`.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if self.attempts_max == 0 {
            return Err(("attempts_max", "a number of at least 1"));
        }
        if self.backoff_ms == 0 {
            return Err(("backoff_ms", "a number of at least 1"));
        }
        if self.backoff_max_ms < self.backoff_ms {
            return Err(("backoff_max_ms", "a number of at least `backoff_ms`"));
        }
        Ok(())
    }

    /// The pause after so many failures (≥ 1), before chance.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = 2_u64.saturating_pow(failures.saturating_sub(1));
        Duration::from_millis(self.backoff_ms.saturating_mul(doubled).min(self.backoff_max_ms))
    }
}

/// What an error means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// It would fail the same way.
    GiveUp,
    /// It may succeed.
    Again,
    /// It may succeed, but not before that: the service said so.
    AgainAfter(Duration),
}

/// The retries of one target.
#[derive(Debug)]
pub struct Retry {
    target: &'static str,
    config: RetryConfig,
    // Held for one draw, never across an await.
    rng: Mutex<StdRng>,
}

impl Retry {
    /// Retries calls of `target`, the word in the metrics; pauses vary by `rng`.
    pub fn new(target: &'static str, config: RetryConfig, rng: StdRng) -> Self {
        Self { target, config, rng: Mutex::new(rng) }
    }

    /// Makes the call until it succeeds, its error says to give up, no attempt is left, or the next
    /// would begin after `deadline`. An attempt under way is not cut off: it minds the deadline
    /// itself.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn run<T, E, F>(
        &self,
        deadline: Instant,
        advise: impl Fn(&E) -> Advice,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: std::error::Error,
        F: Future<Output = Result<T, E>>,
    {
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            let asked = match advise(&error) {
                Advice::GiveUp => return Err(error),
                Advice::Again => Duration::ZERO,
                Advice::AgainAfter(asked) => asked,
            };
            let pause = self.varied(self.config.pause(failures)).max(asked);
            let next = Instant::now().checked_add(pause);
            if failures >= self.config.attempts_max || next.is_none_or(|next| next >= deadline) {
                return Err(error);
            }
            telemetry::retries(self.target, &error, failures, pause);
            sleep(pause).await;
        }
    }

    /// Between a half and the whole, so that those who failed together do not come back together.
    fn varied(&self, pause: Duration) -> Duration {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        pause.mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use rand::SeedableRng as _;
    use std::cell::RefCell;

    #[derive(Debug, thiserror::Error, PartialEq)]
    #[error("failure {0}")]
    struct Failure(u32);

    fn retry(attempts_max: u32) -> Retry {
        let config = RetryConfig { attempts_max, backoff_ms: 100, backoff_max_ms: 400 };
        Retry::new("test", config, StdRng::seed_from_u64(1))
    }

    /// Fails `failures` times; gives the result and when each attempt began, since the first.
    async fn run(
        retry: &Retry,
        failures: u32,
        budget: Duration,
        advice: Advice,
    ) -> (Result<&'static str, Failure>, Vec<Duration>) {
        let (began, times) = (Instant::now(), RefCell::new(Vec::new()));
        let attempt = || {
            times.borrow_mut().push(began.elapsed());
            let n = times.borrow().len() as u32;
            async move { if n > failures { Ok("done") } else { Err(Failure(n)) } }
        };
        let result = retry.run(began + budget, |_| advice, attempt).await;
        (result, times.into_inner())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn pauses_double_vary_within_their_upper_half_and_end_at_the_longest() {
        let (result, times) = run(&retry(6), 5, LONG, Advice::Again).await;
        assert_eq!(result, Ok("done"));
        let pauses: Vec<u128> = times.windows(2).map(|t| (t[1] - t[0]).as_millis()).collect();
        for (pause, whole) in pauses.iter().zip([100, 200, 400, 400, 400]) {
            assert!((whole / 2..=whole + 1).contains(pause), "{pauses:?}");
        }
        let (_, others) = run(&retry(6), 5, LONG, Advice::Again).await;
        assert_eq!(times, others, "a seed repeats its pauses");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_bounded_and_the_last_error_is_told() {
        let (result, times) = run(&retry(3), 9, LONG, Advice::Again).await;
        assert_eq!((result, times.len()), (Err(Failure(3)), 3));
        let (result, times) = run(&retry(1), 9, LONG, Advice::Again).await;
        assert_eq!((result, times.len()), (Err(Failure(1)), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_would_repeat_is_not_tried_again() {
        let (result, times) = run(&retry(3), 9, LONG, Advice::GiveUp).await;
        assert_eq!((result, times.len()), (Err(Failure(1)), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_ends_after_the_deadline_is_not_begun() {
        let began = Instant::now();
        let budget = Duration::from_millis(120);
        let (result, times) = run(&retry(9), 9, budget, Advice::Again).await;
        assert_eq!((result, times.len()), (Err(Failure(2)), 2));
        assert!(began.elapsed() < budget, "the rest of the time is left to the caller");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_names_a_time_is_not_asked_before_it() {
        let asked = Duration::from_secs(7);
        let (result, times) = run(&retry(2), 1, LONG, Advice::AgainAfter(asked)).await;
        assert_eq!(result, Ok("done"));
        assert!(times[1] >= asked, "{times:?}");
        let short = Duration::from_secs(6);
        let (result, times) = run(&retry(2), 1, short, Advice::AgainAfter(asked)).await;
        assert_eq!((result, times.len()), (Err(Failure(1)), 1), "there is no time to wait for it");
    }

    #[test]
    fn bounds_that_make_no_sense_are_named() {
        let good = RetryConfig::default();
        assert_eq!(good.validate(), Ok(()));
        for (config, field) in [
            (RetryConfig { attempts_max: 0, ..good }, "attempts_max"),
            (RetryConfig { backoff_ms: 0, ..good }, "backoff_ms"),
            (RetryConfig { backoff_max_ms: 1, ..good }, "backoff_max_ms"),
        ] {
            assert_eq!(config.validate().unwrap_err().0, field);
        }
        let far = RetryConfig { backoff_max_ms: u64::MAX, ..good };
        assert_eq!(far.pause(200), Duration::from_millis(u64::MAX), "no overflow");
    }
}

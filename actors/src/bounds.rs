//! What keeps every actor within its limits: checks of configuration values, lanes for concurrent
//! work, and a guard around work that may hang or panic.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Refuses 0 for a bound or a duration, naming the field.
pub(crate) fn at_least_one(field: &str, value: u64) -> Result<(), String> {
    if value == 0 { Err(format!("{field}: must be at least 1")) } else { Ok(()) }
}

/// Checks a table of `(field, value)` pairs that must all be at least 1.
pub(crate) fn all_at_least_one(fields: &[(&str, u64)]) -> Result<(), String> {
    fields.iter().try_for_each(|(field, value)| at_least_one(field, *value))
}

/// So many at once, so many waiting, the next refused.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    running_max: usize,
    waiting_max: usize,
    running: usize,
    waiting: VecDeque<T>,
}

impl<T> Lanes<T> {
    pub(crate) fn new(running_max: usize, waiting_max: usize) -> Self {
        Self { running_max, waiting_max, running: 0, waiting: VecDeque::new() }
    }

    /// Gives the item back if it may run now, keeps it if it must wait, refuses it if full.
    pub(crate) fn admit(&mut self, item: T) -> Result<Option<T>, T> {
        if self.running < self.running_max {
            self.running += 1;
            return Ok(Some(item));
        }
        if self.waiting.len() >= self.waiting_max {
            return Err(item);
        }
        self.waiting.push_back(item);
        Ok(None)
    }

    /// One is over; gives the next that may run and is still wanted.
    pub(crate) fn finished(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        self.running = self.running.saturating_sub(1);
        while let Some(item) = self.waiting.pop_front() {
            if is_wanted(&item) {
                self.running += 1;
                return Some(item);
            }
        }
        None
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// Why guarded work gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("no result within {0:?}")]
    Deadline(Duration),
    #[error("it panicked")]
    Panicked,
}

/// Runs work and gives the words of its panic, if it panics. What the work was changing may be
/// half-way then: whoever catches must throw it away.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("no reason given").to_owned()
    })
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs work in a task of its own, so that its panic stays there, and gives up after `deadline`.
pub(crate) async fn guarded<T: Send + 'static>(
    deadline: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Broken> {
    let mut task = AbortOnDrop(ractor::concurrency::spawn(work.in_current_span()));
    match tokio::time::timeout(deadline, &mut task.0).await {
        Err(_) => Err(Broken::Deadline(deadline)),
        Ok(Err(_)) => Err(Broken::Panicked),
        Ok(Ok(value)) => Ok(value),
    }
}

/// A pause that backs off from `base` and varies by the caller's dice in [0.5, 1].
pub(crate) fn jittered(delay: Duration, rng: &mut impl rand::Rng) -> Duration {
    delay.mul_f64(rng.random_range(0.5..=1.0))
}

/// A seed from the operating system's entropy, for services that must not repeat themselves.
pub(crate) fn entropy_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

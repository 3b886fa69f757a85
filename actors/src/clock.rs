//! The one place that reads the wall clock: the stamps of records.
//!
//! Floor 0. Deadlines and pauses never come from here; they are tokio's. A simulated clock follows
//! tokio's (which a test may pause), so that records are stamped in simulated time.

use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Where milliseconds since the Unix epoch come from.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The system's wall clock.
    #[default]
    System,
    /// A fixed start plus tokio's elapsed time.
    Simulated {
        /// Milliseconds since the Unix epoch at `started`.
        start_ms: u64,
        /// The instant that stands for `start_ms`.
        started: Instant,
    },
}

impl Clock {
    /// A clock that shows `start_ms` now and follows tokio's time from here.
    pub fn simulated(start_ms: u64) -> Self {
        Self::Simulated { start_ms, started: Instant::now() }
    }

    /// Milliseconds since the Unix epoch; 0 on a system clock set before it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::System => {
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
            }
            Self::Simulated { start_ms, started } => {
                let elapsed = Instant::now().saturating_duration_since(*started);
                start_ms.saturating_add(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }
}

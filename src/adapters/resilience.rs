//! What every client of another service needs: bounded retries, a circuit breaker, and their metrics.
//!
//! Knows no service and no wire: an adapter says what an error of its own means for the next try.

mod breaker;
mod retry;
mod telemetry;

pub use breaker::{Breaker, BreakerConfig, BreakerState, NotAdmitted, Outcome, Permit};
pub use retry::{Advice, Retry, RetryConfig};
pub use telemetry::{METRICS, called, not_admitted};

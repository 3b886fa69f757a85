//! What is tried again, after which pause, and how often.
//!
//! Knows no wire beyond the causes in [`Trouble`].

use super::HttpEmbedderConfig;
use crate::retrieval::EmbedError;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Why a request gave no vectors.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server has too much to do, or fails inside; perhaps it says how long to wait.
    Busy { status: u16, wait: Option<Duration>, body: String },
    /// The answer is cut off or no JSON.
    Broken(String),
    /// No answer: no connection, or none in time.
    Network(String),
    /// The server understood and refused, or answers what cannot be used; no retry helps.
    Refused(String),
}

impl Trouble {
    pub(super) fn network(error: &reqwest::Error) -> Self {
        let mut text =
            if error.is_timeout() { "no answer in time".to_owned() } else { String::new() };
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{error}");
            cause = error.source();
        }
        Self::Network(text)
    }

    /// The label of the counter.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Broken(_) | Self::Refused(_) => "broken",
            Self::Network(_) => "network",
        }
    }

    pub(super) fn into_error(self, url: &str, tried: u32) -> EmbedError {
        match self {
            Self::Refused(_) => EmbedError::Refused(format!("{url}: {self}")),
            _ => EmbedError::Unavailable(format!("{url}: {self} (tried {tried} times)")),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { status, body, .. } => write!(f, "status {status}: {body}"),
            Self::Broken(what) | Self::Network(what) | Self::Refused(what) => f.write_str(what),
        }
    }
}

/// The pauses of one request.
pub(super) struct Pause {
    left: u32,
    tried: u32,
    next: Duration,
    longest: Duration,
}

impl Pause {
    pub(super) fn new(config: &HttpEmbedderConfig) -> Self {
        Self {
            left: config.retries,
            tried: 0,
            next: Duration::from_millis(config.backoff_ms),
            longest: Duration::from_millis(config.backoff_max_ms),
        }
    }

    /// Requests sent so far.
    pub(super) fn tried(&self) -> u32 {
        self.tried
    }

    /// How long to wait before the next request; `None` to give up.
    pub(super) fn after(&mut self, trouble: &Trouble, rng: &Mutex<StdRng>) -> Option<Duration> {
        self.tried += 1;
        if self.left == 0 || matches!(trouble, Trouble::Refused(_)) {
            return None;
        }
        self.left -= 1;
        let asked = match trouble {
            Trouble::Busy { wait, .. } => *wait,
            _ => None,
        };
        let step = self.next;
        self.next = (self.next * 2).min(self.longest);
        if let Some(asked) = asked {
            return (asked <= self.longest).then_some(asked);
        }
        // Half to all of the step: clients that failed together do not come back together.
        let share = rng.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.5..=1.0);
        Some(step.mul_f64(share))
    }
}

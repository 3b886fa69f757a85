//! In-memory implementations of every port, scripted and deterministic, for tests and simulations.
//!
//! Feature `fakes`. Each has a [`Knob`] that makes its next calls slow, fail or panic; the log
//! keeps the semantics that its port documents and loses its memory only with the process.

mod examiner;
mod log;
mod models;
mod world;

pub use examiner::{FakeExaminer, FakeSeal, Findings};
pub use log::MemoryLog;
pub use models::{FakeLearner, FakePolicy, Lesson, snapshot, snapshot_with};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
pub use world::{FakeGenerator, FakeIndex, FakeJudge, FakeRewriter, MemorySnapshots, World};

/// What the next calls of a fake do.
#[derive(Debug, Default)]
pub struct Knob {
    calls: AtomicU64,
    failures: AtomicU32,
    panics: AtomicU32,
    delay_ms: AtomicU64,
    poison: Mutex<Option<String>>,
}

impl Knob {
    /// Makes the next `n` calls fail.
    pub fn fail_next(&self, n: u32) {
        self.failures.store(n, SeqCst);
    }

    /// Makes the next `n` calls panic.
    pub fn panic_next(&self, n: u32) {
        self.panics.store(n, SeqCst);
    }

    /// Makes every call take this long (tokio's time).
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), SeqCst);
    }

    /// Makes every call that is given this text panic.
    pub fn panic_on(&self, text: &str) {
        *self.poison.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }

    /// Panics if the text is the one told by [`Knob::panic_on`].
    #[expect(clippy::panic, reason = "the fault that this knob exists for")]
    pub fn taste(&self, text: &str) {
        let is_poison =
            self.poison.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(text);
        if is_poison {
            panic!("scripted poison");
        }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    /// Counts a call, waits, and fails or panics if told to.
    pub async fn pass(&self) -> Result<(), String> {
        let delay = self.delay_ms.load(SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        self.pass_now()
    }

    /// The same without waiting, for synchronous ports.
    #[expect(clippy::panic, reason = "the fault that this knob exists for")]
    pub fn pass_now(&self) -> Result<(), String> {
        self.calls.fetch_add(1, SeqCst);
        let spend =
            |left: &AtomicU32| left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
        if spend(&self.panics) {
            panic!("scripted panic");
        }
        if spend(&self.failures) { Err("scripted failure".to_owned()) } else { Ok(()) }
    }
}

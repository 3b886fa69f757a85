//! The one door: so many queries at once, so many waiting, the next refused at once.
//!
//! Behind it every serving mailbox holds at most one message per admitted query, which is what
//! bounds them. Counts every query in and out.

use super::{AdmissionConfig, ServiceError};
use crate::episode::Failure;
use crate::invariants::queries_are_conserved;
use crate::telemetry;
use crate::types::Served;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counters of the door since the service started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorObserved {
    /// Queries let in.
    pub accepted: u64,
    /// Of these, answered or reranked.
    pub answered: u64,
    /// Of these, failed with a reason.
    pub failed: u64,
    /// Of these, being worked on.
    pub in_flight: u64,
    /// Queries refused because the door was full.
    pub overloaded: u64,
    /// Queries refused because they were wrong or the service does not serve.
    pub refused: u64,
}

impl DoorObserved {
    /// Whether the conservation law of queries holds.
    pub fn is_conserved(&self) -> bool {
        queries_are_conserved(self.accepted, self.answered, self.failed, self.in_flight)
    }
}

pub(super) struct Door {
    config: AdmissionConfig,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    is_closed: AtomicBool,
    accepted: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    overloaded: AtomicU64,
    refused: AtomicU64,
}

impl Door {
    pub(super) fn new(config: AdmissionConfig) -> Self {
        Self {
            config,
            places: Arc::new(Semaphore::new(config.in_flight_max)),
            waiting: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Lets a query in, at once or after a bounded wait in a bounded queue.
    pub(super) async fn enter(self: &Arc<Self>) -> Result<Passage, ServiceError> {
        if self.is_closed.load(SeqCst) {
            return Err(self.refuse(ServiceError::NotServing("the service is draining".into())));
        }
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.queue().await?,
        };
        self.accepted.fetch_add(1, SeqCst);
        metrics::gauge!(telemetry::IN_FLIGHT).increment(1.0);
        Ok(Passage { door: Arc::clone(self), _place: place, is_settled: false })
    }

    async fn queue(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let _waiter = Waiter::join(&self.waiting, self.config.queue_max).ok_or_else(|| {
            self.overloaded.fetch_add(1, SeqCst);
            telemetry::count(telemetry::EPISODES, "outcome", "overloaded");
            ServiceError::Overloaded
        })?;
        let wait = Duration::from_millis(self.config.queue_wait_ms);
        match tokio::time::timeout(wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => {
                self.overloaded.fetch_add(1, SeqCst);
                telemetry::count(telemetry::EPISODES, "outcome", "overloaded");
                Err(ServiceError::Overloaded)
            }
        }
    }

    /// Counts a query that is not let in.
    pub(super) fn refuse(&self, error: ServiceError) -> ServiceError {
        self.refused.fetch_add(1, SeqCst);
        telemetry::count(telemetry::EPISODES, "outcome", "refused");
        error
    }

    /// Share of the places that are taken, in [0, 1].
    #[expect(clippy::cast_precision_loss, reason = "places are few")]
    pub(super) fn load(&self) -> f64 {
        let free = self.places.available_permits();
        1.0 - free as f64 / self.config.in_flight_max.max(1) as f64
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, SeqCst);
    }

    /// Waits until nobody is inside; `false` if that took longer.
    pub(super) async fn emptied(&self, wait: Duration) -> bool {
        let all = u32::try_from(self.config.in_flight_max).unwrap_or(u32::MAX);
        tokio::time::timeout(wait, self.places.acquire_many(all)).await.is_ok()
    }

    pub(super) fn observe(&self) -> DoorObserved {
        let (answered, failed) = (self.answered.load(SeqCst), self.failed.load(SeqCst));
        // Read last, so that a query that leaves meanwhile counts as in flight, never twice.
        let accepted = self.accepted.load(SeqCst);
        DoorObserved {
            accepted,
            answered,
            failed,
            in_flight: accepted.saturating_sub(answered + failed),
            overloaded: self.overloaded.load(SeqCst),
            refused: self.refused.load(SeqCst),
        }
    }
}

/// One query inside. Dropped without a result (a panic) it counts as failed.
pub(super) struct Passage {
    door: Arc<Door>,
    _place: OwnedSemaphorePermit,
    is_settled: bool,
}

impl Passage {
    pub(super) fn settle(mut self, result: &Result<Served, Failure>) {
        self.is_settled = true;
        let (counter, outcome) = match result {
            Ok(served) if served.answer.is_none() => (&self.door.answered, "reranked"),
            Ok(_) => (&self.door.answered, "answered"),
            Err(_) => (&self.door.failed, "failed"),
        };
        counter.fetch_add(1, SeqCst);
        telemetry::count(telemetry::EPISODES, "outcome", outcome);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        metrics::gauge!(telemetry::IN_FLIGHT).decrement(1.0);
        if !self.is_settled {
            self.door.failed.fetch_add(1, SeqCst);
            telemetry::count(telemetry::EPISODES, "outcome", "failed");
        }
    }
}

struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn join(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let joined = waiting.fetch_update(SeqCst, SeqCst, |n| (n < max).then_some(n + 1));
        joined.is_ok().then_some(Self(waiting))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

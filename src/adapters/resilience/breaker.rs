//! A circuit breaker: after so many failures in a row nobody is sent any more for a while, then one
//! at a time is, until enough of them came back well.
//!
//! [`Machine`] is the rule, without clock or lock; [`Breaker`] puts both around it. Knows no service.

use super::telemetry;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Beyond this a cool-down is for ever, and a clock may not hold its end.
const COOLDOWN_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// When a breaker opens and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures in a row that open it, ≥ 1.
    pub failures_max: u32,
    /// How long nobody is let through then, milliseconds, ≥ 1.
    pub cooldown_ms: u64,
    /// Successes, one call at a time, that close it again, ≥ 1.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures_max: 5, cooldown_ms: 5_000, probes: 1 }
    }
}

impl BreakerConfig {
    /// The first field that is wrong, and what it may be.
    ///
    /// # Errors
    /// `(field, expected)`.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        let fields = [
            ("failures_max", u64::from(self.failures_max)),
            ("cooldown_ms", self.cooldown_ms),
            ("probes", u64::from(self.probes)),
        ];
        match fields.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err((field, "a number of at least 1")),
            None => Ok(()),
        }
    }
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everybody is let through.
    Closed,
    /// One at a time is, on trial.
    HalfOpen,
    /// Nobody is.
    Open,
}

/// How a call that was let through ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service did its work.
    Success,
    /// The service was away or too slow.
    Failure,
    /// It says nothing about the service's health: a request that is wrong, a limit of rate.
    Neither,
}

/// A call was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("circuit breaker is open for another {} ms", .left.as_millis())]
pub struct NotAdmitted {
    /// Time until the next call may be let through; zero while one is on trial.
    pub left: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    HalfOpen { is_probing: bool, successes: u32 },
    Open { until: Instant },
}

/// The rule. Outcomes of calls let through before the last move are ignored: they tell of a time
/// that is over.
#[derive(Debug)]
struct Machine {
    config: BreakerConfig,
    state: State,
    generation: u64,
}

impl Machine {
    fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed { failures: 0 }, generation: 0 }
    }

    fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
            State::Open { .. } => BreakerState::Open,
        }
    }

    /// Lets a call through and gives the generation it belongs to.
    fn admit(&mut self, now: Instant) -> Result<u64, NotAdmitted> {
        match self.state {
            State::Closed { .. } => {}
            State::HalfOpen { is_probing: true, .. } => {
                return Err(NotAdmitted { left: Duration::ZERO });
            }
            State::HalfOpen { successes, .. } => {
                self.state = State::HalfOpen { is_probing: true, successes };
            }
            State::Open { until } if now < until => {
                return Err(NotAdmitted { left: until - now });
            }
            State::Open { .. } => self.go(State::HalfOpen { is_probing: true, successes: 0 }),
        }
        Ok(self.generation)
    }

    fn settle(&mut self, generation: u64, outcome: Outcome, now: Instant) {
        if generation != self.generation {
            return;
        }
        let cooldown = Duration::from_millis(self.config.cooldown_ms).min(COOLDOWN_MAX);
        let open = State::Open { until: now + cooldown };
        match (self.state, outcome) {
            (State::Closed { .. }, Outcome::Success) => self.state = State::Closed { failures: 0 },
            (State::Closed { failures }, Outcome::Failure) => {
                let failures = failures + 1;
                if failures >= self.config.failures_max {
                    self.go(open);
                } else {
                    self.state = State::Closed { failures };
                }
            }
            (State::HalfOpen { successes, .. }, Outcome::Success) => {
                let successes = successes + 1;
                if successes >= self.config.probes {
                    self.go(State::Closed { failures: 0 });
                } else {
                    self.state = State::HalfOpen { is_probing: false, successes };
                }
            }
            (State::HalfOpen { .. }, Outcome::Failure) => self.go(open),
            (State::HalfOpen { successes, .. }, Outcome::Neither) => {
                self.state = State::HalfOpen { is_probing: false, successes };
            }
            (State::Closed { .. }, Outcome::Neither) | (State::Open { .. }, _) => {}
        }
    }

    fn go(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }
}

/// The breaker in front of one target.
#[derive(Debug)]
pub struct Breaker {
    target: &'static str,
    // Held for one step of the machine, never across an await.
    machine: Mutex<Machine>,
}

impl Breaker {
    /// A closed breaker; `target` is the word in the metrics.
    pub fn new(target: &'static str, config: BreakerConfig) -> Self {
        telemetry::breaker_stands(target, BreakerState::Closed);
        Self { target, machine: Mutex::new(Machine::new(config)) }
    }

    /// Lets a call through, or not.
    ///
    /// # Errors
    /// The breaker is open, or half-open with a call on trial.
    pub fn admit(&self) -> Result<Permit<'_>, NotAdmitted> {
        let generation = self.step(|machine| machine.admit(Instant::now()))?;
        Ok(Permit { breaker: self, generation, outcome: None })
    }

    /// Where it stands.
    pub fn state(&self) -> BreakerState {
        self.step(|machine| machine.state())
    }

    fn step<T>(&self, step: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let before = machine.state();
        let result = step(&mut machine);
        let after = machine.state();
        drop(machine);
        if before != after {
            telemetry::breaker_moved(self.target, after);
        }
        result
    }
}

/// The leave to make one call. Dropped without an outcome it counts as a failure: whoever made the
/// call ran out of time waiting for it.
#[derive(Debug)]
#[must_use = "dropped at once it counts as a failure"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    generation: u64,
    outcome: Option<Outcome>,
}

impl Permit<'_> {
    /// Says how the call ended.
    pub fn settle(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or(Outcome::Failure);
        let (generation, now) = (self.generation, Instant::now());
        self.breaker.step(|machine| machine.settle(generation, outcome, now));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn breaker() -> Breaker {
        Breaker::new("test", BreakerConfig { failures_max: 3, cooldown_ms: 1_000, probes: 2 })
    }

    fn settle(breaker: &Breaker, outcomes: &[Outcome]) {
        for outcome in outcomes {
            breaker.admit().unwrap().settle(*outcome);
        }
    }

    use Outcome::{Failure, Neither, Success};

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let breaker = breaker();
        settle(&breaker, &[Failure, Failure, Success, Failure, Neither, Failure]);
        assert_eq!(breaker.state(), BreakerState::Closed);
        settle(&breaker, &[Failure]);
        assert_eq!(breaker.state(), BreakerState::Open);
        tokio::time::advance(Duration::from_millis(400)).await;
        let refused = breaker.admit().unwrap_err();
        assert_eq!(refused.left, Duration::from_millis(600));
        assert_eq!(refused.to_string(), "circuit breaker is open for another 600 ms");
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_cool_down_one_at_a_time_is_on_trial_until_enough_came_back() {
        let breaker = breaker();
        settle(&breaker, &[Failure; 3]);
        tokio::time::advance(Duration::from_millis(1_000)).await;
        let probe = breaker.admit().unwrap();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert_eq!(breaker.admit().unwrap_err().left, Duration::ZERO);
        probe.settle(Success);
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "two are asked for");
        settle(&breaker, &[Neither, Success]);
        assert_eq!(breaker.state(), BreakerState::Closed);
        settle(&breaker, &[Failure, Failure]);
        assert_eq!(breaker.state(), BreakerState::Closed, "the count begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_trial_opens_it_for_a_whole_cool_down_again() {
        let breaker = breaker();
        settle(&breaker, &[Failure; 3]);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        settle(&breaker, &[Success, Failure]);
        assert_eq!(breaker.admit().unwrap_err().left, Duration::from_millis(1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_counts_as_a_failure_and_frees_its_place() {
        let breaker = breaker();
        for _ in 0..3 {
            drop(breaker.admit().unwrap());
        }
        assert_eq!(breaker.state(), BreakerState::Open);
        tokio::time::advance(Duration::from_millis(1_000)).await;
        drop(breaker.admit().unwrap());
        assert_eq!(breaker.state(), BreakerState::Open);
        tokio::time::advance(Duration::from_millis(1_000)).await;
        settle(&breaker, &[Success, Success]);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_an_earlier_time_move_nothing() {
        let breaker = breaker();
        let late: Vec<_> = (0..4).map(|_| breaker.admit().unwrap()).collect();
        settle(&breaker, &[Failure; 3]);
        tokio::time::advance(Duration::from_millis(900)).await;
        for permit in late {
            permit.settle(Failure);
        }
        assert_eq!(breaker.admit().unwrap_err().left, Duration::from_millis(100));
        tokio::time::advance(Duration::from_millis(100)).await;
        settle(&breaker, &[Success, Success]);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn bounds_of_zero_are_named() {
        let good = BreakerConfig::default();
        assert_eq!(good.validate(), Ok(()));
        for (config, field) in [
            (BreakerConfig { failures_max: 0, ..good }, "failures_max"),
            (BreakerConfig { cooldown_ms: 0, ..good }, "cooldown_ms"),
            (BreakerConfig { probes: 0, ..good }, "probes"),
        ] {
            assert_eq!(config.validate().unwrap_err().0, field);
        }
    }
}

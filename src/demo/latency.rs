//! Latency of the answer path, told apart by what the service was doing.

use serde::Serialize;
use std::time::Duration;

/// Requests counted as "during" a swap are those in flight within this distance of it.
const AROUND_MS: u64 = 500;

/// One answered request, milliseconds since the traffic began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub started_ms: u64,
    pub ended_ms: u64,
}

/// Percentiles of one phase, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Phase {
    /// Requests in the phase.
    pub requests: usize,
    /// Median.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
}

/// The three phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    /// Before the first swap.
    pub before: Phase,
    /// In flight around a swap.
    pub during: Phase,
    /// After the first swap, away from any.
    pub after: Phase,
}

impl Latency {
    pub(super) fn new(requests: &[Request], swaps: &[Duration]) -> Self {
        let swaps: Vec<u64> = swaps.iter().map(|s| s.as_millis() as u64).collect();
        let around = |r: &Request| {
            swaps.iter().any(|&s| r.started_ms <= s + AROUND_MS && r.ended_ms + AROUND_MS >= s)
        };
        let first = swaps.first().copied().unwrap_or(u64::MAX);
        let of = |keep: &dyn Fn(&Request) -> bool| {
            phase(requests.iter().filter(|r| keep(r)).map(|r| r.ended_ms - r.started_ms).collect())
        };
        Self {
            before: of(&|r| !around(r) && r.ended_ms < first),
            during: of(&around),
            after: of(&|r| !around(r) && r.ended_ms >= first),
        }
    }
}

fn phase(mut times: Vec<u64>) -> Phase {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (share * times.len() as f64) as usize;
        times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    Phase { requests: times.len(), p50: at(0.5), p95: at(0.95), p99: at(0.99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fall_into_their_phase() {
        let request = |started_ms, ended_ms| Request { started_ms, ended_ms };
        let requests =
            [request(0, 10), request(900, 1000), request(1600, 1640), request(5000, 5007)];
        let latency = Latency::new(&requests, &[Duration::from_millis(1500)]);
        assert_eq!((latency.before.requests, latency.before.p50), (1, 10));
        assert_eq!((latency.during.requests, latency.during.p99), (2, 100));
        assert_eq!((latency.after.requests, latency.after.p50), (1, 7));
    }
}

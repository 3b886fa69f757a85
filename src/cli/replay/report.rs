//! What a replay came to, as one JSON document.

use super::traffic::{Answered, Traffic};
use actors::service::{DoorObserved, Observed};
use actors::types::PolicyStamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Parts of the traffic for which F1 is told.
const PARTS: usize = 100;

/// The report. F1 is SQuAD token F1 in [0, 1], best over the gold answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// Questions asked.
    pub(super) questions: usize,
    /// Seed of the run.
    pub(super) seed: u64,
    /// Weight swaps while it ran.
    pub(super) swaps: u64,
    /// Questions that got no answer.
    pub(super) failed_requests: u64,
    /// The same by the service's word for why.
    pub(super) failed_by: BTreeMap<&'static str, u64>,
    /// Answers to questions without gold answers: asked, not scored.
    pub(super) unscored: u64,
    /// Mean F1 of the scored answers.
    pub(super) f1: f64,
    /// Mean exact match.
    pub(super) em: f64,
    /// Mean F1 of each hundredth of the traffic in the order asked; null where none was scored.
    pub(super) f1_by_hundredth: Vec<Option<f64>>,
    /// Mean number of documents.
    pub(super) k_mean: f64,
    /// Mean context tokens.
    pub(super) context_tokens_mean: f64,
    /// Time from question to answer as the caller sees it.
    pub(super) latency_ms: Latency,
    /// Seconds from the first question to the last feedback.
    pub(super) seconds: f64,
    /// Questions a second.
    pub(super) questions_per_second: f64,
    /// Feedback given and refused.
    pub(super) feedback: FeedbackCounts,
    /// The conservation laws and the counters they are about.
    pub(super) conservation: Conservation,
    /// Which weights served at the end.
    pub(super) policy: PolicyStamp,
}

/// Percentiles, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// Feedback of the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct FeedbackCounts {
    pub(super) given: u64,
    pub(super) refused: u64,
}

/// Whether nothing was lost, with the counters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Conservation {
    /// Whether every law holds.
    pub(super) holds: bool,
    /// Queries: accepted = answered + failed + in flight.
    pub(super) door: DoorObserved,
    /// Episodes and feedback; null where no judge runs.
    pub(super) judge: Option<actors::judge::Observed>,
}

impl Report {
    pub(super) fn new(seed: u64, traffic: &Traffic, observed: &Observed) -> Self {
        let answered = &traffic.answered;
        let seconds = traffic.began.elapsed().as_secs_f64();
        let swaps = observed.reranker.as_ref().map_or(0, |reranker| reranker.swaps);
        let holds = observed.door.is_conserved()
            && observed.judge.as_ref().is_none_or(actors::judge::Observed::is_conserved);
        Self {
            questions: traffic.asked,
            seed,
            // A reranker that was started again counts from 0; one that swaps often is seen rarely.
            swaps: swaps.max(traffic.swaps_seen),
            failed_requests: traffic.failed.values().sum(),
            failed_by: traffic.failed.clone(),
            unscored: traffic.unscored,
            f1: mean(answered.iter().map(|a| a.f1)).unwrap_or(0.0),
            em: mean(answered.iter().map(|a| a.em)).unwrap_or(0.0),
            f1_by_hundredth: by_part(answered, traffic.asked),
            k_mean: mean(answered.iter().map(|a| a.k as f64)).unwrap_or(0.0),
            context_tokens_mean: mean(answered.iter().map(|a| f64::from(a.context_tokens)))
                .unwrap_or(0.0),
            latency_ms: Latency::of(answered.iter().map(|a| a.latency).collect()),
            seconds,
            questions_per_second: traffic.asked as f64 / seconds.max(1e-9),
            feedback: FeedbackCounts {
                given: traffic.feedback_given,
                refused: traffic.feedback_refused,
            },
            conservation: Conservation { holds, door: observed.door, judge: observed.judge },
            policy: observed.policy.clone(),
        }
    }
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let last = times.len().saturating_sub(1);
            let index = ((share * times.len() as f64) as usize).min(last);
            times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Mean F1 of each hundredth of `asked` questions (each question, where there are fewer).
fn by_part(answered: &[Answered], asked: usize) -> Vec<Option<f64>> {
    let parts = PARTS.min(asked);
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); parts];
    for one in answered {
        if let Some(part) = values.get_mut(one.position * parts / asked.max(1)) {
            part.push(one.f1);
        }
    }
    values.into_iter().map(|part| mean(part.into_iter())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn answered(position: usize, f1: f64) -> Answered {
        let latency = Duration::from_millis(position as u64);
        Answered { position, f1, em: 0.0, k: 1, context_tokens: 0, latency }
    }

    #[test]
    fn f1_is_told_by_hundredths_of_the_traffic() {
        let all: Vec<Answered> =
            (0..1_000).map(|i| answered(i, f64::from(u8::from(i >= 500)))).collect();
        let parts = by_part(&all, 1_000);
        assert_eq!(parts.len(), 100);
        assert_eq!((parts[0], parts[49], parts[50]), (Some(0.0), Some(0.0), Some(1.0)));
        assert_eq!(by_part(&[answered(1, 0.5)], 3), [None, Some(0.5), None]);
        assert!(by_part(&[], 0).is_empty());
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let latency = Latency::of((0..100).rev().map(Duration::from_millis).collect());
        assert_eq!((latency.p50, latency.p95, latency.max), (50.0, 95.0, 99.0));
        assert_eq!(Latency::of(Vec::new()).max, 0.0);
    }
}

//! A canary's figures: the candidate's units and the champion's, from one ledger.
//!
//! Knows no threshold. A unit is one observation: the mean over its queries, so that a user who
//! asks a hundred times does not count a hundred times. Units are taken in the order of their
//! hashes, so that equal ledgers give equal bits.

use super::assignment::{AA, bucket, holds_control};
use super::ledger::{Ledger, Outcome, Place};
use crate::sequential::Moments;
use crate::types::{Arm, Digest, LogPosition, PolicySnapshot, PolicyVersion};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// One arm of an experiment; all means are over units.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArmFigures {
    /// Queries.
    pub queries: u64,
    /// Units, whether or not any of their queries was judged.
    pub units: u64,
    /// Reward of the units that have one, with the noise of its votes.
    pub reward: Moments,
    /// Share of failed queries; a candidate's are also those that the champion had to decide.
    pub failures: Moments,
    /// Share of judged queries that the judge abstained on.
    pub abstentions: Moments,
    /// Context tokens a query.
    pub tokens: Moments,
    /// Longest query of each unit, milliseconds, ascending.
    pub durations: Vec<f64>,
}

/// Both arms, and what counts for neither.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// What the candidate served.
    pub treatment: ArmFigures,
    /// What the champion served to units that were never the candidate's.
    pub control: ArmFigures,
    /// Units seen in both arms: left out.
    pub mixed: u64,
    /// Queries served by other weights than assigned, or that fell back: their units are left out.
    pub mismatched: u64,
    /// Interleaved queries by whose documents were cited: champion's, candidate's, ties.
    pub preferences: (u64, u64, u64),
    /// Units of treatment and of control since the share was last changed: the split to be checked.
    pub split: (u64, u64),
    /// Units of treatment and of control that were judged since then.
    pub fresh: (u64, u64),
    /// The split is of treatment's places below this, where the share was changed: they were its
    /// own before, so that nodes that follow late distort nothing. `None`: of all.
    pub settled: Option<f64>,
    /// SHA-256 over places and rewards, in order.
    pub inputs: Digest,
}

#[derive(Default)]
struct UnitSums {
    queries: u64,
    rewards: Vec<(f64, f64)>,
    failures: u64,
    judged: u64,
    abstentions: u64,
    tokens: u64,
    longest_ms: u64,
}

impl UnitSums {
    fn add(&mut self, outcome: &Outcome) {
        self.queries += 1;
        self.rewards.extend(outcome.reward);
        self.failures += u64::from(outcome.has_failed);
        self.judged += u64::from(outcome.reward.is_some() || outcome.is_abstention);
        self.abstentions += u64::from(outcome.is_abstention);
        self.tokens += outcome.context_tokens;
        self.longest_ms = self.longest_ms.max(outcome.duration_ms);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of an experiment")]
impl ArmFigures {
    fn of<'a>(units: impl Iterator<Item = &'a UnitSums>) -> Self {
        let mut arm = Self::default();
        for unit in units {
            let queries = unit.queries as f64;
            arm.units += 1;
            arm.queries += unit.queries;
            arm.failures.push(unit.failures as f64 / queries, 0.0);
            arm.tokens.push(unit.tokens as f64 / queries, 0.0);
            arm.durations.push(unit.longest_ms as f64);
            if unit.judged > 0 {
                arm.abstentions.push(unit.abstentions as f64 / unit.judged as f64, 0.0);
            }
            if !unit.rewards.is_empty() {
                let n = unit.rewards.len() as f64;
                let mean = unit.rewards.iter().map(|(reward, _)| reward).sum::<f64>() / n;
                let noise = unit.rewards.iter().map(|(_, noise)| noise).sum::<f64>() / (n * n);
                arm.reward.push(mean, noise);
            }
        }
        arm.durations.sort_by(f64::total_cmp);
        arm
    }

    /// The 95th percentile of the durations by nearest rank, milliseconds.
    pub fn latency_p95(&self) -> Option<f64> {
        let rank = (self.durations.len() * 95).div_ceil(100);
        self.durations.get(rank.checked_sub(1)?).copied()
    }
}

impl Comparison {
    /// The figures of a candidate's experiment; its share holds since these positions.
    pub fn of(ledger: &Ledger, version: PolicyVersion, since: &[LogPosition]) -> Self {
        let episodes = |position: &&LogPosition| position.topic == "regrade.episodes";
        let since: BTreeMap<u32, u64> =
            since.iter().filter(episodes).map(|p| (p.partition, p.next)).collect();
        let is_new =
            |(partition, offset): Place| since.get(&partition).is_none_or(|first| offset >= *first);
        let mut split = [BTreeSet::<&str>::new(), BTreeSet::new()];
        let mut fresh = [BTreeSet::<&str>::new(), BTreeSet::new()];
        let mut comparison = Self { settled: settled(ledger, version, is_new), ..Self::default() };
        let mut attempts = BTreeMap::<&str, (u64, u64)>::new();
        let mut units = [BTreeMap::<&str, UnitSums>::new(), BTreeMap::new()];
        let mut tainted: Vec<&str> = Vec::new();
        let mut inputs = String::new();
        for (place, outcome) in ledger.of(version) {
            let (partition, offset) = place;
            let (reward, noise) = outcome.reward.unwrap_or((f64::NAN, 0.0));
            // Writing to a String cannot fail.
            let _ = writeln!(inputs, "{partition}/{offset}: {reward:?} {noise:?}");
            let unit = outcome.assignment.unit.as_str();
            if outcome.assignment.arm == (Arm::Interleaved { version }) {
                comparison.prefer(outcome);
                continue;
            }
            let is_its_own = outcome.assignment.arm == (Arm::Candidate { version });
            let arm = match is_its_own {
                true => 0,
                false if holds_control(&outcome.assignment, version) => 1,
                false => continue,
            };
            let is_settled =
                arm == 1 || comparison.settled.is_none_or(|below| bucket(unit, version) < below);
            if is_new(place) && is_settled {
                split[arm].insert(unit);
            }
            let has_fallen = is_its_own && outcome.assignment.fell_back.is_some();
            if is_its_own {
                let (queries, failures) = attempts.entry(unit).or_default();
                *queries += 1;
                *failures += u64::from(outcome.has_failed || has_fallen);
            }
            let is_served = outcome.served.is_none_or(|served| (served == version) == is_its_own);
            if has_fallen || !(is_served || version == AA) {
                comparison.mismatched += 1;
                tainted.push(unit);
                continue;
            }
            units[arm].entry(unit).or_default().add(outcome);
            if is_new(place) && outcome.reward.is_some() {
                fresh[arm].insert(unit);
            }
        }
        let mut both: BTreeSet<&str> =
            units[0].keys().filter(|unit| units[1].contains_key(*unit)).copied().collect();
        comparison.mixed = both.len() as u64;
        attempts.retain(|unit, _| !both.contains(unit));
        both.extend(tainted);
        for unit in &both {
            units[0].remove(unit);
            units[1].remove(unit);
        }
        fresh.iter_mut().for_each(|units| units.retain(|unit| !both.contains(unit)));
        comparison.fresh = (fresh[0].len() as u64, fresh[1].len() as u64);
        comparison.split = (split[0].len() as u64, split[1].len() as u64);
        comparison.treatment = ArmFigures::of(units[0].values());
        comparison.treatment.failures = shares(attempts.values());
        comparison.control = ArmFigures::of(units[1].values());
        comparison.inputs = PolicySnapshot::digest_of(inputs.as_bytes());
        comparison
    }

    fn prefer(&mut self, outcome: &Outcome) {
        let Some((champion, candidate)) = outcome.interleaved.as_ref().and_then(|i| i.credit)
        else {
            return;
        };
        match candidate.total_cmp(&champion) {
            std::cmp::Ordering::Less => self.preferences.0 += 1,
            std::cmp::Ordering::Greater => self.preferences.1 += 1,
            std::cmp::Ordering::Equal => self.preferences.2 += 1,
        }
    }
}

/// The highest place that the candidate served before its share was changed.
fn settled(ledger: &Ledger, version: PolicyVersion, is_new: impl Fn(Place) -> bool) -> Option<f64> {
    let own = ledger.of(version).filter(|(place, outcome)| {
        outcome.assignment.arm == (Arm::Candidate { version }) && !is_new(*place)
    });
    own.map(|(_, outcome)| bucket(&outcome.assignment.unit, version)).max_by(f64::total_cmp)
}

/// One share a unit, of `(queries, failures)`.
#[expect(clippy::cast_precision_loss, reason = "counts of an experiment")]
fn shares<'a>(attempts: impl Iterator<Item = &'a (u64, u64)>) -> Moments {
    Moments::of(attempts.map(|(queries, failures)| *failures as f64 / *queries as f64))
}

#[cfg(test)]
mod tests;

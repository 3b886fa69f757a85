//! Which snapshots may go, and the pass that removes them after a promotion.
//!
//! A version stays as long as anything may still ask the store for it:
//!
//! - it is among the last `keep_versions` champions on record, or the parent of one (rollback, and
//!   the followers' fall-back when a newer one cannot be loaded);
//! - it is in the line of parents of the newest champion, `keep_versions` deep (a compacted stream
//!   forgets that a replaced version was champion, but not whose parent it is);
//! - a record named it less than `keep_ms` ago: a node that heard of it may still be fetching it.
//!   A replaced champion is named when it is replaced, so the time counts from there;
//! - it is under way between candidate and champion;
//! - no record names it: it may be on its way, and nothing says whose it is.
//!
//! Nodes serve from memory: removing a version never takes weights from a node that has them.

use super::{Args, Config};
use crate::bounds::guarded;
use crate::ports::Stream;
use crate::rollout::Board;
use crate::tail::read_all;
use crate::telemetry;
use crate::types::{PolicyRecord, PolicyState, PolicyVersion};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Removes what need not stay. Nothing depends on it: a failure is told, and the next promotion
/// tries again.
pub(super) async fn sweep(args: &Args) {
    if args.config.keep_versions == 0 {
        return;
    }
    let limit = Duration::from_millis(args.config.publish_deadline_ms);
    let (owned, now_ms) = (args.clone(), args.clock.now_ms());
    match guarded(limit, async move { remove(&owned, now_ms).await }).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => failed(&reason),
        Err(broken) => failed(&broken.to_string()),
    }
}

fn failed(reason: &str) {
    telemetry::count(telemetry::SNAPSHOTS_REMOVED, "outcome", "failed");
    tracing::warn!(reason, "old snapshots stay until the next promotion");
}

async fn remove(args: &Args, now_ms: u64) -> Result<(), String> {
    let name = format!("learner-{}", args.node);
    // Read anew: an operator, or another learner before a failover, writes here as well.
    let records = read_all(&args.log, &name, Stream::Policies, args.config.policies_max)
        .await
        .map_err(|error| format!("cannot read the policies: {error}"))?;
    let records: Vec<PolicyRecord> =
        records.iter().filter_map(|r| serde_json::from_slice(&r.payload).ok()).collect();
    let stored = args.snapshots.list().await.map_err(|error| error.to_string())?;
    for version in removable(&records, &stored, &args.config, now_ms) {
        args.snapshots.delete(version).await.map_err(|error| error.to_string())?;
        telemetry::count(telemetry::SNAPSHOTS_REMOVED, "outcome", "removed");
        tracing::info!(%version, "old snapshot removed");
    }
    Ok(())
}

/// The stored versions that nothing may ask for any more.
fn removable(
    records: &[PolicyRecord],
    stored: &[PolicyVersion],
    config: &Config,
    now_ms: u64,
) -> Vec<PolicyVersion> {
    let mut named_ms = BTreeMap::<PolicyVersion, u64>::new();
    let mut parents = BTreeMap::new();
    for record in records {
        let named = named_ms.entry(record.version).or_default();
        *named = (*named).max(record.time_ms);
        parents.insert(record.version, record.parent);
    }
    let mut needed = needed(records, &parents, config.keep_versions);
    // A canary may take longer than `keep_ms`, and any node may have to fetch it.
    let board = Board::of(records);
    needed.extend(board.under_way().map(|standing| standing.record.version));
    needed.extend(board.previous());
    let is_old = |version: &PolicyVersion| {
        named_ms.get(version).is_some_and(|named| now_ms.saturating_sub(*named) >= config.keep_ms)
    };
    stored.iter().copied().filter(|v| is_old(v) && !needed.contains(v)).collect()
}

/// The last champions with their parents, and the line that led to the newest.
fn needed(
    records: &[PolicyRecord],
    parents: &BTreeMap<PolicyVersion, Option<PolicyVersion>>,
    keep: usize,
) -> BTreeSet<PolicyVersion> {
    let parent = |version| parents.get(&version).copied().flatten();
    let mut champions: Vec<PolicyVersion> = Vec::new();
    for record in records.iter().rev().filter(|r| r.state == PolicyState::Champion) {
        if champions.len() < keep && !champions.contains(&record.version) {
            champions.push(record.version);
        }
    }
    let newest = champions.first().copied();
    // At most `keep` steps, so that a record that names itself its parent ends too.
    let line = std::iter::successors(newest, |version| parent(*version)).take(keep);
    let line: Vec<PolicyVersion> = line.collect();
    champions.iter().chain(&line).flat_map(|v| [Some(*v), parent(*v)]).flatten().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::types::{Digest, PolicySnapshot};

    const HOUR: u64 = 3_600_000;

    fn record(version: u64, parent: u64, state: PolicyState, time_ms: u64) -> PolicyRecord {
        let snapshot = PolicySnapshot {
            version: PolicyVersion(version),
            parent: Some(PolicyVersion(parent)),
            recipe: "test".to_owned(),
            weights: Vec::new().into(),
            digest: Digest::default(),
        };
        PolicyRecord::of(&snapshot, state, "", time_ms)
    }

    /// Versions 1 to `n`, each the child of the one before and champion at hour `version`.
    fn line(n: u64) -> Vec<PolicyRecord> {
        let mut records = Vec::new();
        for version in 1..=n {
            if version > 1 {
                let (old, time) = (version - 1, version * HOUR);
                records.push(record(old, old - 1, PolicyState::Retired, time));
            }
            records.push(record(version, version - 1, PolicyState::Champion, version * HOUR));
        }
        records
    }

    fn gone(records: &[PolicyRecord], stored: u64, keep: usize, now_ms: u64) -> Vec<u64> {
        let stored: Vec<PolicyVersion> = (1..=stored).map(PolicyVersion).collect();
        let config = Config { keep_versions: keep, keep_ms: HOUR, ..Config::default() };
        removable(records, &stored, &config, now_ms).into_iter().map(|v| v.0).collect()
    }

    #[test]
    fn the_last_champions_and_the_parent_of_the_oldest_stay() {
        assert_eq!(gone(&line(6), 6, 2, 100 * HOUR), [1, 2, 3]);
        assert_eq!(gone(&line(6), 6, 1, 100 * HOUR), [1, 2, 3, 4]);
        assert_eq!(gone(&line(2), 2, 2, 100 * HOUR), [0; 0]);
    }

    #[test]
    fn a_compacted_stream_keeps_the_same_line() {
        // Of each version only the last record is left.
        let mut records: Vec<PolicyRecord> =
            (1..6).map(|v| record(v, v - 1, PolicyState::Retired, (v + 1) * HOUR)).collect();
        records.push(record(6, 5, PolicyState::Champion, 6 * HOUR));
        assert_eq!(gone(&records, 6, 2, 100 * HOUR), [1, 2, 3]);
    }

    #[test]
    fn what_was_named_lately_or_never_stays() {
        let mut records = line(6);
        // Version 3 was replaced at hour 4 and refused again a moment ago.
        records.push(record(3, 2, PolicyState::Retired, 100 * HOUR - 1));
        // Version 7 is stored, but no record names it yet.
        assert_eq!(gone(&records, 7, 1, 100 * HOUR), [1, 2, 4]);
        // An hour after the promotion of 6 nothing is old enough but what was replaced before.
        assert_eq!(gone(&line(6), 6, 1, 4 * HOUR), [1, 2]);
        assert_eq!(gone(&[], 6, 1, 100 * HOUR), [0; 0]);
    }

    #[test]
    fn a_version_an_operator_went_back_to_stays_with_its_parent() {
        let mut records = line(6);
        records.push(record(6, 5, PolicyState::Retired, 7 * HOUR));
        records.push(record(2, 1, PolicyState::Champion, 7 * HOUR));
        assert_eq!(gone(&records, 6, 1, 100 * HOUR), [3, 4, 5, 6]);
        // Two champions back: the one before the rollback and its parent as well.
        assert_eq!(gone(&records, 6, 2, 100 * HOUR), [3, 4]);
    }

    #[test]
    fn a_record_that_is_its_own_parent_ends_the_line() {
        let records = [record(3, 3, PolicyState::Champion, 0)];
        assert_eq!(gone(&records, 3, 1_000, 100 * HOUR), [0; 0]);
    }
}

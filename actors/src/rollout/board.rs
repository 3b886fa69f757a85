//! What the records of `regrade.policies` come to: the state of every version and the line of
//! champions.
//!
//! Knows neither certificates (`certificate.rs`) nor rules (`stages.rs`): a record on the log is a
//! fact; whether it may be acted on is asked later.

use crate::types::{PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion};
use std::collections::BTreeMap;

/// Retired versions that are remembered beside the line of champions.
const RETIRED_MAX: usize = 256;

/// Whether a record counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It did.
    Applied,
    /// Another change of its version, or another champion, came first.
    Outrun,
}

/// One version as the records left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The last record that counted, with place and certificate of earlier ones where it is silent.
    pub record: PolicyRecord,
    /// Changes so far.
    pub step: u64,
}

/// All versions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Board {
    standings: BTreeMap<PolicyVersion, Standing>,
    /// The champions that led to the present one, which is the last. A version that became champion
    /// again takes those after its first time back: they were rolled back.
    line: Vec<PolicyVersion>,
    alarm_until_ms: u64,
    outrun: u64,
}

impl Board {
    /// Folds records in the order of the log.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a PolicyRecord>) -> Self {
        let mut board = Self::default();
        for record in records {
            board.fold(record);
        }
        board
    }

    /// Takes one record. A change whose step does not follow the last of its version has no effect,
    /// nor has a champion that replaces another than the present one, nor what would end a champion
    /// without another in its place; any other record without a step is an operator's and holds.
    /// The first record of a version that is left after compaction counts whatever its step.
    pub fn fold(&mut self, record: &PolicyRecord) -> Effect {
        let before = self.standings.get(&record.version);
        let is_outrun = match (record.step, before) {
            (Some(step), Some(before)) => step != before.step + 1,
            _ => false,
        };
        let is_champion = record.state == PolicyState::Champion;
        // Users always have a champion: only another one takes its place.
        let is_void = !is_champion && self.champion() == Some(record.version);
        if is_outrun || is_void || (is_champion && !record.follows(self.champion())) {
            self.outrun += 1;
            return Effect::Outrun;
        }
        let mut record = record.clone();
        let mut step = record.step.unwrap_or(1);
        if let Some(before) = before {
            step = record.step.unwrap_or(before.step + 1);
            inherit(&mut record, &before.record);
        }
        if is_champion {
            self.crown(&record);
        }
        self.alarm_until_ms = self.alarm_until_ms.max(record.alarm_until_ms.unwrap_or(0));
        self.standings.insert(record.version, Standing { record, step });
        self.forget();
        Effect::Applied
    }

    fn crown(&mut self, record: &PolicyRecord) {
        if let Some(old) = self.champion()
            && old != record.version
            && let Some(standing) = self.standings.get_mut(&old)
        {
            standing.record.state = PolicyState::Retired;
        }
        if record.version == PolicyVersion(0) {
            // The untrained policy comes before every other.
            self.line.clear();
        }
        match self.line.iter().position(|version| *version == record.version) {
            Some(earlier) => self.line.truncate(earlier + 1),
            None => self.line.push(record.version),
        }
    }

    /// Drops the oldest of the retired that were never champion.
    fn forget(&mut self) {
        let is_past = |(version, standing): &(&PolicyVersion, &Standing)| {
            standing.record.state == PolicyState::Retired && !self.line.contains(version)
        };
        let past: Vec<PolicyVersion> =
            self.standings.iter().filter(is_past).map(|(version, _)| *version).collect();
        for version in past.iter().take(past.len().saturating_sub(RETIRED_MAX)) {
            self.standings.remove(version);
        }
    }

    /// The champion, if one was ever made.
    pub fn champion(&self) -> Option<PolicyVersion> {
        self.line.last().copied()
    }

    /// The champions that led to the present one, which is the last.
    pub fn line(&self) -> &[PolicyVersion] {
        &self.line
    }

    /// Who was champion before the present one, by the line, else (a compacted stream forgets it)
    /// by what the champion's own record says.
    pub fn previous(&self) -> Option<PolicyVersion> {
        let before = self.line.len().checked_sub(2).and_then(|at| self.line.get(at)).copied();
        let champion = self.champion().and_then(|version| self.standing(version));
        let record = champion.map(|standing| &standing.record);
        // One that came back by a rollback replaces a later one, which is not to be gone back to.
        let earlier = |record: &PolicyRecord| {
            record.replaces.filter(|replaced| *replaced < record.version).or(record.parent)
        };
        before.or_else(|| record.and_then(earlier))
    }

    /// One version.
    pub fn standing(&self, version: PolicyVersion) -> Option<&Standing> {
        self.standings.get(&version)
    }

    /// All versions in this state, ascending.
    pub fn in_state(&self, state: PolicyState) -> impl Iterator<Item = &Standing> {
        self.standings.values().filter(move |standing| standing.record.state == state)
    }

    /// All versions between candidate and champion, ascending.
    pub fn under_way(&self) -> impl Iterator<Item = &Standing> {
        let is_over = |state| matches!(state, PolicyState::Champion | PolicyState::Retired);
        self.standings.values().filter(move |standing| !is_over(standing.record.state))
    }

    /// Until when an alarm holds, milliseconds since the Unix epoch; 0 where there never was one.
    pub fn alarm_until_ms(&self) -> u64 {
        self.alarm_until_ms
    }

    /// The records that take the champion back to the one before it, or to the first weights where
    /// nothing was before; `None` where there is nothing to go back from. The one that comes back
    /// is first: a log that holds only half of them has a champion.
    pub fn rollback(
        &self,
        first: &PolicySnapshot,
        reason: &str,
        now_ms: u64,
    ) -> Option<[PolicyRecord; 2]> {
        let now = self.champion().filter(|version| *version != first.version)?;
        let champion = &self.standing(now)?.record;
        let before = self.previous().and_then(|version| self.standing(version));
        let before = match before.map(|standing| standing.record.clone()) {
            Some(record) if record.certificate.is_some() || record.digest == first.digest => record,
            _ => PolicyRecord::of(first, PolicyState::Champion, "", now_ms),
        };
        let told = format!("rolled back to {}: {reason}", before.version);
        let retired = PolicyRecord {
            state: PolicyState::Retired,
            reason: told,
            step: None,
            time_ms: now_ms,
            ..champion.clone()
        };
        let restored = PolicyRecord {
            state: PolicyState::Champion,
            reason: format!("rolled back from {now}: {reason}"),
            share: None,
            step: None,
            replaces: Some(now),
            time_ms: now_ms,
            ..before
        };
        Some([restored, retired])
    }

    /// Records without effect.
    pub fn outrun(&self) -> u64 {
        self.outrun
    }
}

/// What a record need not repeat.
fn inherit(record: &mut PolicyRecord, before: &PolicyRecord) {
    if record.uri.is_empty() {
        record.uri.clone_from(&before.uri);
    }
    if record.certificate.is_none() {
        record.certificate.clone_from(&before.certificate);
    }
    if record.evidence.is_empty() {
        record.evidence.clone_from(&before.evidence);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use PolicyState::{Canary, Champion};

    fn record(version: u64, state: PolicyState, step: u64) -> PolicyRecord {
        let snapshot = PolicySnapshot::new(PolicyVersion(version), None, "test", vec![]);
        PolicyRecord { step: Some(step), ..PolicyRecord::of(&snapshot, state, "", step) }
    }

    fn champion(version: u64, replaces: u64) -> PolicyRecord {
        let replaces = (replaces > 0).then_some(PolicyVersion(replaces));
        PolicyRecord { step: None, replaces, ..record(version, PolicyState::Champion, 0) }
    }

    #[test]
    fn of_two_writers_of_one_step_the_first_counts() {
        let mut board = Board::of(&[record(3, PolicyState::Candidate, 1)]);
        assert_eq!(board.fold(&record(3, PolicyState::Parity, 2)), Effect::Applied);
        assert_eq!(board.fold(&record(3, PolicyState::Retired, 2)), Effect::Outrun);
        assert_eq!(board.fold(&record(3, PolicyState::Parity, 2)), Effect::Outrun, "a repeat");
        let standing = board.standing(PolicyVersion(3)).unwrap();
        assert_eq!((standing.record.state, standing.step), (PolicyState::Parity, 2));
        assert_eq!(board.outrun(), 2);
    }

    #[test]
    fn a_champion_that_replaces_another_than_the_present_one_has_no_effect() {
        let mut board = Board::of(&[champion(1, 0), champion(2, 1)]);
        assert_eq!(board.fold(&champion(3, 1)), Effect::Outrun);
        assert_eq!(board.champion(), Some(PolicyVersion(2)));
        assert_eq!(board.standing(PolicyVersion(1)).unwrap().record.state, PolicyState::Retired);
    }

    #[test]
    fn rolling_back_takes_the_later_champions_off_the_line() {
        let mut board = Board::of(&[champion(1, 0), champion(2, 1), champion(3, 2)]);
        assert_eq!(board.previous(), Some(PolicyVersion(2)));
        board.fold(&champion(2, 3));
        assert_eq!(board.line(), [PolicyVersion(1), PolicyVersion(2)]);
        assert_eq!(board.previous(), Some(PolicyVersion(1)));
        assert_eq!(board.standing(PolicyVersion(3)).unwrap().record.state, PolicyState::Retired);
        board.fold(&champion(0, 0));
        assert_eq!(board.line(), [PolicyVersion(0)]);
    }

    #[test]
    fn rolling_back_twice_never_goes_forward() {
        let mut board = Board::of(&[champion(1, 0), champion(2, 1)]);
        board.fold(&champion(1, 2));
        assert_eq!(board.previous(), None, "nothing was before, and 2 was taken back");
    }

    #[test]
    fn a_compacted_stream_still_knows_who_was_before() {
        let board = Board::of(&[record(4, PolicyState::Retired, 7), champion(5, 4)]);
        assert_eq!((board.champion(), board.previous()), (Some(5.into()), Some(4.into())));
    }

    #[test]
    fn a_champion_ends_only_by_another_in_its_place() {
        let mut board = Board::of(&[champion(1, 0), champion(2, 1), record(3, Canary, 4)]);
        let ends = PolicyRecord { step: None, ..record(2, PolicyState::Retired, 0) };
        assert_eq!(board.fold(&ends), Effect::Outrun);
        // Written as 3 was retired by an operator: its promotion is outrun, and 2 stays.
        board.fold(&PolicyRecord { step: None, ..record(3, PolicyState::Retired, 0) });
        let late = PolicyRecord { step: Some(5), ..champion(3, 2) };
        assert_eq!(board.fold(&late), Effect::Outrun);
        assert_eq!(board.fold(&record(2, PolicyState::Retired, 1)), Effect::Outrun);
        let standing = board.standing(PolicyVersion(2)).unwrap();
        assert_eq!((board.champion(), standing.record.state), (Some(2.into()), Champion));
    }

    #[test]
    fn half_of_a_rollback_leaves_a_champion() {
        let first = PolicySnapshot::new(PolicyVersion(0), None, "test", vec![9]);
        let mut board = Board::of(&[champion(1, 0), champion(2, 1)]);
        let [restored, retired] = board.rollback(&first, "test", 1).unwrap();
        assert_eq!(board.fold(&restored), Effect::Applied);
        assert_eq!(board.champion(), Some(PolicyVersion(0)), "1 has no certificate");
        assert_eq!(board.standing(PolicyVersion(2)).unwrap().record.state, PolicyState::Retired);
        assert_eq!(board.fold(&retired), Effect::Applied);
        assert!(board.standing(PolicyVersion(2)).unwrap().record.reason.starts_with("rolled back"));
        assert_eq!(board.rollback(&first, "test", 2), None, "nothing before the first");
    }

    #[test]
    fn an_operators_word_holds_whatever_the_step() {
        let mut board = Board::of(&[record(3, PolicyState::Canary, 9)]);
        let word = PolicyRecord { step: None, ..record(3, PolicyState::Retired, 0) };
        assert_eq!(board.fold(&word), Effect::Applied);
        assert_eq!(board.standing(PolicyVersion(3)).unwrap().step, 10);
        assert_eq!(board.fold(&record(3, PolicyState::Champion, 10)), Effect::Outrun);
        assert_eq!(board.under_way().count(), 0);
    }
}

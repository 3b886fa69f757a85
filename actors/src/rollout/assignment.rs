//! Which policy serves a unit: sticky, the same on every node, and never mixed by a canary that
//! grows.
//!
//! Each unit has a place in [0, 1) for every candidate, by a hash of both. A candidate with share s
//! serves the places below s; its control are the places from 0.5 on that the champion serves.
//! Between them lies what a growing share takes in. So a unit never moves from control to
//! treatment, and canaries beside each other draw independent places. A unit that several
//! candidates could serve is the oldest's, and in nobody else's experiment.

use super::{Board, Unit};
use crate::types::{Arm, Assignment, PolicyState, PolicyVersion, Query};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// From this place on units are control.
pub(super) const CONTROL_FROM: f64 = 0.5;

/// The pseudo candidate of the champion's experiment against itself: no weights have this number.
pub const AA: PolicyVersion = PolicyVersion(u64::MAX);

/// What serving does with units now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routing {
    /// Candidates in their canary with the share that is theirs, ascending by version.
    pub canaries: Vec<(PolicyVersion, f64)>,
    /// Share of the units of a candidate's experiment that get an interleaved context instead, in
    /// [0, 1].
    pub interleaved: f64,
    /// Share of the units that the champion's experiment against itself treats, in [0, 0.5]; only
    /// while there is no canary.
    pub aa: f64,
    /// Candidates that decide without effect.
    pub shadows: Vec<PolicyVersion>,
    /// Until when exploration is widened, milliseconds since the Unix epoch.
    pub widened_until_ms: u64,
}

impl Routing {
    /// The canaries and shadows of a board.
    pub fn of(board: &Board, interleaved: f64) -> Self {
        let canaries = board
            .in_state(PolicyState::Canary)
            .filter_map(|s| Some((s.record.version, s.record.share?)))
            .collect();
        let shadows = board.in_state(PolicyState::Shadow).map(|s| s.record.version).collect();
        let widened_until_ms = board.alarm_until_ms();
        Self { canaries, interleaved, aa: 0.0, shadows, widened_until_ms }
    }

    /// Who serves this unit.
    pub fn assign(&self, unit: String) -> Assignment {
        let mut arm = Arm::Champion;
        for &(version, share) in &self.canaries {
            let place = bucket(&unit, version);
            if place < share {
                arm = Arm::Candidate { version };
                break;
            }
            // The interleaved are the last below the control, so that no canary reaches them
            // before its final share.
            if place < CONTROL_FROM && place >= CONTROL_FROM * (1.0 - self.interleaved) {
                arm = Arm::Interleaved { version };
                break;
            }
        }
        let mut experiments: Vec<PolicyVersion> =
            self.canaries.iter().map(|(version, _)| *version).collect();
        if experiments.is_empty() && self.aa > 0.0 {
            // Its places are drawn as any candidate's, so they say nothing of a later canary's.
            experiments.push(AA);
            if bucket(&unit, AA) < self.aa {
                arm = Arm::Candidate { version: AA };
            }
        }
        Assignment { unit, arm, experiments, fell_back: None }
    }
}

/// The unit's place in a candidate's experiment, uniform in [0, 1).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub fn bucket(unit: &str, version: PolicyVersion) -> f64 {
    let hash = Sha256::digest(format!("{version}|{unit}"));
    let high = hash.iter().take(8).fold(0_u64, |high, byte| (high << 8) | u64::from(*byte));
    (high >> 11) as f64 / (1_u64 << 53) as f64
}

/// Whether a unit that the champion serves is control in a candidate's experiment.
pub fn holds_control(assignment: &Assignment, version: PolicyVersion) -> bool {
    assignment.arm == Arm::Champion
        && assignment.experiments.contains(&version)
        && bucket(&assignment.unit, version) >= CONTROL_FROM
}

/// The unit of a query: a hash, so that the log holds no name. A query that does not say whose it
/// is counts by its text, so that a repeat is served alike.
pub fn unit_of(query: &Query, unit: Unit) -> String {
    let named = match unit {
        Unit::User => query.metadata.get("user"),
        Unit::Session => query.metadata.get("session"),
        Unit::Query => None,
    };
    let named = named.filter(|name| !name.is_empty());
    let tenant = query.tenant.as_deref().unwrap_or_default();
    let text = match named {
        Some(name) => format!("{}|{tenant}|{name}", unit.word()),
        None => format!("query|{tenant}|{}", query.text),
    };
    let mut hash = String::with_capacity(16);
    for byte in Sha256::digest(text).iter().take(8) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn routing(canaries: &[(u64, f64)]) -> Routing {
        let canaries = canaries.iter().map(|(version, share)| ((*version).into(), *share));
        Routing { canaries: canaries.collect(), ..Routing::default() }
    }

    fn units() -> impl Iterator<Item = String> {
        (0..20_000).map(|n| format!("{n:016x}"))
    }

    #[test]
    fn shares_are_kept_and_a_growing_one_takes_nobody_from_control() {
        let mut before: Vec<String> = Vec::new();
        for share in [0.01, 0.05, 0.25, 0.5] {
            let routing = routing(&[(7, share)]);
            let given: Vec<_> = units().map(|unit| routing.assign(unit)).collect();
            let treated: Vec<String> = given
                .iter()
                .filter(|a| a.arm == Arm::Candidate { version: 7.into() })
                .map(|a| a.unit.clone())
                .collect();
            let found = treated.len() as f64 / 20_000.0;
            assert!((found - share).abs() < 0.015, "{found} of {share}");
            assert!(before.iter().all(|unit| treated.contains(unit)), "sticky at {share}");
            let control = given.iter().filter(|a| holds_control(a, 7.into())).count() as f64;
            assert!((control / 20_000.0 - 0.5).abs() < 0.015);
            before = treated;
        }
    }

    #[test]
    fn two_canaries_never_share_a_unit_and_their_controls_are_independent() {
        let routing = routing(&[(3, 0.5), (4, 0.5)]);
        let given: Vec<_> = units().map(|unit| routing.assign(unit)).collect();
        let of = |version: u64| {
            let arm = Arm::Candidate { version: version.into() };
            given.iter().filter(|a| a.arm == arm).count() as f64 / 20_000.0
        };
        assert!((of(3) - 0.5).abs() < 0.015 && (of(4) - 0.25).abs() < 0.015);
        assert!(given.iter().all(|a| !(holds_control(a, 3.into()) && a.arm != Arm::Champion)));
    }

    #[test]
    fn interleaved_units_are_neither_treated_nor_control() {
        let routing = Routing { interleaved: 0.4, ..routing(&[(9, 0.25)]) };
        let given: Vec<_> = units().map(|unit| routing.assign(unit)).collect();
        let arm = Arm::Interleaved { version: 9.into() };
        let found = given.iter().filter(|a| a.arm == arm).count() as f64 / 20_000.0;
        assert!((found - 0.2).abs() < 0.015, "{found}");
        assert!(given.iter().all(|a| a.arm != arm || !holds_control(a, 9.into())));
    }

    #[test]
    fn a_unit_is_the_user_else_the_text_and_tenants_are_kept_apart() {
        let asked = |text: &str| Query { text: text.to_owned(), ..Query::default() };
        let ann = |text: &str| Query {
            metadata: [("user".to_owned(), "ann".to_owned())].into(),
            ..asked(text)
        };
        assert_eq!(unit_of(&ann("a"), Unit::User), unit_of(&ann("b"), Unit::User));
        assert_ne!(unit_of(&ann("a"), Unit::Query), unit_of(&ann("b"), Unit::Query));
        assert_eq!(unit_of(&asked("a"), Unit::User), unit_of(&asked("a"), Unit::User));
        let other = Query { tenant: Some("t".to_owned()), ..ann("a") };
        assert_ne!(unit_of(&ann("a"), Unit::User), unit_of(&other, Unit::User));
    }
}

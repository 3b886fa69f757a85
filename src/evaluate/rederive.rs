//! The evidence of a certificate, derived again from the log: the same figures bit for bit, or where
//! they differ.
//!
//! Folds the records that each stage was decided on, up to the positions it names, by the very
//! functions that the promoter uses. Knows no store and no signature.

use actors::ports::{ExamineError, Examiner, Record, Stream};
use actors::rollout::{
    Comparison, Config, Ledger, Recent, Shadows, Step, canary_step, shadow_step,
};
use actors::types::{
    Claims, Episode, LogPosition, PolicySnapshot, PolicyState, RewardRecord, ShadowRecord,
    StageEvidence,
};
use serde::Serialize;
use std::collections::BTreeSet;

/// What became of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rederived {
    /// The log gives the same figures, inputs and verdict.
    Equal,
    /// It gives others.
    Different,
    /// The stage asked the generator and the judge, which the log cannot: the signature alone
    /// vouches for it.
    Attested,
}

/// One stage of a certificate, held against the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageCheck {
    /// The stage.
    pub stage: PolicyState,
    /// Share of traffic, for a canary.
    pub share: Option<f64>,
    /// What became of it.
    pub outcome: Rederived,
    /// What differs, each with what the certificate says and what the log gives; empty if equal.
    pub differences: Vec<String>,
    /// Why the stage was passed.
    pub reason: String,
}

/// What of the log a certificate may rest on, in the order of the partitions.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Records of `regrade.episodes`, `regrade.rewards` and `regrade.shadows`.
    pub records: Vec<Record>,
}

impl Evidence {
    fn up_to<'a>(&'a self, through: &'a [LogPosition]) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| {
            through.iter().any(|position| {
                position.topic == record.stream.topic()
                    && position.partition == record.partition
                    && record.offset < position.next
            })
        })
    }

    /// What is missing of the records that the stages were decided on: retention removed them.
    pub fn missing(&self, claims: &Claims) -> Vec<String> {
        let last = claims.stages.iter().rev().find(|stage| !stage.through.is_empty());
        let mut missing = Vec::new();
        for position in last.iter().flat_map(|stage| &stage.through) {
            let offsets: BTreeSet<u64> = self
                .records
                .iter()
                .filter(|r| r.stream.topic() == position.topic && r.partition == position.partition)
                .map(|record| record.offset)
                .collect();
            let found = offsets.range(..position.next).next_back();
            if position.next > 0 && found.is_none() {
                let LogPosition { topic, partition, next } = position;
                missing.push(format!("{topic} partition {partition} before offset {next}"));
            }
        }
        missing
    }
}

/// Derives every stage of a certificate again.
///
/// # Errors
/// Weights that cannot be examined, or models that fail.
pub fn rederive(
    claims: &Claims,
    snapshot: &PolicySnapshot,
    rules: &Config,
    evidence: &Evidence,
    examiner: &mut dyn Examiner,
) -> Result<Vec<StageCheck>, ExamineError> {
    let mut checks = Vec::with_capacity(claims.stages.len());
    for stage in &claims.stages {
        let derived = match stage.stage {
            _ if !stage.is_rederivable => None,
            PolicyState::Parity | PolicyState::Offline => {
                Some(examined(stage, snapshot, rules, (evidence, &mut *examiner))?)
            }
            PolicyState::Shadow => Some(shadowed(stage, snapshot, rules, evidence)),
            PolicyState::Canary => Some(served(stage, snapshot, rules, evidence)),
            PolicyState::Candidate | PolicyState::Champion | PolicyState::Retired => None,
        };
        let differences = derived.as_ref().map_or(Vec::new(), |found| differences(stage, found));
        let outcome = match (&derived, differences.is_empty()) {
            (None, _) => Rederived::Attested,
            (Some(_), true) => Rederived::Equal,
            (Some(_), false) => Rederived::Different,
        };
        let (share, reason) = (stage.share, stage.reason.clone());
        checks.push(StageCheck { stage: stage.stage, share, outcome, differences, reason });
    }
    Ok(checks)
}

fn examined(
    stage: &StageEvidence,
    snapshot: &PolicySnapshot,
    rules: &Config,
    (evidence, examiner): (&Evidence, &mut dyn Examiner),
) -> Result<StageEvidence, ExamineError> {
    let mut recent = Recent::new(rules.offline.samples_max);
    for record in evidence.up_to(&stage.through) {
        match record.stream {
            Stream::Episodes => {
                parsed::<Episode>(record).iter().for_each(|episode| recent.episode(episode));
            }
            Stream::Rewards => {
                parsed::<RewardRecord>(record).iter().for_each(|reward| recent.reward(reward));
            }
            _ => {}
        }
    }
    let mut samples = recent.samples();
    if stage.stage == PolicyState::Parity {
        samples.drain(..samples.len().saturating_sub(rules.parity.queries));
        return examiner.parity(snapshot, &samples);
    }
    examiner.off_policy(snapshot, &samples)
}

fn shadowed(
    stage: &StageEvidence,
    snapshot: &PolicySnapshot,
    rules: &Config,
    evidence: &Evidence,
) -> StageEvidence {
    let mut shadows = Shadows::default();
    for record in evidence.up_to(&stage.through) {
        match record.stream {
            Stream::Shadows => {
                parsed::<ShadowRecord>(record).iter().for_each(|shadow| shadows.decision(shadow));
            }
            Stream::Rewards => {
                parsed::<RewardRecord>(record).iter().for_each(|reward| shadows.reward(reward));
            }
            _ => {}
        }
    }
    verdict(stage, shadow_step(&rules.shadow, &shadows.of(snapshot.version), 0))
}

fn served(
    stage: &StageEvidence,
    snapshot: &PolicySnapshot,
    rules: &Config,
    evidence: &Evidence,
) -> StageEvidence {
    let mut ledger = Ledger::default();
    for record in evidence.up_to(&stage.through) {
        match record.stream {
            Stream::Episodes => {
                let place = (record.partition, record.offset);
                parsed::<Episode>(record).iter().for_each(|e| ledger.episode(place, e));
            }
            Stream::Rewards => {
                parsed::<RewardRecord>(record).iter().for_each(|reward| ledger.reward(reward));
            }
            _ => {}
        }
    }
    let seen = Comparison::of(&ledger, snapshot.version, &stage.from);
    let share = stage.share.unwrap_or_default();
    // Whether it was a discovery among others depends on these; alone it is.
    verdict(stage, canary_step(&rules.canary, (share, true), &seen, 0))
}

/// What a look says now; one that is not over stands for a stage that was not passed.
fn verdict(stage: &StageEvidence, step: Step) -> StageEvidence {
    match step {
        Step::Pass(evidence) | Step::Retire(evidence) => evidence,
        Step::Stay(reason) => StageEvidence { passed: false, reason, ..stage.clone() },
    }
}

fn parsed<T: serde::de::DeserializeOwned>(record: &Record) -> Option<T> {
    serde_json::from_slice(&record.payload).ok()
}

fn differences(claimed: &StageEvidence, found: &StageEvidence) -> Vec<String> {
    let mut differences = Vec::new();
    let mut unless = |equal: bool, what: &str, claimed: String, found: String| {
        if !equal {
            differences.push(format!("{what}: {claimed} in the certificate, {found} by the log"));
        }
    };
    let (passed, queries) = (claimed.passed == found.passed, claimed.queries == found.queries);
    unless(passed, "passed", claimed.passed.to_string(), found.passed.to_string());
    unless(queries, "queries", claimed.queries.to_string(), found.queries.to_string());
    let inputs = claimed.inputs == found.inputs;
    unless(inputs, "inputs", claimed.inputs.to_string(), found.inputs.to_string());
    let names: BTreeSet<&String> = claimed.figures.keys().chain(found.figures.keys()).collect();
    let shown = |value: Option<&f64>| value.map_or("none".to_owned(), |value| format!("{value:?}"));
    for name in names {
        let (own, other) = (claimed.figures.get(name), found.figures.get(name));
        // Bit for bit: what is only close was made by other code, or of other records.
        let equal = own.map(|value| value.to_bits()) == other.map(|value| value.to_bits());
        unless(equal, name, shown(own), shown(other));
    }
    differences
}

//! What became of the queries of the experiments under way: episodes joined with their rewards.
//!
//! Knows no statistics. Outcomes are kept by their place in the log, so that whoever reads the same
//! records, in whatever order of the partitions, has the same ledger. Bounded by the experiments
//! themselves: a canary ends at `queries_max`, and its outcomes are forgotten with it.

use crate::types::{
    Arm, Assignment, DecisionId, Episode, Interleaved, LogPosition, Outcome as Ending,
    PolicyVersion, Reward, RewardRecord, Verdict,
};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Rewards that may wait for their episode; they are written after it, so few ever do.
const WAITING_MAX: usize = 65_536;

/// Partition and offset of an episode.
pub type Place = (u32, u64);

/// One query of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Who was to serve it.
    pub assignment: Assignment,
    /// Who did; `None` where it failed before a decision.
    pub served: Option<PolicyVersion>,
    /// Whether deciding or answering failed.
    pub has_failed: bool,
    /// The reward and the variance that its votes say it carries, once judged.
    pub reward: Option<(f64, f64)>,
    /// Whether the judge could not tell.
    pub is_abstention: bool,
    /// Number of the verdict that says so; a higher one replaces it.
    pub revision: u32,
    /// From admission to the answer, milliseconds.
    pub duration_ms: u64,
    /// Context tokens of the chosen documents.
    pub context_tokens: u64,
    /// Whose the documents are, where two policies drafted the context.
    pub interleaved: Option<Interleaved>,
}

/// What is to be joined of a verdict.
#[derive(Debug, Clone, Copy)]
struct Judged {
    revision: u32,
    /// The reward and its variance; `None` where the judge could not tell.
    reward: Option<(f64, f64)>,
}

/// The outcomes of all experiments under way.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    outcomes: BTreeMap<Place, Outcome>,
    places: HashMap<String, Place>,
    waiting: HashMap<DecisionId, Judged>,
    waiting_order: VecDeque<DecisionId>,
    positions: BTreeMap<(String, u32), u64>,
}

impl Ledger {
    /// Notes how far a partition was read.
    pub fn read_to(&mut self, topic: &str, partition: u32, next: u64) {
        let position = self.positions.entry((topic.to_owned(), partition)).or_default();
        *position = (*position).max(next);
    }

    /// How far each partition was read.
    pub fn positions(&self) -> Vec<LogPosition> {
        let of = |((topic, partition), next): (&(String, u32), &u64)| LogPosition {
            topic: topic.clone(),
            partition: *partition,
            next: *next,
        };
        self.positions.iter().map(of).collect()
    }

    /// Takes an episode. One that no experiment was open for says nothing of any; a repeat of one
    /// known is dropped, the earlier place in the log counts.
    pub fn episode(&mut self, place: Place, episode: &Episode) {
        let Some(assignment) = &episode.assignment else { return };
        if assignment.experiments.is_empty() || episode.degraded.is_some() {
            return;
        }
        let key = name(episode);
        if let Some(known) = self.places.get(&key) {
            if *known <= place {
                return;
            }
            self.outcomes.remove(known);
        }
        let decision = episode.decision.as_ref();
        let tokens = decision.map_or(0, crate::types::Decision::context_tokens);
        // What fails before the decision says nothing of who decides.
        let has_failed = match &episode.outcome {
            Ending::Failed { stage, .. } => stage == "decide" || stage == "generate",
            _ => false,
        };
        let mut outcome = Outcome {
            assignment: assignment.clone(),
            served: decision.map(|decision| decision.policy.version),
            has_failed,
            reward: None,
            is_abstention: false,
            revision: 0,
            duration_ms: episode.duration_ms,
            context_tokens: tokens,
            interleaved: episode.interleaved.clone(),
        };
        if let Some(judged) = episode.decision_id().and_then(|id| self.waiting.remove(id)) {
            settle(&mut outcome, judged);
        }
        self.places.insert(key, place);
        self.outcomes.insert(place, outcome);
    }

    /// Takes a verdict. Of several of one decision the one of the highest number counts, in
    /// whatever order they are read.
    pub fn reward(&mut self, record: &RewardRecord) {
        if record.verdict == Verdict::Expired {
            return;
        }
        let reward = record.reward().map(|reward| (reward.total, noise(reward)));
        let judged = Judged { revision: record.revision, reward };
        let key = format!("d|{}", record.decision_id);
        if let Some(outcome) = self.places.get(&key).and_then(|p| self.outcomes.get_mut(p)) {
            settle(outcome, judged);
            return;
        }
        match self.waiting.get_mut(&record.decision_id) {
            Some(known) if known.revision >= judged.revision => {}
            Some(known) => *known = judged,
            None => {
                self.waiting.insert(record.decision_id.clone(), judged);
                self.waiting_order.push_back(record.decision_id.clone());
            }
        }
        while self.waiting_order.len() > WAITING_MAX {
            if let Some(oldest) = self.waiting_order.pop_front() {
                self.waiting.remove(&oldest);
            }
        }
    }

    /// All outcomes in which a candidate's experiment was open, by their place in the log.
    pub fn of(&self, version: PolicyVersion) -> impl Iterator<Item = (Place, &Outcome)> {
        let all = self.outcomes.iter().map(|(place, outcome)| (*place, outcome));
        all.filter(move |(_, outcome)| outcome.assignment.experiments.contains(&version))
    }

    /// Forgets outcomes that none of these experiments needs.
    pub fn keep_only(&mut self, open: &[PolicyVersion]) {
        self.outcomes.retain(|_, o| o.assignment.experiments.iter().any(|v| open.contains(v)));
        let outcomes = &self.outcomes;
        self.places.retain(|_, place| outcomes.contains_key(place));
    }

    /// Forgets what is known of one experiment: it begins anew.
    pub fn forget(&mut self, version: PolicyVersion) {
        self.outcomes.retain(|_, o| !o.assignment.experiments.contains(&version));
        let outcomes = &self.outcomes;
        self.places.retain(|_, place| outcomes.contains_key(place));
    }

    /// Outcomes kept.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }
}

fn name(episode: &Episode) -> String {
    match episode.decision_id() {
        Some(id) => format!("d|{id}"),
        None => format!("q|{}", episode.query.id),
    }
}

fn settle(outcome: &mut Outcome, judged: Judged) {
    let is_first = outcome.reward.is_none() && !outcome.is_abstention;
    if is_first || judged.revision > outcome.revision {
        outcome.reward = judged.reward;
        outcome.is_abstention = judged.reward.is_none();
        outcome.revision = judged.revision;
    }
}

/// Variance of a reward by the spread of the votes on its parts: `Σ weight² spread² / votes`.
pub(super) fn noise(reward: &Reward) -> f64 {
    let of = |part: &crate::types::RewardPart| {
        let votes = part.votes.filter(|votes| votes.count > 0)?;
        Some(part.weight * part.weight * votes.spread * votes.spread / f64::from(votes.count))
    };
    reward.parts.iter().filter_map(of).sum()
}

impl Outcome {
    /// Whether it counts for a candidate: it was to serve it, and did.
    pub fn is_treatment(&self, version: PolicyVersion) -> bool {
        self.assignment.arm == Arm::Candidate { version } && self.assignment.fell_back.is_none()
    }
}

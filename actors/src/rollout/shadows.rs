//! A shadow's figures: how far it agrees with what is served, what it costs, and, where its answers
//! are judged, the paired difference on the same queries.
//!
//! Knows no threshold. Kept by decision id, so that order and repeats do not matter.

use crate::sequential::Moments;
use crate::types::{DecisionId, Digest, PolicySnapshot, PolicyVersion, RewardRecord, ShadowRecord};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;

/// Shadow decisions kept a candidate; its stage is over long before.
const DECISIONS_MAX: usize = 100_000;

/// The shadow decisions of the candidates under way.
#[derive(Debug, Clone, Default)]
pub struct Shadows {
    decisions: BTreeMap<PolicyVersion, BTreeMap<DecisionId, ShadowRecord>>,
    /// Rewards of what was served with their variances and numbers, for the paired difference.
    served: HashMap<DecisionId, (f64, f64, u32)>,
    /// The same, oldest first.
    served_order: VecDeque<DecisionId>,
}

/// One candidate's figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShadowFigures {
    /// Decisions, failed ones included.
    pub decisions: u64,
    /// Of these failed.
    pub failures: u64,
    /// Kendall's tau.
    pub kendall_tau: Moments,
    /// Overlap.
    pub overlap: Moments,
    /// Difference of k.
    pub k_difference: Moments,
    /// Time of a decision, milliseconds.
    pub decide_ms: Moments,
    /// Context tokens, shadow's over served's: the ratio of the means.
    pub tokens_ratio: f64,
    /// Reward of the shadow's answer less that of the served one, on the same query.
    pub difference: Moments,
    /// SHA-256 over the decisions, in order of their ids.
    pub inputs: Digest,
}

impl Shadows {
    /// Takes a shadow decision; the first of a decision and a candidate counts.
    pub fn decision(&mut self, record: &ShadowRecord) {
        let kept = self.decisions.entry(record.policy.version).or_default();
        if kept.len() < DECISIONS_MAX {
            kept.entry(record.decision_id.clone()).or_insert_with(|| record.clone());
        }
    }

    /// Takes the verdict on what was served, of several the highest: it may be read before the shadow decision beside it.
    pub fn reward(&mut self, record: &RewardRecord) {
        let Some(reward) = record.reward() else { return };
        let value = (reward.total, super::ledger::noise(reward), record.revision);
        if let Some(known) = self.served.get_mut(&record.decision_id) {
            if known.2 < record.revision {
                *known = value;
            }
            return;
        }
        self.served.insert(record.decision_id.clone(), value);
        self.served_order.push_back(record.decision_id.clone());
        while self.served_order.len() > DECISIONS_MAX {
            if let Some(oldest) = self.served_order.pop_front() {
                self.served.remove(&oldest);
            }
        }
    }

    /// Forgets the decisions of all other candidates.
    pub fn keep_only(&mut self, open: &[PolicyVersion]) {
        self.decisions.retain(|version, _| open.contains(version));
        if open.is_empty() {
            self.served.clear();
            self.served_order.clear();
        }
    }

    /// The figures of one candidate.
    #[expect(clippy::cast_precision_loss, reason = "tokens and k are far below 2^52")]
    pub fn of(&self, version: PolicyVersion) -> ShadowFigures {
        let mut figures = ShadowFigures::default();
        let (mut tokens, mut served_tokens, mut inputs) = (0_u64, 0_u64, String::new());
        for (id, record) in self.decisions.get(&version).into_iter().flatten() {
            figures.decisions += 1;
            let Some(agreement) = &record.agreement else {
                figures.failures += 1;
                continue;
            };
            figures.kendall_tau.push(agreement.kendall_tau, 0.0);
            figures.overlap.push(agreement.overlap, 0.0);
            figures.k_difference.push(agreement.k_difference as f64, 0.0);
            figures.decide_ms.push(record.decide_ms, 0.0);
            tokens += record.context_tokens;
            served_tokens += record.served_tokens;
            let served = self.served.get(id);
            let pair = record.reward.as_ref().zip(served);
            let difference = pair.map(|(own, (served, noise, _))| {
                (own.total - served, super::ledger::noise(own) + noise)
            });
            if let Some((difference, noise)) = difference {
                figures.difference.push(difference, noise);
            }
            // Writing to a String cannot fail.
            let _ = writeln!(inputs, "{id}: {:?} {difference:?}", record.order);
        }
        figures.tokens_ratio = tokens as f64 / served_tokens.max(1) as f64;
        figures.inputs = PolicySnapshot::digest_of(inputs.as_bytes());
        figures
    }
}

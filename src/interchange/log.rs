//! Judged episodes of a log as records to export.
//!
//! An episode with its reward is a demonstration. Of several episodes that asked one question over
//! the same candidates, the best and the worst are a preference: only then do both answer one prompt.
//! Knows records, not where they are kept.

use super::records::{Demonstration, Preference, TrainingRecord, Tried};
use actors::ports::{Record, Stream};
use actors::types::{
    Decision, DecisionId, DocumentId, Episode, Gate, Outcome, RewardRecord, Sample, Verdict,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of the records of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Joined {
    /// Episodes with a reward.
    pub judged: u64,
    /// Episodes without one (yet), or whose verdict is no reward.
    pub unjudged: u64,
    /// Episodes without a decision, or that failed.
    pub undecided: u64,
    /// Answered without documents because none could be had: they say nothing of the policy.
    pub degraded: u64,
    /// Records of a name that had come before; the last one counts.
    pub repeated: u64,
    /// Records that could not be read, or whose numbers are none.
    pub broken: u64,
}

/// Episodes and rewards as they come, joined by decision.
#[derive(Debug, Default)]
pub struct Episodes {
    episodes: BTreeMap<DecisionId, Episode>,
    rewards: BTreeMap<DecisionId, RewardRecord>,
    joined: Joined,
}

impl Episodes {
    /// The streams that are needed.
    pub const STREAMS: [Stream; 2] = [Stream::Episodes, Stream::Rewards];

    /// Takes in one record; other streams' are passed over.
    pub fn take(&mut self, record: &Record) {
        match record.stream {
            Stream::Episodes => match serde_json::from_slice::<Episode>(&record.payload) {
                Ok(episode) => self.episode(episode),
                Err(_) => self.joined.broken += 1,
            },
            Stream::Rewards => match serde_json::from_slice::<RewardRecord>(&record.payload) {
                Ok(reward) => {
                    let known = self.rewards.insert(reward.decision_id.clone(), reward);
                    self.joined.repeated += u64::from(known.is_some());
                }
                Err(_) => self.joined.broken += 1,
            },
            _ => {}
        }
    }

    fn episode(&mut self, episode: Episode) {
        let id = episode.decision_id().cloned();
        match id {
            Some(id) if !matches!(episode.outcome, Outcome::Failed { .. }) => {
                if episode.degraded.is_some() {
                    self.joined.degraded += 1;
                    return;
                }
                let known = self.episodes.insert(id, episode);
                self.joined.repeated += u64::from(known.is_some());
            }
            _ => self.joined.undecided += 1,
        }
    }

    /// The judged episodes in the order of their decisions' names, and the count of the others.
    pub fn judged(mut self) -> (Vec<Sample>, Joined) {
        let mut samples = Vec::new();
        for (id, episode) in self.episodes {
            match self.rewards.remove(&id) {
                Some(RewardRecord { verdict: Verdict::Scored { reward }, references, .. })
                    if reward.total.is_finite() =>
                {
                    self.joined.judged += 1;
                    samples.push(Sample { episode, reward, references });
                }
                _ => self.joined.unjudged += 1,
            }
        }
        (samples, self.joined)
    }
}

/// Every judged episode as a demonstration; one whose decision does not fit its candidates is
/// counted in `joined.broken`.
pub fn demonstrations(samples: &[Sample], joined: &mut Joined) -> Vec<TrainingRecord> {
    let mut records = Vec::with_capacity(samples.len());
    for sample in samples {
        let Some(decision) = &sample.episode.decision else { continue };
        let record = TrainingRecord::Demonstration(Demonstration {
            query: query(sample),
            candidates: sample.episode.candidates.clone(),
            order: order(decision),
            answer: answer(&sample.episode),
            reward: Some(sample.reward.total),
            log_prob: log_prob(decision),
            policy: decision.policy.clone(),
        });
        match record.check() {
            Ok(()) => records.push(record),
            Err(_) => joined.broken += 1,
        }
    }
    records
}

/// The best and the worst episode of every question that was asked more than once over the same
/// candidates. One that was asked once is no preference, and comes as a demonstration, so that it is
/// counted by whoever needs a preference.
pub fn preferences(samples: &[Sample], joined: &mut Joined) -> Vec<TrainingRecord> {
    let mut groups: BTreeMap<(&str, Vec<&DocumentId>), Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let documents = sample.episode.candidates.iter().map(|c| &c.document.id).collect();
        groups.entry((&sample.episode.query.text, documents)).or_default().push(sample);
    }
    let mut records = Vec::new();
    for mut group in groups.into_values() {
        group.sort_by(|a, b| b.reward.total.total_cmp(&a.reward.total));
        let (Some(best), Some(worst)) = (group.first(), group.last()) else { continue };
        let tried = |sample: &Sample| {
            sample.episode.decision.as_ref().map(|decision| Tried {
                order: order(decision),
                answer: answer(&sample.episode),
                reward: sample.reward.total,
                log_prob: log_prob(decision),
            })
        };
        if group.len() == 1 {
            records.extend(demonstrations(std::slice::from_ref(*best), joined));
            continue;
        }
        let (Some(chosen), Some(rejected)) = (tried(best), tried(worst)) else { continue };
        let stamp = best.episode.decision.as_ref().map(|decision| decision.policy.clone());
        let record = TrainingRecord::Preference(Preference {
            query: query(best),
            candidates: best.episode.candidates.clone(),
            chosen,
            rejected,
            policy: stamp.unwrap_or_default(),
        });
        match record.check() {
            Ok(()) => records.push(record),
            Err(_) => joined.broken += 1,
        }
    }
    records
}

/// The question with every reference that was known when it was judged.
fn query(sample: &Sample) -> actors::types::Query {
    let mut query = sample.episode.query.clone();
    // The candidates are a field of their own.
    query.candidates = None;
    for reference in &sample.references {
        if !query.references.contains(reference) {
            query.references.push(reference.clone());
        }
    }
    query
}

fn order(decision: &Decision) -> Vec<u32> {
    match decision.gate {
        Gate::Retrieve => decision.order.clone(),
        Gate::Direct => Vec::new(),
    }
}

fn answer(episode: &Episode) -> Option<String> {
    match &episode.outcome {
        Outcome::Answered { answer } => Some(answer.text.clone()),
        _ => None,
    }
}

fn log_prob(decision: &Decision) -> Option<f64> {
    decision.is_explored().then(|| decision.log_prob())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use actors::types::{
        Answer, Candidate, CandidateStates, Degraded, Document, Exploration, PolicyStamp, Query,
        Reward, RewardPart, SelectionLimits,
    };

    pub(crate) fn episode(id: &str, question: &str, chosen: &[u32]) -> Episode {
        let candidate = |rank: u32| Candidate {
            document: Document { id: format!("d{rank}").as_str().into(), ..Document::default() },
            score: 1.0,
            rank,
        };
        let decision = Decision {
            id: id.into(),
            gate: Gate::Retrieve,
            rewrite: 0,
            order: chosen.to_vec(),
            step_log_probs: vec![-0.5; chosen.len() + 1],
            scores: vec![0.0; 3],
            exploration: Exploration::Sample { temperature: 1.0, epsilon: 0.0 },
            limits: SelectionLimits { k_min: 0, k_max: 3, token_budget: 100 },
            deviates: None,
            candidate_tokens: vec![1; 3],
            states: CandidateStates::default(),
            policy: PolicyStamp::default(),
        };
        Episode {
            schema: Episode::SCHEMA,
            query: Query { text: question.to_owned(), ..Query::default() },
            rewrites: Vec::new(),
            candidates: (0..3).map(candidate).collect(),
            decision: Some(decision),
            outcome: Outcome::Answered {
                answer: Answer { text: format!("answer of {id}"), ..Answer::default() },
            },
            degraded: None,
            assignment: None,
            interleaved: None,
            unusable_for_ope: None,
            finished_ms: 0,
            duration_ms: 0,
        }
    }

    fn judged(id: &str, value: f64) -> RewardRecord {
        let part = RewardPart { name: "f1".to_owned(), value, weight: 1.0, votes: None };
        RewardRecord {
            schema: 1,
            decision_id: id.into(),
            revision: 0,
            verdict: Verdict::Scored { reward: Reward::from_parts(vec![part]).unwrap() },
            references: vec!["gold".to_owned()],
            judge: "test".to_owned(),
            judged_ms: 0,
        }
    }

    fn log(episodes: &[Episode], rewards: &[RewardRecord]) -> (Vec<Sample>, Joined) {
        let mut all = Episodes::default();
        let record = |stream, payload: Vec<u8>| Record {
            stream,
            partition: 0,
            offset: 0,
            key: String::new(),
            headers: BTreeMap::new(),
            payload,
        };
        for reward in rewards {
            all.take(&record(Stream::Rewards, serde_json::to_vec(reward).unwrap()));
        }
        for episode in episodes {
            all.take(&record(Stream::Episodes, serde_json::to_vec(episode).unwrap()));
        }
        all.take(&record(Stream::Episodes, b"{".to_vec()));
        all.judged()
    }

    #[test]
    fn episodes_meet_their_rewards_and_the_rest_is_counted() {
        let degraded = Degraded { stage: "retrieve".to_owned(), reason: "away".to_owned() };
        let episodes = [
            episode("a", "who?", &[1, 0]),
            episode("b", "when?", &[]),
            Episode { degraded: Some(degraded), ..episode("c", "where?", &[]) },
            Episode { decision: None, ..episode("d", "why?", &[]) },
            episode("a", "who?", &[1, 0]),
        ];
        let (samples, mut joined) = log(&episodes, &[judged("a", 0.8)]);
        let expected =
            Joined { judged: 1, unjudged: 1, undecided: 1, degraded: 1, repeated: 1, broken: 1 };
        assert_eq!(joined, expected);
        let records = demonstrations(&samples, &mut joined);
        let [TrainingRecord::Demonstration(record)] = &records[..] else { panic!("{records:?}") };
        assert_eq!((&record.order, record.reward), (&vec![1, 0], Some(0.8)));
        assert_eq!((record.log_prob, record.answer.as_deref()), (Some(-1.5), Some("answer of a")));
        assert_eq!(record.query.references, ["gold"]);
    }

    #[test]
    fn a_question_asked_often_gives_its_best_and_its_worst() {
        let mut other = episode("d", "who?", &[0]);
        other.candidates.truncate(2);
        let episodes = [
            episode("a", "who?", &[0]),
            episode("b", "who?", &[1]),
            episode("c", "who?", &[2]),
            other,
        ];
        let rewards = [judged("a", 0.4), judged("b", 0.9), judged("c", 0.1), judged("d", 0.0)];
        let (samples, mut joined) = log(&episodes, &rewards);
        let records = preferences(&samples, &mut joined);
        let pairs: Vec<_> = records
            .iter()
            .filter_map(|record| match record {
                TrainingRecord::Preference(pair) => Some((&pair.chosen, &pair.rejected)),
                TrainingRecord::Demonstration(_) => None,
            })
            .collect();
        assert_eq!(records.len(), 2, "other candidates are another prompt");
        assert_eq!(pairs.len(), 1);
        assert_eq!((&pairs[0].0.order, &pairs[0].1.order), (&vec![1], &vec![2]));
    }
}

//! The conservation laws over a whole log: what came in, what became of it, and what is missing.
//!
//! Counts names, not records: a repeat is counted as one, since repeats do no harm. Knows records,
//! not where they are kept.

use actors::ports::{Record, Stream};
use actors::types::{AnswerRecord, Episode, Outcome, QueryId, RewardRecord, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is taken in, by name.
#[derive(Debug, Default)]
pub struct Ledger {
    queries: BTreeSet<String>,
    /// Answer of each query by name: whether it is one, or an error; and how often it was written.
    answers: BTreeMap<String, (bool, u64)>,
    served: BTreeSet<String>,
    /// Whether an episode is to be judged.
    episodes: BTreeMap<String, bool>,
    feedback: BTreeMap<String, String>,
    rewards: BTreeMap<String, (&'static str, u32)>,
    letters: BTreeMap<String, String>,
    repeats: Repeats,
}

/// Records whose name had been seen before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Repeats {
    /// Queries written again by applications.
    pub queries: u64,
    /// Answers written again; they carry the same `ce_id`.
    pub answers: u64,
    /// Episodes written again.
    pub episodes: u64,
    /// Feedback written again.
    pub feedback: u64,
    /// Rewards written again.
    pub rewards: u64,
}

/// The balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Distinct queries on the log, unreadable ones left out.
    pub queries: u64,
    /// Of these, answered.
    pub queries_answered: u64,
    /// Of these, answered with an error.
    pub queries_failed: u64,
    /// Of these, without an answer (yet).
    pub queries_pending: u64,
    /// Answers to queries that are not on the log.
    pub answers_unasked: u64,
    /// Distinct decisions in answers.
    pub decisions_served: u64,
    /// Of these, without an episode: must be 0.
    pub decisions_unlogged: u64,
    /// Distinct episodes.
    pub episodes: u64,
    /// Of these, with a reward.
    pub episodes_judged: u64,
    /// Of these, the judge abstained.
    pub episodes_abstained: u64,
    /// Of these, waited in vain.
    pub episodes_expired: u64,
    /// Of these, the judge failed on as often as it may.
    pub episodes_failed: u64,
    /// Of these, without an answer to judge.
    pub episodes_unanswered: u64,
    /// Of these, without a verdict (yet).
    pub episodes_pending: u64,
    /// Rewards of decisions without an episode: must be 0.
    pub rewards_unlogged: u64,
    /// Distinct feedback.
    pub feedback: u64,
    /// Of these, about an episode on the log.
    pub feedback_known: u64,
    /// Of these, about none.
    pub feedback_orphaned: u64,
    /// Records that could not be read, by the stream they were on.
    pub deadletters: BTreeMap<String, u64>,
    /// Repeats, which do no harm.
    pub repeats: Repeats,
}

impl Ledger {
    /// Takes in one record of any stream; one that cannot be read is somebody's dead letter.
    pub fn take(&mut self, record: &Record) {
        match record.stream {
            Stream::Queries => self.query(record),
            Stream::Answers => self.answer(record),
            Stream::Episodes => self.episode(record),
            Stream::Feedback => {
                #[derive(Deserialize)]
                struct Named {
                    id: String,
                    decision_id: String,
                }
                if let Ok(feedback) = serde_json::from_slice::<Named>(&record.payload) {
                    // An id counts within its decision.
                    let name = format!("{}/{}", feedback.decision_id, feedback.id);
                    let known = self.feedback.insert(name, feedback.decision_id);
                    // What was sent on to the partition of its decision is the same feedback.
                    let is_sent_on = record.headers.contains_key("regrade_forwarded");
                    self.repeats.feedback += u64::from(known.is_some() && !is_sent_on);
                }
            }
            Stream::Rewards => self.reward(record),
            Stream::Deadletter => self.letter(record),
            Stream::Policies | Stream::Shadows => {}
        }
    }

    fn query(&mut self, record: &Record) {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            id: QueryId,
        }
        if let Ok(named) = serde_json::from_slice::<Named>(&record.payload) {
            let name = record.name(named.id.as_str());
            self.repeats.queries += u64::from(!self.queries.insert(name));
        }
    }

    fn answer(&mut self, record: &Record) {
        let Ok(answer) = serde_json::from_slice::<AnswerRecord>(&record.payload) else { return };
        if let Some(served) = &answer.served {
            self.served.insert(served.decision_id.0.clone());
        }
        let name = record.headers.get("ce_id").cloned().unwrap_or_default();
        let entry = self.answers.entry(name).or_insert((answer.served.is_some(), 0));
        entry.1 += 1;
        self.repeats.answers += u64::from(entry.1 > 1);
    }

    fn episode(&mut self, record: &Record) {
        let Ok(episode) = serde_json::from_slice::<Episode>(&record.payload) else { return };
        let Some(id) = episode.decision_id() else { return };
        let is_judged = !matches!(episode.outcome, Outcome::Failed { .. });
        let known = self.episodes.insert(id.0.clone(), is_judged);
        self.repeats.episodes += u64::from(known.is_some());
    }

    fn reward(&mut self, record: &Record) {
        let Ok(reward) = serde_json::from_slice::<RewardRecord>(&record.payload) else { return };
        let word = match reward.verdict {
            Verdict::Scored { .. } => "judged",
            Verdict::Abstained { .. } => "abstained",
            Verdict::Failed { .. } => "failed",
            Verdict::Expired => "expired",
        };
        // The highest revision counts; only what comes a second time is a repeat.
        let (id, revision) = (reward.decision_id.0, reward.revision);
        let is_repeat = self.rewards.get(&id).is_some_and(|(_, highest)| revision <= *highest);
        self.repeats.rewards += u64::from(is_repeat);
        if !is_repeat {
            self.rewards.insert(id, (word, revision));
        }
    }

    fn letter(&mut self, record: &Record) {
        #[derive(Deserialize)]
        struct Letter {
            origin: String,
        }
        if let Ok(Letter { origin }) = serde_json::from_slice(&record.payload) {
            let topic = origin.split('/').next().unwrap_or_default().to_owned();
            self.letters.insert(origin, topic);
        }
    }

    /// The balance of what was taken in.
    pub fn balance(&self) -> Audit {
        let mut deadletters = BTreeMap::new();
        for topic in self.letters.values() {
            *deadletters.entry(topic.clone()).or_default() += 1;
        }
        // A query that could be read as JSON and yet was refused has a dead letter, and no answer.
        let refused = deadletters.get(Stream::Queries.topic()).copied().unwrap_or(0);
        let answered = |ok: bool| {
            let asked = self.answers.iter().filter(|(name, _)| self.queries.contains(*name));
            asked.filter(|(_, (is_answer, _))| *is_answer == ok).count() as u64
        };
        let (queries_answered, queries_failed) = (answered(true), answered(false));
        let queries = self.queries.len() as u64;
        let open = queries - queries_answered - queries_failed;
        let verdicts = |word: &str| {
            let known = self.rewards.iter().filter(|(id, _)| self.episodes.contains_key(*id));
            known.filter(|(_, (verdict, _))| *verdict == word).count() as u64
        };
        let [judged, abstained, failed, expired] =
            ["judged", "abstained", "failed", "expired"].map(verdicts);
        let episodes = self.episodes.len() as u64;
        let unanswered = self.episodes.values().filter(|is_judged| !**is_judged).count() as u64;
        let known = |id: &&String| self.episodes.contains_key(*id);
        let feedback_known = self.feedback.values().filter(known).count() as u64;
        Audit {
            queries: queries - refused.min(open),
            queries_answered,
            queries_failed,
            queries_pending: open.saturating_sub(refused),
            answers_unasked: self.answers.len() as u64 - queries_answered - queries_failed,
            decisions_served: self.served.len() as u64,
            decisions_unlogged: self.served.iter().filter(|id| !known(id)).count() as u64,
            episodes,
            episodes_judged: judged,
            episodes_abstained: abstained,
            episodes_expired: expired,
            episodes_failed: failed,
            episodes_unanswered: unanswered,
            episodes_pending: episodes
                .saturating_sub(judged + abstained + expired + failed + unanswered),
            rewards_unlogged: self.rewards.keys().filter(|id| !known(id)).count() as u64,
            feedback: self.feedback.len() as u64,
            feedback_known,
            feedback_orphaned: self.feedback.len() as u64 - feedback_known,
            deadletters,
            repeats: self.repeats,
        }
    }
}

impl Audit {
    /// The laws that do not hold, whatever is still under way.
    pub fn breaches(&self) -> Vec<String> {
        let laws = [
            (self.decisions_unlogged, "decisions were served that no episode tells of"),
            (self.rewards_unlogged, "rewards are of decisions that no episode tells of"),
        ];
        let broken = laws.into_iter().filter(|(count, _)| *count > 0);
        broken.map(|(count, law)| format!("{count} {law}")).collect()
    }

    /// Whether nothing is under way: every query answered, every episode with its verdict.
    pub fn is_settled(&self) -> bool {
        self.queries_pending == 0 && self.episodes_pending == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use serde_json::{Value, json};

    fn record(stream: Stream, offset: u64, id: &str, payload: Value) -> Record {
        Record {
            stream,
            partition: 0,
            offset,
            key: id.to_owned(),
            headers: BTreeMap::from([("ce_id".to_owned(), id.to_owned())]),
            payload: payload.to_string().into_bytes(),
        }
    }

    fn letter(origin: &str) -> Record {
        record(Stream::Deadletter, 0, origin, json!({ "origin": origin }))
    }

    #[test]
    fn every_query_is_answered_failed_refused_or_pending_and_repeats_count_once() {
        let mut ledger = Ledger::default();
        for (offset, id) in [(0, "a"), (1, "b"), (2, "c"), (3, "a"), (4, "bad")] {
            ledger.take(&record(Stream::Queries, offset, "", json!({ "id": id, "query": "?" })));
        }
        let failed = json!({
            "schema": 1, "query_id": "b", "served": null, "error": "no", "time_ms": 0
        });
        ledger.take(&record(Stream::Answers, 0, "|b", failed.clone()));
        ledger.take(&record(Stream::Answers, 1, "|b", failed));
        ledger.take(&letter("regrade.queries/0/4"));
        ledger.take(&letter("regrade.queries/0/4"));
        let mut audit = ledger.balance();
        // Without `ce_source` the header alone names nothing.
        assert_eq!((audit.queries, audit.queries_failed, audit.queries_pending), (3, 1, 2));
        assert_eq!((audit.repeats.queries, audit.repeats.answers), (1, 1));
        assert!(!audit.is_settled() && audit.breaches().is_empty());
        audit.decisions_unlogged = 2;
        assert_eq!(audit.breaches(), ["2 decisions were served that no episode tells of"]);
    }

    #[test]
    fn a_reward_without_an_episode_is_a_breach() {
        let mut ledger = Ledger::default();
        let reward = json!({
            "schema": 1, "decision_id": "d", "verdict": "expired", "judge": "j", "judged_ms": 0
        });
        ledger.take(&record(Stream::Rewards, 0, "d", reward));
        assert_eq!(ledger.balance().rewards_unlogged, 1);
        assert_eq!(ledger.balance().breaches().len(), 1);
    }
}

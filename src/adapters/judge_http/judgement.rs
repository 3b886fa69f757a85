//! One episode from task to verdict: whether the model is asked, what it is shown, what its votes
//! make of the reward.

use super::votes::{Ballots, Voter};
use super::{ABSTENTIONS, LlmJudge, WithoutLlm, rubric_context, verdict};
use crate::chat::{Budget, ChatClient, Message, PromptError, fenced, truncated};
use crate::rewards::{Subject, known_references};
use actors::ports::{Judge, JudgeError, JudgeTask};
use actors::types::{Answer, Episode, Gate, Outcome, Verdict, Votes};
use async_trait::async_trait;
use minijinja::context;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

#[async_trait]
impl Judge for LlmJudge {
    async fn judge(&self, task: &JudgeTask) -> Result<Option<Verdict>, JudgeError> {
        let is_answered = matches!(task.episode.outcome, Outcome::Answered { .. });
        if is_answered && !is_sampled(identity(&task.episode), self.config.sampling) {
            return self.without_llm(task, "not_sampled", "not sampled").await;
        }
        self.judged(task, &self.parts.client).await
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// The same judge for selections that the learner tries: it is asked about every one of them, for
/// they belong to episodes that were sampled. The judge's budget covers both; what the client has of
/// its own is a limit of the trials alone.
pub struct TrialJudge {
    judge: Arc<LlmJudge>,
    client: ChatClient,
}

impl TrialJudge {
    /// Asks by the judge's client, or by one that the learner pays for.
    pub fn new(judge: Arc<LlmJudge>, budget: Option<Arc<Budget>>) -> Self {
        let client = judge.parts.client.clone();
        let client = match budget {
            Some(budget) => client.with_budget(budget),
            None => client,
        };
        Self { judge, client }
    }
}

#[async_trait]
impl Judge for TrialJudge {
    async fn judge(&self, task: &JudgeTask) -> Result<Option<Verdict>, JudgeError> {
        self.judge.judged(task, &self.client).await
    }

    fn name(&self) -> String {
        self.judge.name()
    }
}

impl LlmJudge {
    /// Asks the model about an episode, sampled or not.
    async fn judged(
        &self,
        task: &JudgeTask,
        client: &ChatClient,
    ) -> Result<Option<Verdict>, JudgeError> {
        let Outcome::Answered { answer } = &task.episode.outcome else {
            // No answer that a model could read; feedback may still tell what it was worth.
            return self.parts.reference.judge(task).await;
        };
        let id = identity(&task.episode);
        let references = known_references(&task.episode.query, &task.feedback);
        let messages = |nonce: &str| self.messages(&task.episode, answer, &references, nonce);
        let voter = Voter {
            judge: self,
            client,
            id,
            format: verdict::grades_format(self.config.format, &self.rubric),
        };
        let read = |reply: &str, nonce: &str| {
            verdict::grades(reply, nonce, &self.rubric).map(|scores| self.rubric.value(&scores))
        };
        match voter.ask(self.config.votes, messages, read).await? {
            Ballots::NoBudget => self.without_llm(task, "budget", "budget is spent").await,
            Ballots::Refused(reason) => Ok(Some(Verdict::Failed { reason })),
            Ballots::Unreadable(reason) => Ok(Some(abstained("unparsable", reason))),
            Ballots::Counted(values) => Ok(Some(self.scored(task, answer, &references, &values))),
        }
    }

    /// What becomes of an episode that the model is not asked about.
    async fn without_llm(
        &self,
        task: &JudgeTask,
        cause: &'static str,
        reason: &str,
    ) -> Result<Option<Verdict>, JudgeError> {
        match self.config.otherwise {
            WithoutLlm::Abstain => Ok(Some(abstained(cause, reason.to_owned()))),
            WithoutLlm::Reference => self.parts.reference.judge(task).await,
        }
    }

    fn scored(
        &self,
        task: &JudgeTask,
        answer: &Answer,
        references: &[String],
        values: &[f64],
    ) -> Verdict {
        let (mean, votes) = counted(values);
        let decision = task.episode.decision.as_ref();
        let subject = Subject {
            query: &task.episode.query,
            answer,
            gate: decision.map_or(Gate::Direct, |decision| decision.gate),
            documents: decision.map_or(0, |decision| decision.order.len()),
        };
        match self.parts.blend.score_judged(subject, references, (mean, votes)) {
            Some(reward) => Verdict::Scored { reward },
            None => abstained("unparsable", "the reward is not finite".to_owned()),
        }
    }

    /// The prompt of one vote. All that strangers wrote is fenced before a template sees it, so no
    /// template can leave it unfenced.
    fn messages(
        &self,
        episode: &Episode,
        answer: &Answer,
        references: &[String],
        nonce: &str,
    ) -> Result<Vec<Message>, PromptError> {
        let longest = self.config.document_tokens_max;
        let fence = |label: &str, text: &str| fenced(label, truncated(text, longest), nonce);
        let order = episode.decision.as_ref().map(|d| d.order.as_slice()).unwrap_or_default();
        let chosen = order.iter().filter_map(|index| episode.candidates.get(*index as usize));
        let documents = chosen.take(self.config.documents_max).enumerate();
        let documents: Vec<String> = documents
            .map(|(n, candidate)| {
                let document = &candidate.document;
                let text = format!("{}\n{}", document.title, document.text);
                fence(&format!("document {}", n + 1), text.trim())
            })
            .collect();
        let references: Vec<String> =
            references.iter().map(|reference| fence("reference", reference)).collect();
        self.prompt.render(&context! {
            question => fence("question", &episode.query.text),
            answer => fence("answer", &answer.text),
            references,
            documents,
            ..rubric_context(&self.rubric, nonce)
        })
    }
}

/// What names an episode for good: its decision, or, where none was made, its query.
fn identity(episode: &Episode) -> &str {
    episode.decision_id().map_or(episode.query.id.as_str(), |id| id.as_str())
}

/// Whether an episode is among the share that is judged: by its id, so that everybody who asks,
/// today or after a restart, has the same answer.
pub(super) fn is_sampled(id: &str, share: f64) -> bool {
    let digest = Sha256::new().chain_update(b"judge sample ").chain_update(id).finalize();
    let drawn = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(drawn) / (f64::from(u32::MAX) + 1.0) < share
}

/// Mean and spread of at least one vote.
pub(super) fn counted(values: &[f64]) -> (f64, Votes) {
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX).max(1);
    let n = f64::from(count);
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let spread = if count > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
    (mean, Votes { count, spread })
}

fn abstained(cause: &'static str, reason: String) -> Verdict {
    metrics::counter!(ABSTENTIONS, "cause" => cause).increment(1);
    Verdict::Abstained { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampled_share_is_about_what_was_asked_for_and_never_changes() {
        let drawn = |share| (0..10_000).filter(|n| is_sampled(&format!("d{n}"), share)).count();
        assert_eq!((drawn(0.0), drawn(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&drawn(0.1)), "{}", drawn(0.1));
        let more = (0..1_000).map(|n| format!("d{n}")).filter(|id| is_sampled(id, 0.2));
        let of_less = (0..1_000).map(|n| format!("d{n}")).filter(|id| is_sampled(id, 0.1));
        let more: Vec<String> = more.collect();
        assert!(of_less.into_iter().all(|id| more.contains(&id)), "a larger share holds a smaller");
    }

    #[test]
    fn votes_have_a_mean_and_a_spread() {
        let (mean, votes) = counted(&[0.2, 0.4, 0.9]);
        assert!((mean - 0.5).abs() < 1e-12);
        assert_eq!(votes.count, 3);
        // Squares 0.09, 0.01 and 0.16 over 2.
        assert!((votes.spread - 0.13_f64.sqrt()).abs() < 1e-12);
        assert_eq!(counted(&[0.7]).1, Votes { count: 1, spread: 0.0 });
    }
}

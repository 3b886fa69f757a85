//! One episode from task to verdict: whether the model is asked, what it is shown, what its votes
//! make of the reward.

use super::votes::{Ballots, Voter};
use super::{ABSTENTIONS, LlmJudge, WithoutLlm, rubric_context, verdict};
use crate::adapters::judge_reference::weighed;
use crate::chat::{Budget, ChatClient, Message, PromptError, fenced, truncated};
use crate::rewards::{Evidence, Given, mean};
use actors::ports::{Judge, JudgeError, JudgeTask, Judgement};
use actors::types::Answer;
use async_trait::async_trait;
use minijinja::context;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

#[async_trait]
impl Judge for LlmJudge {
    async fn judge(&self, task: &JudgeTask) -> Result<Judgement, JudgeError> {
        if task.answer.is_some() && !is_sampled(&task.id, self.config.sampling) {
            return Ok(self.without_llm(task, "not_sampled", "not sampled"));
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
    async fn judge(&self, task: &JudgeTask) -> Result<Judgement, JudgeError> {
        self.judge.judged(task, &self.client).await
    }

    fn name(&self) -> String {
        self.judge.name()
    }
}

impl LlmJudge {
    /// Asks the model about an answer, sampled or not; once: a verdict that was given before is
    /// weighed again beside what people said since.
    async fn judged(&self, task: &JudgeTask, client: &ChatClient) -> Result<Judgement, JudgeError> {
        let mut evidence = Evidence::of(task);
        // Without an answer that a model could read, feedback may still tell what it was worth.
        let Some(answer) = task.answer.as_ref().filter(|_| evidence.verdict.is_none()) else {
            return Ok(weighed(&self.parts.blend, task, evidence));
        };
        let references: Vec<String> =
            evidence.references.iter().chain(&evidence.corrections).cloned().collect();
        let messages = |nonce: &str| self.messages(task, answer, &references, nonce);
        let voter = Voter {
            judge: self,
            client,
            id: &task.id,
            format: verdict::grades_format(self.config.format, &self.rubric),
        };
        let read = |reply: &str, nonce: &str| {
            verdict::grades(reply, nonce, &self.rubric).map(|scores| self.rubric.value(&scores))
        };
        match voter.ask(self.config.votes, messages, read).await? {
            Ballots::NoBudget => Ok(self.without_llm(task, "budget", "budget is spent")),
            Ballots::Refused(reason) => {
                Ok(self.by_people(task).unwrap_or(Judgement::Refused { reason }))
            }
            Ballots::Unreadable(reason) => {
                let abstained = || abstained("unparsable", reason);
                Ok(self.by_people(task).unwrap_or_else(abstained))
            }
            Ballots::Counted(values) => {
                let time_ms = self.parts.clock.now_ms();
                evidence.verdict = mean(&values).map(|(value, votes)| Given {
                    value,
                    votes: Some(votes),
                    time_ms,
                });
                Ok(weighed(&self.parts.blend, task, evidence))
            }
        }
    }

    /// What becomes of an answer that the model is not asked about. What people say of it counts in
    /// any case.
    fn without_llm(&self, task: &JudgeTask, cause: &'static str, reason: &str) -> Judgement {
        match self.config.otherwise {
            WithoutLlm::Reference => weighed(&self.parts.blend, task, Evidence::of(task)),
            WithoutLlm::Abstain => {
                self.by_people(task).unwrap_or_else(|| abstained(cause, reason.to_owned()))
            }
        }
    }

    /// The judgement by all that is known, if people said anything that has a weight.
    fn by_people(&self, task: &JudgeTask) -> Option<Judgement> {
        if task.feedback.is_empty() {
            return None;
        }
        let judgement = weighed(&self.parts.blend, task, Evidence::of(task));
        matches!(judgement, Judgement::Scored { .. }).then_some(judgement)
    }

    /// The prompt of one vote. All that strangers wrote is fenced before a template sees it, so no
    /// template can leave it unfenced.
    fn messages(
        &self,
        task: &JudgeTask,
        answer: &Answer,
        references: &[String],
        nonce: &str,
    ) -> Result<Vec<Message>, PromptError> {
        let longest = self.config.document_tokens_max;
        let fence = |label: &str, text: &str| fenced(label, truncated(text, longest), nonce);
        let documents = task.documents.iter().take(self.config.documents_max).enumerate();
        let documents: Vec<String> = documents
            .map(|(n, document)| {
                let text = format!("{}\n{}", document.title, document.text);
                fence(&format!("document {}", n + 1), text.trim())
            })
            .collect();
        let references: Vec<String> =
            references.iter().map(|reference| fence("reference", reference)).collect();
        self.prompt.render(&context! {
            question => fence("question", &task.query.text),
            answer => fence("answer", &answer.text),
            references,
            documents,
            ..rubric_context(&self.rubric, nonce)
        })
    }
}

/// Whether an episode is among the share that is judged: by its id, so that everybody who asks,
/// today or after a restart, has the same answer.
pub(super) fn is_sampled(id: &str, share: f64) -> bool {
    let digest = Sha256::new().chain_update(b"judge sample ").chain_update(id).finalize();
    let drawn = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(drawn) / (f64::from(u32::MAX) + 1.0) < share
}

fn abstained(cause: &'static str, reason: String) -> Judgement {
    metrics::counter!(ABSTENTIONS, "cause" => cause).increment(1);
    Judgement::Abstained { reason }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use actors::types::Votes;

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
        let (value, votes) = mean(&[0.2, 0.4, 0.9]).unwrap();
        assert!((value - 0.5).abs() < 1e-12);
        assert_eq!(votes.count, 3);
        // Squares 0.09, 0.01 and 0.16 over 2.
        assert!((votes.spread - 0.13_f64.sqrt()).abs() < 1e-12);
        assert_eq!(mean(&[0.7]).unwrap().1, Votes { count: 1, spread: 0.0 });
        assert_eq!(mean(&[]), None);
    }
}

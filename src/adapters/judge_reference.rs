//! A judge that compares with known answers: `ports::Judge` on a blend of rewards.
//!
//! Looks at the query's own references, then at those given as feedback, then at a value given as
//! feedback. Calls no model and nothing outside the process.

use crate::rewards::{Blend, BlendError, Subject, is_unanswerable, known_references};
use actors::ports::{Judge, JudgeError, JudgeTask};
use actors::types::{Answer, Gate, Outcome, PolicySnapshot, Reward, Verdict};
use async_trait::async_trait;

/// Judges by references; see the module.
#[derive(Debug, Clone)]
pub struct ReferenceJudge {
    blend: Blend,
    name: String,
}

impl ReferenceJudge {
    /// Checks the weights. The name carries a hash of them: other weights are another judge.
    pub fn new(blend: Blend) -> Result<Self, BlendError> {
        blend.check()?;
        let weights = format!("{blend:?}");
        let digest = PolicySnapshot::digest_of(weights.as_bytes());
        let short: String = digest.as_str().chars().take(12).collect();
        Ok(Self { blend, name: format!("reference/{short}") })
    }

    fn reward(&self, task: &JudgeTask, answer: &Answer) -> Option<Result<Reward, String>> {
        let decision = task.episode.decision.as_ref();
        let query = &task.episode.query;
        let subject = Subject {
            query,
            answer,
            gate: decision.map_or(Gate::Direct, |decision| decision.gate),
            documents: decision.map_or(0, |decision| decision.order.len()),
        };
        if task.episode.outcome == Outcome::Reranked {
            // There is no answer here to compare with references; the application has it.
            return self.reward_given(task, subject);
        }
        let not_finite = || "the reward is not finite".to_owned();
        let references = known_references(query, &task.feedback);
        if !references.is_empty() || is_unanswerable(query) {
            return Some(self.blend.score(subject, &references).ok_or_else(not_finite));
        }
        self.reward_given(task, subject)
    }

    /// By what people said alone. The last word counts: people change their minds.
    fn reward_given(
        &self,
        task: &JudgeTask,
        subject: Subject<'_>,
    ) -> Option<Result<Reward, String>> {
        let value = task.feedback.iter().rev().find_map(|feedback| feedback.value)?;
        let outside = || format!("feedback value {value} lies outside [0, 1]");
        Some(self.blend.score_given(subject, value).ok_or_else(outside))
    }
}

#[async_trait]
impl Judge for ReferenceJudge {
    async fn judge(&self, task: &JudgeTask) -> Result<Option<Verdict>, JudgeError> {
        let no_answer = Answer::default();
        let answer = match &task.episode.outcome {
            Outcome::Answered { answer } => answer,
            Outcome::Reranked => &no_answer,
            Outcome::Failed { stage, .. } => {
                let reason = format!("the query failed at {stage}: there is no answer to judge");
                return Ok(Some(Verdict::Abstained { reason }));
            }
        };
        Ok(self.reward(task, answer).map(|reward| match reward {
            Ok(reward) => Verdict::Scored { reward },
            Err(reason) => Verdict::Abstained { reason },
        }))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::adapters::contract::check_judge;
    use actors::types::{Episode, Feedback, Query};
    use std::sync::Arc;

    fn judge() -> ReferenceJudge {
        ReferenceJudge::new(Blend::default()).unwrap()
    }

    fn task(references: &[&str], feedback: Vec<Feedback>) -> JudgeTask {
        let query = Query {
            references: references.iter().map(|r| (*r).to_owned()).collect(),
            ..Query::default()
        };
        let answer = Answer { text: "Paris".to_owned(), ..Answer::default() };
        let episode = Episode {
            schema: Episode::SCHEMA,
            query,
            rewrites: Vec::new(),
            candidates: Vec::new(),
            decision: None,
            outcome: Outcome::Answered { answer },
            degraded: None,
            assignment: None,
            interleaved: None,
            unusable_for_ope: None,
            finished_ms: 0,
            duration_ms: 0,
        };
        JudgeTask { episode, feedback }
    }

    fn feedback(value: Option<f64>, references: &[&str]) -> Feedback {
        Feedback {
            id: "f".to_owned(),
            decision_id: "d".into(),
            value,
            references: references.iter().map(|r| (*r).to_owned()).collect(),
            source: String::new(),
            time_ms: 0,
        }
    }

    async fn total(task: JudgeTask) -> Option<f64> {
        match judge().judge(&task).await.unwrap()? {
            Verdict::Scored { reward } => Some(reward.total),
            other => panic!("expected a score, found {other:?}"),
        }
    }

    #[tokio::test]
    async fn the_reference_judge_keeps_the_contract() {
        check_judge(async || Arc::new(judge()) as Arc<dyn Judge>).await;
    }

    #[tokio::test]
    async fn own_references_come_before_feedback_and_references_before_values() {
        assert_eq!(total(task(&[], vec![])).await, None, "nothing to judge by: wait");
        assert_eq!(total(task(&["Paris"], vec![feedback(Some(0.0), &["Rome"])])).await, Some(1.0));
        let said = vec![feedback(Some(0.0), &["Rome"]), feedback(None, &["Paris"])];
        assert_eq!(total(task(&[], said)).await, Some(1.0));
        let values = vec![feedback(Some(0.0), &[]), feedback(Some(0.75), &[]), feedback(None, &[])];
        assert_eq!(total(task(&[], values)).await, Some(0.75), "the last value counts");
    }

    #[tokio::test]
    async fn a_value_outside_its_range_is_an_abstention_with_the_value() {
        let verdict = judge().judge(&task(&[], vec![feedback(Some(5.0), &[])])).await.unwrap();
        let Some(Verdict::Abstained { reason }) = verdict else { panic!("found {verdict:?}") };
        assert!(reason.contains("value 5 lies outside"), "{reason}");
    }

    #[test]
    fn other_weights_are_another_judge() {
        let other = Blend { context_cost: -0.1, ..Blend::default() };
        assert_ne!(judge().name(), ReferenceJudge::new(other).unwrap().name());
        assert_eq!(judge().name().len(), "reference/".len() + 12);
        assert!(ReferenceJudge::new(Blend { token_f1: 0.0, ..Blend::default() }).is_err());
    }
}

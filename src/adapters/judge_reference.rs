//! A judge by references and people: `ports::Judge` on a blend of rewards.
//!
//! Weighs the query's own references, those given as feedback, corrections, values and opened
//! citations, each with its weight. Calls no model and nothing outside the process.

use crate::rewards::{Blend, BlendError, Evidence, Subject, is_unanswerable};
use actors::ports::{Judge, JudgeError, JudgeTask, Judgement};
use actors::types::{Answer, PolicySnapshot};
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
}

/// Judges a task by evidence on it. Where there is no answer here to compare with, the application
/// has it, and what was said counts alone.
pub(super) fn weighed(blend: &Blend, task: &JudgeTask, mut evidence: Evidence) -> Judgement {
    let mut query = std::borrow::Cow::Borrowed(&task.query);
    if task.answer.is_none() {
        evidence.references.clear();
        evidence.corrections.clear();
        if is_unanswerable(&query) {
            query.to_mut().metadata.clear();
        }
    }
    let no_answer = Answer::default();
    let answer = task.answer.as_ref().unwrap_or(&no_answer);
    let (gate, documents) = (task.gate, task.documents.len());
    let subject = Subject { query: &query, answer, gate, documents };
    match blend.weigh(subject, &evidence) {
        Some(reward) => Judgement::Scored { reward },
        None => Judgement::NotYet,
    }
}

#[async_trait]
impl Judge for ReferenceJudge {
    async fn judge(&self, task: &JudgeTask) -> Result<Judgement, JudgeError> {
        // A model's verdict of before this judge was configured still counts by its weight.
        Ok(weighed(&self.blend, task, Evidence::of(task)))
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
    use actors::types::{Document, Feedback, Query};
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
        let document = Document { id: "p1".into(), ..Document::default() };
        JudgeTask { feedback, ..JudgeTask::new("d", query, vec![document], answer) }
    }

    fn feedback(value: Option<f64>, references: &[&str]) -> Feedback {
        Feedback {
            id: "f".to_owned(),
            decision_id: "d".into(),
            value,
            references: references.iter().map(|r| (*r).to_owned()).collect(),
            source: String::new(),
            ..Feedback::default()
        }
    }

    async fn total(task: JudgeTask) -> Option<f64> {
        match judge().judge(&task).await.unwrap() {
            Judgement::Scored { reward } => Some(reward.total),
            Judgement::NotYet => None,
            other => panic!("expected a score, found {other:?}"),
        }
    }

    #[tokio::test]
    async fn the_reference_judge_keeps_the_contract() {
        check_judge(async || Arc::new(judge()) as Arc<dyn Judge>).await;
    }

    #[tokio::test]
    async fn what_people_say_counts_beside_references() {
        assert_eq!(total(task(&[], vec![])).await, None, "nothing to judge by: wait");
        // F1 1 by the query's own reference, a value of 0, and equal weights.
        assert_eq!(total(task(&["Paris"], vec![feedback(Some(0.0), &["Rome"])])).await, Some(0.5));
        let said = vec![feedback(None, &["Rome"]), feedback(None, &["Paris"])];
        assert_eq!(total(task(&[], said)).await, Some(1.0), "any reference that is given");
        let values = vec![feedback(Some(0.0), &[]), feedback(Some(0.75), &[]), feedback(None, &[])];
        assert_eq!(total(task(&[], values)).await, Some(0.75), "the last value of a source counts");
        let other = Feedback { source: "b".to_owned(), ..feedback(Some(0.25), &[]) };
        let two = vec![feedback(Some(0.75), &[]), other];
        assert_eq!(total(task(&[], two)).await, Some(0.5), "and the mean over sources");
    }

    #[tokio::test]
    async fn a_correction_is_compared_and_an_opened_citation_is_a_small_sign() {
        let correction =
            |text: &str| Feedback { correction: Some(text.to_owned()), ..feedback(None, &[]) };
        assert_eq!(total(task(&[], vec![correction("Rome")])).await, Some(0.0));
        assert_eq!(total(task(&[], vec![correction("Paris")])).await, Some(1.0));
        let opened = |id: &str| Feedback { documents: vec![id.into()], ..feedback(None, &[]) };
        assert_eq!(total(task(&[], vec![opened("p1")])).await, Some(1.0));
        assert_eq!(total(task(&[], vec![opened("p2")])).await, None, "not of this answer");
        let both = total(task(&[], vec![feedback(Some(0.0), &[]), opened("p1")])).await.unwrap();
        assert!((both - 0.1 / 1.1).abs() < 1e-12, "{both}");
    }

    #[tokio::test]
    async fn where_nothing_was_answered_only_what_was_said_counts() {
        let ranked = |feedback| JudgeTask { answer: None, ..task(&["Paris"], feedback) };
        assert_eq!(total(ranked(vec![])).await, None);
        assert_eq!(total(ranked(vec![feedback(Some(0.25), &[])])).await, Some(0.25));
    }

    #[test]
    fn other_weights_are_another_judge() {
        let other = Blend { context_cost: -0.1, ..Blend::default() };
        assert_ne!(judge().name(), ReferenceJudge::new(other).unwrap().name());
        assert_eq!(judge().name().len(), "reference/".len() + 12);
        assert!(ReferenceJudge::new(Blend { token_f1: 0.0, ..Blend::default() }).is_err());
    }
}

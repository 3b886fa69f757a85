//! What is known of an answer's worth, sorted by who says it.
//!
//! Knows no weight.

use super::known_references;
use actors::ports::JudgeTask;
use actors::types::{Feedback, Reward, Votes};

/// A value in [0, 1] that somebody gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Given {
    /// The value.
    pub value: f64,
    /// What it is the mean of, if of more than one.
    pub votes: Option<Votes>,
    /// When the last of them was given, milliseconds since the Unix epoch; 0 where unknown.
    pub time_ms: u64,
}

/// All that is known of one answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Reference answers.
    pub references: Vec<String>,
    /// The answer as people said it should have been.
    pub corrections: Vec<String>,
    /// What people and programs gave: the mean over sources of the last value of each.
    pub human: Option<Given>,
    /// 1 where a document of the answer was opened.
    pub citation: Option<Given>,
    /// The verdict of a model.
    pub verdict: Option<Given>,
}

impl Evidence {
    /// References alone.
    pub fn references(references: &[String]) -> Self {
        Self { references: references.to_vec(), ..Self::default() }
    }

    /// What was said of a task; the verdict is that of an earlier judgement, if one was made.
    pub fn of(task: &JudgeTask) -> Self {
        let feedback = &task.feedback;
        let is_shown =
            |f: &Feedback| f.documents.iter().any(|id| task.documents.iter().any(|d| d.id == *id));
        let opened = feedback.iter().rev().find(|f| is_shown(f));
        Self {
            references: known_references(&task.query, feedback),
            corrections: feedback.iter().filter_map(|f| f.correction.clone()).collect(),
            human: human(feedback),
            citation: opened.map(|f| Given { value: 1.0, votes: None, time_ms: f.time_ms }),
            verdict: task.earlier.as_ref().and_then(verdict),
        }
    }
}

/// The last value of each source counts: people change their minds. Values outside [0, 1], which no
/// door lets in, are passed over.
fn human(feedback: &[Feedback]) -> Option<Given> {
    let mut last: Vec<(&str, f64)> = Vec::new();
    let mut time_ms = 0;
    for said in feedback {
        let Some(value) = said.value.filter(|value| (0.0..=1.0).contains(value)) else { continue };
        time_ms = said.time_ms;
        match last.iter_mut().find(|(source, _)| *source == said.source) {
            Some((_, known)) => *known = value,
            None => last.push((&said.source, value)),
        }
    }
    let values: Vec<f64> = last.into_iter().map(|(_, value)| value).collect();
    let (value, votes) = mean(&values)?;
    Some(Given { value, votes: (votes.count > 1).then_some(votes), time_ms })
}

fn verdict(earlier: &Reward) -> Option<Given> {
    let part = earlier.parts.iter().find(|part| part.name == "judge")?;
    Some(Given { value: part.value, votes: part.votes, time_ms: part.time_ms })
}

/// Mean and spread of values; `None` where there is none.
pub fn mean(values: &[f64]) -> Option<(f64, Votes)> {
    let count = u32::try_from(values.len()).ok().filter(|count| *count > 0)?;
    let n = f64::from(count);
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let spread = if count > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
    Some((mean, Votes { count, spread }))
}

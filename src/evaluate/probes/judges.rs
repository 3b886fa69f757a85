//! A fixed set of answers that a judge is asked about again and again, so that a change of the
//! judge shows as a change of its verdicts.
//!
//! The verdicts and baselines are for [`actors::drift::Monitor::probed`].

use super::ask;
use crate::datasets::{DatasetError, load_lines};
use actors::ports::{Judge, JudgeTask};
use actors::types::{Answer, Document, Query, QueryId};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One answer to be judged: a line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeProbe {
    /// Unique; question and answer where the file gives none.
    #[serde(default)]
    pub id: String,
    /// The question; never empty.
    pub question: String,
    /// The answer to be judged; may be empty.
    pub answer: String,
    /// What it rests on, in order.
    #[serde(default)]
    pub documents: Vec<Document>,
    /// Reference answers that the judge is shown; empty for a judge that needs none.
    #[serde(default)]
    pub references: Vec<String>,
    /// Mean of repeated verdicts, in [0, 1]; `None` until they were asked for.
    #[serde(default)]
    pub baseline: Option<f64>,
    /// Standard deviation of one of those verdicts; 0 where there was one only.
    #[serde(default)]
    pub spread: f64,
}

/// Why a probe has no verdict.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the judge gave no verdict on probe `{id}`: {reason}")]
pub struct NoVerdict {
    /// The probe.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Loads a set of probes: JSON lines, plain or gzip.
///
/// # Errors
/// A file that cannot be read or holds no probe; a line that is none, with its number.
pub fn load(path: &Path) -> Result<Vec<JudgeProbe>, DatasetError> {
    let expected = "a judge's probe: `question`, `answer`, perhaps `id`, `documents`, \
                    `references`, `baseline`, `spread`";
    let name = |probe: &mut JudgeProbe| -> Result<String, String> {
        if probe.question.trim().is_empty() {
            return Err("`question` is empty".to_owned());
        }
        if let Some(baseline) = probe.baseline.filter(|b| !(0.0..=1.0).contains(b)) {
            return Err(format!("`baseline` is {baseline}, expected 0 to 1"));
        }
        if !(probe.spread >= 0.0 && probe.spread.is_finite()) {
            return Err(format!("`spread` is {}, expected at least 0", probe.spread));
        }
        if probe.id.is_empty() {
            probe.id = format!("{} {}", probe.question, probe.answer);
        }
        Ok(probe.id.clone())
    };
    load_lines(path, ("probe", expected), name)
}

/// One verdict. `time` counts the verdicts on this probe: a judge that draws by the decision's name
/// draws anew.
///
/// # Errors
/// A judge that abstains or fails.
pub async fn verdict(judge: &dyn Judge, probe: &JudgeProbe, time: u64) -> Result<f64, NoVerdict> {
    let said = ask(judge, task(probe, time)).await;
    said.map_err(|reason| NoVerdict { id: probe.id.clone(), reason })
}

/// Asks `times` (≥ 1) for each probe and writes down mean and spread. Returns the verdicts, probe
/// by probe: they are the first reference of the detector.
///
/// # Errors
/// A judge that abstains or fails on one of them; nothing is written then.
pub async fn calibrate(
    judge: &dyn Judge,
    probes: &mut [JudgeProbe],
    times: u64,
) -> Result<Vec<Vec<f64>>, NoVerdict> {
    let mut all = Vec::with_capacity(probes.len());
    for probe in probes.iter() {
        let mut verdicts = Vec::new();
        for time in 0..times.max(1) {
            verdicts.push(verdict(judge, probe, time).await?);
        }
        all.push(verdicts);
    }
    for (probe, verdicts) in probes.iter_mut().zip(&all) {
        let n = verdicts.len() as f64;
        let mean = verdicts.iter().sum::<f64>() / n;
        let squares: f64 = verdicts.iter().map(|verdict| (verdict - mean).powi(2)).sum();
        probe.baseline = Some(mean);
        probe.spread = if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
    }
    Ok(all)
}

fn task(probe: &JudgeProbe, time: u64) -> JudgeTask {
    let query = Query {
        id: QueryId(probe.id.clone()),
        text: probe.question.clone(),
        references: probe.references.clone(),
        ..Query::default()
    };
    let citations = probe.documents.iter().map(|document| document.id.clone()).collect();
    let answer = Answer { text: probe.answer.clone(), citations, ..Answer::default() };
    JudgeTask::new(format!("probe-{}-{time}", probe.id), query, probe.documents.clone(), answer)
}

//! Records into a folder of training data: examples split by question, one shape, and a manifest
//! that counts what was left out and why.
//!
//! The folder holds `train.jsonl` and `holdout.jsonl` (questions that are never trained on, by a
//! hash of their group), beside each a `.meta.jsonl` that says line by line where an
//! example comes from, `dataset_info.json` where LLaMA-Factory needs it, and `manifest.json`. It is
//! whole or absent. Questions, passages, answers and references are written as the records have them.

use super::examples::{self, Example, Refused, Rules, Task};
use super::files::{self, FileError, NewFolder};
use super::limits::{LimitError, Tokens};
use super::records::TrainingRecord;
use super::shape::{Shape, Target};
use actors::clock::Clock;
use actors::types::{PolicyVersion, Query};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// What the manifest says of the data's nature.
const PERSONAL_DATA: &str = "Questions, passages, answers and references are those of the log or of \
the records, unchanged: treat these files as personal data where the traffic is.";

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Lengths cannot be counted.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A setting is out of range.
    #[error("{0}")]
    Setting(String),
    /// Every record was refused.
    #[error(
        "none of {records} records gives an example ({refused}); nothing was written: export \
         another kind, or loosen what refused them"
    )]
    Nothing {
        /// Records given.
        records: u64,
        /// Reasons with their counts.
        refused: String,
    },
}

/// What is exported, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// What becomes an example.
    #[serde(flatten)]
    pub rules: Rules,
    /// The shape of its line.
    pub shape: Shape,
    /// Share of questions held out, in [0, 1).
    pub holdout_fraction: f64,
    /// Metadata value that names a question's group; without it its normalised text does.
    pub holdout_key: String,
    /// Most examples, ≥ 1; a bound on memory.
    pub max_examples: u64,
}

impl Settings {
    /// Checks every value, naming the first that is wrong.
    ///
    /// # Errors
    /// What is wrong with it and what it may be.
    pub fn check(&self) -> Result<(), ExportError> {
        let Rules { limits, min_gap, min_reward, .. } = self.rules;
        let wrong = |text: String| Err(ExportError::Setting(text));
        if !(0.0..1.0).contains(&self.holdout_fraction) {
            let found = self.holdout_fraction;
            return wrong(format!("holdout_fraction: {found} must lie in [0, 1)"));
        }
        if !(min_gap.is_finite() && min_gap >= 0.0) {
            return wrong(format!("min_gap: {min_gap} must be 0 or above"));
        }
        if !min_reward.is_finite() {
            return wrong(format!("min_reward: {min_reward} must be a number"));
        }
        let sizes = [
            ("max_prompt_tokens", limits.max_prompt_tokens as u64),
            ("max_completion_tokens", limits.max_completion_tokens as u64),
            ("max_examples", self.max_examples),
        ];
        match sizes.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => wrong(format!("{name}: 0 must be 1 or above")),
            None => Ok(()),
        }
    }

    /// The name under which LLaMA-Factory knows a part.
    fn dataset(&self, part: &str) -> String {
        let task = match self.rules.task {
            Task::Sft => "sft",
            Task::Preferences => "preferences",
        };
        format!("regrade_{}_{task}_{part}", self.rules.role.as_str())
    }
}

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its name in the folder.
    pub file: String,
    /// Its lines.
    pub examples: u64,
    /// SHA-256 of its bytes.
    pub digest: String,
}

/// What an export did: the manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Schema of this document.
    pub schema: u32,
    /// When, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// Where the records come from.
    pub source: Value,
    /// The settings.
    pub settings: Settings,
    /// What lengths are counted in.
    pub unit: &'static str,
    /// The data files.
    pub files: Vec<FileReport>,
    /// Records given.
    pub records: u64,
    /// Records that gave no example, by reason.
    pub refused: BTreeMap<Refused, u64>,
    /// Examples whose passages were cut.
    pub prompts_cut: u64,
    /// Examples with a completion that was cut.
    pub completions_cut: u64,
    /// Versions of the weights that chose.
    pub policies: BTreeSet<PolicyVersion>,
    /// What the data may hold.
    pub notice: &'static str,
}

/// Where one line comes from.
#[derive(Debug, Serialize)]
struct Provenance {
    query_id: String,
    policy: u64,
    digest: String,
    rewards: Vec<Option<f64>>,
    log_probs: Vec<Option<f64>>,
    is_prompt_cut: bool,
    is_completion_cut: bool,
}

#[derive(Default)]
struct Part {
    rows: Vec<Value>,
    provenance: Vec<Provenance>,
}

/// Writes the examples of `records` into the folder `out`, which must not exist.
///
/// `source` says in the manifest where the records come from.
///
/// # Errors
/// Nothing is left behind: a setting out of range, no example at all, or a file that cannot be
/// written.
pub fn export(
    records: &[TrainingRecord],
    settings: &Settings,
    tokens: &Tokens,
    (source, clock): (Value, Clock),
    out: &Path,
) -> Result<Report, ExportError> {
    settings.check()?;
    let mut gathered = gather(records, settings, tokens)?;
    let [train, holdout] = &gathered.parts;
    if train.rows.is_empty() && holdout.rows.is_empty() {
        let refused = serde_json::to_string(&gathered.refused).unwrap_or_default();
        return Err(ExportError::Nothing { records: records.len() as u64, refused });
    }
    let folder = NewFolder::begin(out)?;
    let (mut reports, mut info) = (Vec::new(), serde_json::Map::new());
    for (name, part) in ["train", "holdout"].into_iter().zip(std::mem::take(&mut gathered.parts)) {
        let file = format!("{name}.jsonl");
        let examples = part.rows.len() as u64;
        let digest = files::write_lines(&folder.path().join(&file), part.rows)?;
        let meta = folder.path().join(format!("{name}.meta.jsonl"));
        files::write_lines(&meta, part.provenance)?;
        let is_ranking = settings.rules.task == Task::Preferences;
        if let Some(entry) = settings.shape.dataset_info(&file, is_ranking).filter(|_| examples > 0)
        {
            info.insert(settings.dataset(name), entry);
        }
        reports.push(FileReport { file, examples, digest });
    }
    if !info.is_empty() {
        files::write_document(&folder.path().join("dataset_info.json"), &info)?;
    }
    let report = Report {
        schema: 1,
        made_ms: clock.now_ms(),
        source,
        settings: settings.clone(),
        unit: tokens.unit(),
        files: reports,
        records: records.len() as u64,
        refused: gathered.refused,
        prompts_cut: gathered.prompts_cut,
        completions_cut: gathered.completions_cut,
        policies: gathered.policies,
        notice: PERSONAL_DATA,
    };
    files::write_document(&folder.path().join("manifest.json"), &report)?;
    folder.keep()?;
    Ok(report)
}

#[derive(Default)]
struct Gathered {
    /// Train and hold-out.
    parts: [Part; 2],
    refused: BTreeMap<Refused, u64>,
    prompts_cut: u64,
    completions_cut: u64,
    policies: BTreeSet<PolicyVersion>,
}

fn gather(
    records: &[TrainingRecord],
    settings: &Settings,
    tokens: &Tokens,
) -> Result<Gathered, ExportError> {
    let (mut gathered, mut seen) = (Gathered::default(), HashSet::new());
    for record in records {
        let example = match examples::example(record, &settings.rules, tokens)? {
            Ok(_) if seen.len() as u64 >= settings.max_examples => Err(Refused::OverLimit),
            Ok(example) if !seen.insert(fingerprint(&example)) => Err(Refused::Duplicate),
            other => other,
        };
        match example {
            Err(reason) => *gathered.refused.entry(reason).or_default() += 1,
            Ok(example) => {
                gathered.prompts_cut += u64::from(example.is_prompt_cut);
                gathered.completions_cut += u64::from(example.is_completion_cut);
                gathered.policies.insert(record.policy().version);
                let part = &mut gathered.parts[usize::from(is_held_out(record.query(), settings))];
                part.rows.push(settings.shape.row(&example.prompt, &example.target));
                part.provenance.push(provenance(record, &example));
            }
        }
    }
    Ok(gathered)
}

/// Whether a question is held out: by a hash of its group, so that phrasings of one fact never
/// straddle the split.
fn is_held_out(query: &Query, settings: &Settings) -> bool {
    let key = match query.metadata.get(&settings.holdout_key) {
        Some(value) => value.clone(),
        None => normalised(&query.text),
    };
    let digest = Sha256::digest(key.as_bytes());
    let bucket = digest.iter().take(4).fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
    f64::from(bucket) < settings.holdout_fraction * (f64::from(u32::MAX) + 1.0)
}

/// Lower case, letters and digits only, one space between words.
fn normalised(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Equal for examples that a trainer could not tell apart.
fn fingerprint(example: &Example) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(&example.prompt.flat());
    match &example.target {
        Target::Completion(text) => add(text),
        Target::Pair { chosen, rejected } => {
            add(chosen);
            add(rejected);
        }
    }
    hash.finalize().into()
}

fn provenance(record: &TrainingRecord, example: &Example) -> Provenance {
    let (rewards, log_probs) = match record {
        TrainingRecord::Demonstration(shown) => (vec![shown.reward], vec![shown.log_prob]),
        TrainingRecord::Preference(pair) => (
            vec![Some(pair.chosen.reward), Some(pair.rejected.reward)],
            vec![pair.chosen.log_prob, pair.rejected.log_prob],
        ),
    };
    Provenance {
        query_id: record.query().id.0.clone(),
        policy: record.policy().version.0,
        digest: record.policy().digest.0.clone(),
        rewards,
        log_probs,
        is_prompt_cut: example.is_prompt_cut,
        is_completion_cut: example.is_completion_cut,
    }
}

/// The lines that commands print: what was written and what was not.
pub fn summary(report: &Report, out: &Path) -> Value {
    json!({
        "out": out,
        "files": report.files,
        "records": report.records,
        "refused": report.refused,
        "prompts_cut": report.prompts_cut,
        "completions_cut": report.completions_cut,
        "policies": report.policies,
    })
}

#[cfg(test)]
mod tests;

//! What a model folder says of itself: architecture, pooling, longest sequence.
//!
//! Reads the small JSON files of the sentence-transformers layout and refuses what the encoder
//! would silently compute otherwise. Knows no tensor.

use super::SentenceError;
use crate::policy::model_folder::{CONFIG_FILE, ModelFolderError};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

const MODULES_FILE: &str = "modules.json";
const POOLING_FOLDER: &str = "1_Pooling";
const LENGTH_FILE: &str = "sentence_bert_config.json";

/// How the states of a sequence become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean, specials included.
    Mean,
    /// The state of `[CLS]`.
    Cls,
}

impl Pooling {
    /// Pools the rows (T, width) of one sequence, T ≥ 1.
    pub(super) fn apply(self, rows: &[f32], width: usize) -> Vec<f32> {
        match self {
            Self::Cls => rows[..width].to_vec(),
            Self::Mean => {
                let mut sums = vec![0.0_f32; width];
                for row in rows.chunks_exact(width) {
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
                let scale = width as f32 / rows.len() as f32;
                sums.iter_mut().for_each(|sum| *sum *= scale);
                sums
            }
        }
    }
}

/// What kind of model it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// BERT with this pooling.
    Bert(Pooling),
    /// One vector a token, averaged.
    Table {
        /// Whether the model itself asks for unit length.
        normalised: bool,
    },
}

/// The folder in a few words.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) architecture: Architecture,
    /// Longest sequence it was made for.
    pub(super) max_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Length {
    max_seq_length: Option<usize>,
}

impl Description {
    pub(super) fn read(folder: &Path) -> Result<Self, SentenceError> {
        let unsupported = |reason: String| SentenceError::Unsupported {
            folder: folder.display().to_string(),
            reason,
        };
        let Some(config) = json::<Map<String, Value>>(folder, CONFIG_FILE)? else {
            let folder = folder.to_path_buf();
            return Err(ModelFolderError::MissingFile { folder, file: CONFIG_FILE }.into());
        };
        let text = |key: &str| config.get(key).and_then(Value::as_str);
        match text("model_type") {
            Some("model2vec") => {
                let normalised = config.get("normalize").and_then(Value::as_bool).unwrap_or(false);
                let architecture = Architecture::Table { normalised };
                return Ok(Self { architecture, max_tokens: None });
            }
            Some("bert") | None => {}
            Some(other) => {
                return Err(unsupported(format!(
                    "model_type is `{other}`; expected `bert` or `model2vec`"
                )));
            }
        }
        if let Some(kind) = text("position_embedding_type")
            && kind != "absolute"
        {
            let reason = format!("position_embedding_type is `{kind}`; expected `absolute`");
            return Err(unsupported(reason));
        }
        let pooling_folder = pooling_folder(folder, &unsupported)?;
        let file = format!("{pooling_folder}/{CONFIG_FILE}");
        let pooling = match json::<Map<String, Value>>(folder, &file)? {
            Some(config) => pooling(&config).map_err(unsupported)?,
            // A bare encoder says nothing; the mean is what sentence-transformers assumes.
            None => Pooling::Mean,
        };
        let length: Length = json(folder, LENGTH_FILE)?.unwrap_or_default();
        let architecture = Architecture::Bert(pooling);
        Ok(Self { architecture, max_tokens: length.max_seq_length })
    }
}

/// The folder of the pooling module, after a check that there is no module beyond pooling and
/// normalisation.
fn pooling_folder(
    folder: &Path,
    unsupported: &impl Fn(String) -> SentenceError,
) -> Result<String, SentenceError> {
    let mut place = POOLING_FOLDER.to_owned();
    for module in json::<Vec<Module>>(folder, MODULES_FILE)?.unwrap_or_default() {
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" if module.path.is_empty() => {}
            "Transformer" => {
                let path = module.path;
                let reason = format!("its encoder lies in `{path}`; give that folder instead");
                return Err(unsupported(reason));
            }
            "Pooling" => place = module.path,
            "Normalize" => {}
            other => {
                return Err(unsupported(format!(
                    "module `{other}` of {MODULES_FILE} is not supported; expected Transformer, \
                     Pooling and Normalize"
                )));
            }
        }
    }
    Ok(place)
}

/// The one pooling mode that is on: as flags `pooling_mode_*`, or as one word.
fn pooling(config: &Map<String, Value>) -> Result<Pooling, String> {
    const PREFIX: &str = "pooling_mode_";
    let mut modes: Vec<&str> = config
        .iter()
        .filter(|(_, value)| **value == Value::Bool(true))
        .filter_map(|(name, _)| name.strip_prefix(PREFIX))
        .collect();
    if let Some(mode) = config.get("pooling_mode").and_then(Value::as_str) {
        modes = vec![mode];
    }
    match modes[..] {
        ["mean_tokens" | "mean"] => Ok(Pooling::Mean),
        ["cls_token" | "cls"] => Ok(Pooling::Cls),
        _ => Err(format!(
            "its pooling is [{}]; expected one of mean_tokens, cls_token",
            modes.join(", ")
        )),
    }
}

/// A JSON file of the folder; `None` where it is absent.
fn json<T: serde::de::DeserializeOwned>(
    folder: &Path,
    file: &str,
) -> Result<Option<T>, ModelFolderError> {
    let path = folder.join(file);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ModelFolderError::Io { path, source }),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(ModelFolderError::Malformed { path, reason: error.to_string() }),
    }
}

//! A BERT encoder or cross-encoder trained elsewhere, as a model folder that serves here.
//!
//! Takes a Hugging Face folder: the encoder under `bert.*` or bare names, a relevance head
//! `classifier.*` with or without the pooler below it, a span head `qa_outputs.*`. Names are mapped,
//! and one that is missing or belongs to nothing refuses the import with the whole list. What is
//! checked for parity is what was written. Knows no service.

use super::files::{self, NewFolder};
use super::names::{Header, Mismatch};
use super::parity::{self, Cases};
use super::policy::{ImportError, lineage};
use crate::policy::encoder::EncoderConfig;
use crate::policy::model_folder::{
    CONFIG_FILE, ModelFolder, Precision, WEIGHTS_FILE, write_folder,
};
use crate::policy::reader::{PairReader, ReaderArgs, ReaderError};
use actors::clock::Clock;
use actors::types::Digest;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What an import says of itself, beside the model.
pub const IMPORT_FILE: &str = "import.json";
/// Buffers that old exports carry and nothing reads.
const IGNORED: &str = "embeddings.position_ids";

/// The parts of the configuration that say whether this is a BERT at all.
#[derive(Deserialize)]
struct Family {
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

/// A folder read and mapped, not yet written.
#[derive(Debug)]
pub struct Loaded {
    folder: ModelFolder,
    source_digest: Digest,
    filled: Vec<&'static str>,
}

/// What an import did; written beside the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Imported {
    /// `imported/<name>`.
    pub lineage: String,
    /// SHA-256 of the weights as the other side wrote them.
    pub source_digest: Digest,
    /// SHA-256 of the weights as they are here.
    pub digest: Digest,
    /// When, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// Heads that the other side does not have, filled with zeros.
    pub filled: Vec<&'static str>,
    /// What the parity check found; `None` without one.
    pub parity: Option<parity::Report>,
}

/// The name here of a tensor there; `None` for one that nothing reads.
fn mapped(name: &str) -> Option<String> {
    let bare = name.strip_prefix("bert.").unwrap_or(name);
    if bare == IGNORED {
        return None;
    }
    for (theirs, ours) in
        [("classifier.", "rel."), ("qa_outputs.", "span."), ("pooler.dense.", "rel.pooler.")]
    {
        if let Some(rest) = bare.strip_prefix(theirs) {
            return Some(format!("{ours}{rest}"));
        }
    }
    Some(bare.to_owned())
}

/// Reads a folder and maps its names.
///
/// `fills_heads` puts zeros for a head that is not there: without a span head no passage holds an
/// answer by it, without a relevance head all are alike.
///
/// # Errors
/// A folder of another family, or tensors that are missing, superfluous, or of another shape or
/// type, all of them at once.
pub fn load(from: &Path, fills_heads: bool) -> Result<Loaded, ImportError> {
    let path = from.join(WEIGHTS_FILE);
    let config = config(from)?;
    let header = Header::read(&path)?;
    let (mut found, mut twice) = (BTreeMap::new(), Vec::new());
    for (name, tensor) in &header.tensors {
        // The rows of a compact tensor come with their scales.
        let is_scale =
            name.strip_suffix(".scale").is_some_and(|of| header.tensors.contains_key(of));
        let Some(ours) = mapped(name).filter(|_| !is_scale) else { continue };
        let kind = if tensor.0 == Dtype::I8 { Dtype::F32 } else { tensor.0 };
        if found.insert(ours, (kind, tensor.1.clone())).is_some() {
            twice.push(name.clone());
        }
    }
    let has = |head: &str| found.keys().any(|name: &String| name.starts_with(head));
    let absent: Vec<&'static str> =
        ["rel", "span"].into_iter().filter(|head| !has(&format!("{head}."))).collect();
    if absent.len() == 2 {
        let reason = "it has neither `classifier.*` nor `qa_outputs.*`: an encoder alone cannot \
                      read a passage; train a head on it with `regrade train-reader`"
            .to_owned();
        return Err(ImportError::Unsuited { path, reason });
    }
    let filled = if fills_heads { absent } else { Vec::new() };
    let expected = expected(&config, &filled, has("rel.pooler."));
    let mut mismatch = Mismatch::of(&expected, &found);
    mismatch.superfluous.extend(twice);
    if !mismatch.is_empty() {
        return Err(ImportError::Tensors { path, mismatch });
    }
    let mut folder = ModelFolder::load(from, &Device::Cpu)?;
    folder.tensors = renamed(folder.tensors, &filled, config.hidden_size)
        .map_err(|e| ImportError::Unsuited { path: path.clone(), reason: e.to_string() })?;
    let words = folder.tokenizer.get_vocab_size(true);
    if words > config.vocab_size {
        let rows = config.vocab_size;
        let reason = format!("the tokenizer knows {words} words, the embedding has {rows} rows");
        return Err(ImportError::Unsuited { path, reason });
    }
    let source_digest = folder.digest.clone();
    Ok(Loaded { folder, source_digest, filled })
}

fn config(from: &Path) -> Result<EncoderConfig, ImportError> {
    let path = from.join(CONFIG_FILE);
    let bytes = std::fs::read(&path).map_err(super::FileError::io("read", &path))?;
    let unsuited = |reason: String| ImportError::Unsuited { path: path.clone(), reason };
    let family: Family =
        serde_json::from_slice(&bytes).map_err(|error| unsuited(error.to_string()))?;
    if let Some(other) = family.model_type.filter(|family| family != "bert") {
        return Err(unsuited(format!("model_type is `{other}`, expected `bert`")));
    }
    if let Some(other) = family.position_embedding_type.filter(|kind| kind != "absolute") {
        return Err(unsuited(format!("position_embedding_type is `{other}`, expected `absolute`")));
    }
    let config: EncoderConfig =
        serde_json::from_slice(&bytes).map_err(|error| unsuited(error.to_string()))?;
    config.check().map_err(|error| unsuited(error.to_string()))?;
    Ok(config)
}

/// Every tensor that must be in the file, by the name it has here.
fn expected(
    config: &EncoderConfig,
    filled: &[&str],
    has_pooler: bool,
) -> BTreeMap<String, Vec<usize>> {
    let h = config.hidden_size;
    let mut shapes: BTreeMap<String, Vec<usize>> = config.shapes().into_iter().collect();
    for (head, rows) in [("rel", 1), ("span", 2)] {
        if !filled.contains(&head) {
            shapes.insert(format!("{head}.weight"), vec![rows, h]);
            shapes.insert(format!("{head}.bias"), vec![rows]);
        }
    }
    if has_pooler && !filled.contains(&"rel") {
        shapes.insert("rel.pooler.weight".to_owned(), vec![h, h]);
        shapes.insert("rel.pooler.bias".to_owned(), vec![h]);
    }
    shapes
}

fn renamed(
    tensors: BTreeMap<String, Tensor>,
    filled: &[&str],
    h: usize,
) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let mut ours: BTreeMap<String, Tensor> = tensors
        .into_iter()
        .filter_map(|(name, tensor)| mapped(&name).map(|name| (name, tensor)))
        .collect();
    for (head, rows) in [("rel", 1), ("span", 2)] {
        if filled.contains(&head) {
            let zeros = Tensor::zeros((rows, h), DType::F32, &Device::Cpu)?;
            ours.insert(format!("{head}.weight"), zeros);
            let zeros = Tensor::zeros(rows, DType::F32, &Device::Cpu)?;
            ours.insert(format!("{head}.bias"), zeros);
        }
    }
    Ok(ours)
}

/// Writes the model folder `out`, which must not exist, and holds what was written against `cases`.
///
/// # Errors
/// Nothing is left behind: a file that cannot be written, a model that cannot be read back, or one
/// that does not compute what the other side computes.
pub fn write(
    loaded: &Loaded,
    (name, out): (&str, &Path),
    (precision, clock): (Precision, Clock),
    args: ReaderArgs,
    cases: Option<&Cases>,
) -> Result<Imported, ImportError> {
    let lineage = lineage(name)?;
    let place = NewFolder::begin(out)?;
    let ModelFolder { config, tokenizer, tensors, .. } = &loaded.folder;
    write_folder(place.path(), config, tokenizer, tensors, precision)?;
    let reader = PairReader::load(place.path(), args).map_err(|error| match error {
        ReaderError::Folder(error) => ImportError::Folder(error),
        other => ImportError::Unsuited { path: out.to_owned(), reason: other.to_string() },
    })?;
    let parity = match cases {
        Some(cases) => Some(cases.check(|case| parity::of_reader(&reader, case))?),
        None => None,
    };
    let imported = Imported {
        lineage,
        source_digest: loaded.source_digest.clone(),
        digest: reader.digest().clone(),
        made_ms: clock.now_ms(),
        filled: loaded.filled.clone(),
        parity,
    };
    files::write_document(&place.path().join(IMPORT_FILE), &imported)?;
    place.keep()?;
    Ok(imported)
}

#[cfg(test)]
mod tests;

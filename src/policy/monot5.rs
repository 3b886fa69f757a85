//! monoT5: a T5 that answers "relevant?" with one word, as a point-wise scorer.
//!
//! Nogueira, Jiang, Pradeep and Lin (2020). The input is `Query: {q} Document: {d} Relevant:`, the
//! decoder makes one step, and the score is the log-probability of the word for "relevant" against
//! the word for "irrelevant", all other words left out: `log softmax(z_yes, z_no)[yes]`.
//!
//! Owns loading (a folder with `config.json`, `tokenizer.json` and `model.safetensors`, as the hub
//! has it), batches and scores; the text's layout is `monot5/input.rs`. The model is candle's T5, of
//! which two things are mended here:
//! - it has no mask for padding, so a batch holds sequences of one length only;
//! - with a tied output embedding it multiplies by √d_model where T5 divides, so the logits are
//!   divided by d_model. Their order is the same either way, their probabilities are not.

mod input;

pub use input::InputEncoder;

use super::model_folder::{
    CONFIG_FILE, ModelFolderError, TOKENIZER_FILE, WEIGHTS_FILE, read_tensors,
};
use super::pointwise::{PointwiseError, PointwiseScorer};
use actors::types::Document;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::t5::{Config, T5ForConditionalGeneration};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tokenizers::Tokenizer;

/// Why monoT5 cannot be loaded or cannot score.
#[derive(Debug, thiserror::Error)]
pub enum MonoT5Error {
    /// A file of the folder is unusable.
    #[error(transparent)]
    Folder(#[from] ModelFolderError),
    /// A word to answer with is no token.
    #[error(
        "the tokenizer has no token `{0}`; name the words that this checkpoint was trained to \
         answer with"
    )]
    NoToken(String),
    /// A setting does not work.
    #[error("monoT5 argument `{name}` is {value}; expected {expected}")]
    Argument {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// Range that works.
        expected: String,
    },
    /// The query has no token.
    #[error("cannot score documents for an empty query")]
    EmptyQuery,
    /// The tokenizer failed.
    #[error("cannot tokenise text for monoT5: {0}")]
    Tokenizer(String),
    /// The model gave something that is no number.
    #[error("the score of document `{0}` is not finite; the weights are damaged")]
    NotFinite(String),
    /// A tensor is missing or has another shape, or arithmetic failed.
    #[error("monoT5's model failed: {0}")]
    Model(#[from] candle_core::Error),
}

impl From<MonoT5Error> for PointwiseError {
    fn from(error: MonoT5Error) -> Self {
        Self::Scorer { scorer: NAME.to_owned(), reason: error.to_string() }
    }
}

const NAME: &str = "monot5";

/// The two words a checkpoint answers with, as its tokenizer spells them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerWords {
    /// For "relevant".
    pub relevant: String,
    /// For "irrelevant".
    pub irrelevant: String,
}

impl Default for AnswerWords {
    /// `▁true` and `▁false`, of the English checkpoints.
    fn default() -> Self {
        Self::new("▁true", "▁false")
    }
}

/// Which words published checkpoints answer with: the start of the name, then relevant and
/// irrelevant. The first that fits counts. Source: the table of pygaggle.
const CHECKPOINTS: [(&str, &str, &str); 5] = [
    ("unicamp-dl/mt5-3B-mmarco-en-pt", "▁true", "▁"),
    ("unicamp-dl/mt5-13b-mmarco-100k", "▁true", "▁"),
    ("unicamp-dl/mt5-", "▁yes", "▁no"),
    ("unicamp-dl/ptt5-", "▁sim", "▁não"),
    ("castorini/monot5-", "▁true", "▁false"),
];

impl AnswerWords {
    /// These two.
    pub fn new(relevant: &str, irrelevant: &str) -> Self {
        Self { relevant: relevant.to_owned(), irrelevant: irrelevant.to_owned() }
    }

    /// Those of a published checkpoint, by its name on the hub (`owner/name`); the default for one
    /// that is not known.
    pub fn of_checkpoint(name: &str) -> Self {
        let known = CHECKPOINTS.iter().find(|(start, ..)| name.starts_with(start));
        known
            .map_or_else(Self::default, |(_, relevant, irrelevant)| Self::new(relevant, irrelevant))
    }
}

/// Limits and words of a [`MonoT5`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MonoT5Args {
    /// Longest input in tokens, everything included; the document is cut to fit, never what
    /// follows it. The checkpoints were trained with 512.
    pub max_tokens: usize,
    /// Longest query in tokens, ≥ 1; the rest of it is not read.
    pub max_query_tokens: usize,
    /// Tokens in one forward pass, ≥ 1 (one sequence is always taken); bounds memory.
    pub batch_tokens: usize,
    /// What the checkpoint answers with.
    pub words: AnswerWords,
}

impl Default for MonoT5Args {
    fn default() -> Self {
        Self {
            max_tokens: 512,
            max_query_tokens: 128,
            batch_tokens: 4_096,
            words: AnswerWords::default(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct MonoT5 {
    /// candle's forward pass takes it mutably, though nothing of it changes.
    model: Mutex<T5ForConditionalGeneration>,
    input: InputEncoder,
    /// What logits are multiplied with.
    scale: f64,
    start: u32,
    /// Ids of the words for relevant and irrelevant.
    answers: [u32; 2],
    batch_tokens: usize,
    device: Device,
}

impl MonoT5 {
    /// Loads a folder; weights in f32, f16 or bf16 are used as f32. With the feature `hub`,
    /// `model_folder::hub::fetch` makes such a folder.
    ///
    /// # Errors
    /// Names the file, tensor, token or setting that is at fault.
    pub fn load(folder: &Path, args: &MonoT5Args, device: &Device) -> Result<Self, MonoT5Error> {
        let mut config = read_config(folder)?;
        // One step needs no cache, and a stale one would join two batches.
        config.use_cache = false;
        let tokenizer = Tokenizer::from_bytes(read(folder, TOKENIZER_FILE)?)
            .map_err(|error| malformed(folder, TOKENIZER_FILE, error.to_string()))?;
        let id = |word: &str| {
            let id = tokenizer.token_to_id(word).filter(|id| (*id as usize) < config.vocab_size);
            id.ok_or_else(|| MonoT5Error::NoToken(word.to_owned()))
        };
        let answers = [id(&args.words.relevant)?, id(&args.words.irrelevant)?];
        if args.batch_tokens == 0 {
            let expected = "a number above 0".to_owned();
            return Err(MonoT5Error::Argument { name: "batch_tokens", value: 0, expected });
        }
        let input = InputEncoder::new(tokenizer, config.eos_token_id as u32, args)?;
        let weights = folder.join(WEIGHTS_FILE);
        if !weights.is_file() {
            let folder = folder.to_path_buf();
            return Err(ModelFolderError::MissingFile { folder, file: WEIGHTS_FILE }.into());
        }
        let (tensors, _) = read_tensors(&weights)?;
        let mut named = HashMap::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            named.insert(name, tensor.to_device(device)?);
        }
        let weights = VarBuilder::from_tensors(named, DType::F32, device);
        let width = config.d_model as f64;
        Ok(Self {
            model: Mutex::new(T5ForConditionalGeneration::load(weights, &config)?),
            input,
            scale: if config.tie_word_embeddings { 1.0 / width } else { 1.0 },
            start: config.decoder_start_token_id.unwrap_or(config.pad_token_id) as u32,
            answers,
            batch_tokens: args.batch_tokens,
            device: device.clone(),
        })
    }

    /// One score a document, in order: the log-probability, in nats, that it is relevant; ≤ 0.
    ///
    /// # Errors
    /// An empty query, or a model that fails.
    pub fn log_probabilities(
        &self,
        query: &str,
        documents: &[&Document],
    ) -> Result<Vec<f32>, MonoT5Error> {
        let inputs = self.input.encode(query, documents)?;
        let lengths: Vec<usize> = inputs.iter().map(Vec::len).collect();
        let mut scores = vec![f32::NAN; documents.len()];
        for batch in batches(&lengths, self.batch_tokens) {
            let ids: Vec<u32> = batch.iter().flat_map(|at| inputs[*at].iter().copied()).collect();
            let shape = (batch.len(), lengths[batch[0]]);
            let logits = self.answer_logits(&Tensor::from_vec(ids, shape, &self.device)?)?;
            // By index: the batches come in the order of lengths, not of documents.
            for (at, logits) in batch.into_iter().zip(logits) {
                scores[at] = log_probability(logits[0], logits[1]);
            }
        }
        match scores.iter().position(|score| !score.is_finite()) {
            Some(at) => Err(MonoT5Error::NotFinite(documents[at].id.to_string())),
            None => Ok(scores),
        }
    }

    /// (B, L) input ids -> for each the logits of the two words at the first step.
    fn answer_logits(&self, ids: &Tensor) -> Result<Vec<[f32; 2]>, MonoT5Error> {
        let start = Tensor::full(self.start, (ids.dim(0)?, 1), &self.device)?;
        let logits = {
            let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            model.forward(ids, &start)?
        };
        let answers = Tensor::new(&self.answers, &self.device)?;
        let logits = (logits.index_select(&answers, 1)? * self.scale)?;
        let rows: Vec<Vec<f32>> = logits.to_vec2()?;
        Ok(rows.iter().map(|row| [row[0], row[1]]).collect())
    }
}

/// `ln(e^yes / (e^yes + e^no))`, in nats and ≤ 0. The larger logit is taken off first, so nothing
/// overflows: `exp` of a logit above 88 would.
pub fn log_probability(yes: f32, no: f32) -> f32 {
    let top = yes.max(no);
    (yes - top) - ((yes - top).exp() + (no - top).exp()).ln()
}

/// Places by equal length, shortest first, so many tokens at once.
fn batches(lengths: &[usize], batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..lengths.len()).collect();
    places.sort_by_key(|place| lengths[*place]);
    let mut made: Vec<Vec<usize>> = Vec::new();
    for place in places {
        let length = lengths[place];
        match made.last_mut() {
            Some(batch)
                if lengths[batch[0]] == length && (batch.len() + 1) * length <= batch_tokens =>
            {
                batch.push(place);
            }
            _ => made.push(vec![place]),
        }
    }
    made
}

fn read(folder: &Path, file: &'static str) -> Result<Vec<u8>, ModelFolderError> {
    let path = folder.join(file);
    std::fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            ModelFolderError::MissingFile { folder: folder.to_path_buf(), file }
        }
        _ => ModelFolderError::Io { path, source },
    })
}

fn malformed(folder: &Path, file: &'static str, reason: String) -> ModelFolderError {
    ModelFolderError::Malformed { path: folder.join(file), reason }
}

/// The configuration, if candle's T5 computes what it describes.
fn read_config(folder: &Path) -> Result<Config, ModelFolderError> {
    let bytes = read(folder, CONFIG_FILE)?;
    let wrong = |reason: String| malformed(folder, CONFIG_FILE, reason);
    let raw: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let projection = raw.get("feed_forward_proj").and_then(serde_json::Value::as_str);
    if !matches!(projection, None | Some("relu" | "gated-gelu" | "gated-silu")) {
        return Err(wrong(format!(
            "`feed_forward_proj` is {projection:?}; expected relu, gated-gelu or gated-silu"
        )));
    }
    let mut config: Config =
        serde_json::from_value(raw).map_err(|error| wrong(error.to_string()))?;
    if !config.is_encoder_decoder {
        return Err(wrong(
            "`is_encoder_decoder` is false; monoT5 is an encoder and a decoder".into(),
        ));
    }
    let sizes = [config.d_model, config.d_kv, config.num_heads, config.num_layers];
    let buckets = config.relative_attention_num_buckets;
    if sizes.contains(&0) || buckets < 4 || !buckets.is_multiple_of(2) {
        return Err(wrong(
            "a size is 0, or `relative_attention_num_buckets` is below 4 or odd".into(),
        ));
    }
    config.dropout_rate = 0.0;
    Ok(config)
}

impl PointwiseScorer for MonoT5 {
    fn score(&self, query: &str, documents: &[&Document]) -> Result<Vec<f32>, PointwiseError> {
        Ok(self.log_probabilities(query, documents)?)
    }

    fn probability(&self, score: f32) -> f32 {
        score.exp().min(1.0)
    }

    fn name(&self) -> &str {
        NAME
    }
}

#[cfg(test)]
mod tests;

//! The extractive reader: what one passage says to one question, and how sure the model is.
//!
//! Owns pair encoding, the span and relevance heads, and a bounded cache of readings that the policy
//! and the generator share, so that a pair is encoded once. Knows no policy. A [`PairReader`] is
//! immutable weights behind `&self`: share it as `Arc<PairReader>`.

mod args;
mod cache;
mod model;
mod pairs;
mod spans;
mod store;
mod trunk;

pub use args::ReaderArgs;
pub use model::{ReaderModel, ReaderOutput};
pub use pairs::{Pair, PairEncoder, passage_text};
pub use spans::{Span, best_span};
pub use store::{ReadingStore, StoreError};
pub use trunk::LiveTrunk;

use super::encoder::{EncoderError, PackedBatch, Weights, batches};
use super::model_folder::{ModelFolder, ModelFolderError};
use actors::types::{Digest, Document};
use cache::{Cache, Key};
use candle_core::{Device, Tensor};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use trunk::Source;

/// Why a pair cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The question is beyond what is tokenised at all.
    #[error("cannot read question of {bytes} bytes; the limit is {limit}: shorten it")]
    QuestionTooLong {
        /// Size of the question.
        bytes: usize,
        /// [`ReaderArgs::max_question_bytes`].
        limit: usize,
    },
    /// The question has no token.
    #[error("cannot read an empty question")]
    EmptyQuestion,
    /// The arguments do not fit the model.
    #[error("reader argument `{name}` is {value}; expected {expected}")]
    Argument {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// Range that works.
        expected: String,
    },
    /// The tokenizer failed.
    #[error("cannot tokenise text: {0}")]
    Tokenizer(String),
    /// The model gave something that is no number.
    #[error("the reader's scores for document `{0}` are not finite; its weights are damaged")]
    NotFinite(String),
    /// A trunk was made for another encoder.
    #[error("tensor `{0}` is no weight of this encoder; was the trunk trained on another model?")]
    ForeignTensor(String),
    /// Kept readings cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder is unusable.
    #[error(transparent)]
    Folder(#[from] ModelFolderError),
    /// The encoder failed.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}

impl From<candle_core::Error> for ReaderError {
    fn from(error: candle_core::Error) -> Self {
        Self::Encoder(error.into())
    }
}

/// What one passage says to one question. H is the hidden width (384 for MiniLM).
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// (H) hidden state of `[CLS]`: the pair as a whole.
    pub cls: Vec<f32>,
    /// (H) mean of the hidden states of the answer's first and last token; `cls` without a span.
    pub span: Vec<f32>,
    /// Logit that the passage answers the question.
    pub rel: f32,
    /// Start plus end logit of the best span.
    pub span_score: f32,
    /// Start plus end logit of `[CLS]`: no answer.
    pub null_score: f32,
    /// Text of the best span as the document has it, title included; empty for an empty passage.
    pub answer: String,
    /// Tokens of the passage that were read.
    pub tokens: u32,
}

impl Reading {
    /// How much the best span beats "no answer"; comparable between passages of one question.
    pub fn margin(&self) -> f32 {
        self.span_score - self.null_score
    }
}

/// The passage whose answer is best: largest margin, first of equals; `None` without readings.
pub fn best_reading<'a>(
    readings: impl IntoIterator<Item = &'a Reading>,
) -> Option<(usize, &'a Reading)> {
    let better = |best: Option<(usize, &'a Reading)>, next: (usize, &'a Reading)| match best {
        Some(best) if best.1.margin() >= next.1.margin() => Some(best),
        _ => Some(next),
    };
    readings.into_iter().enumerate().fold(None, better)
}

/// Work done since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ReaderCounters {
    /// Pairs that went through the encoder.
    pub pairs_encoded: u64,
    /// Tokens of those pairs.
    pub tokens_encoded: u64,
    /// Pairs answered from the cache, or asked for twice in one call.
    pub cache_hits: u64,
    /// Pairs answered from the store.
    pub store_hits: u64,
}

/// The reader with its tokenizer, cache and counters.
#[derive(Debug)]
pub struct PairReader {
    model: ReaderModel,
    /// What `model` is made of: another trunk replaces a part of it.
    tensors: BTreeMap<String, Tensor>,
    source: Arc<Source>,
    args: ReaderArgs,
    device: Device,
    cache: Mutex<Cache>,
    pairs_encoded: AtomicU64,
    tokens_encoded: AtomicU64,
    cache_hits: AtomicU64,
    store_hits: AtomicU64,
    store: Option<Arc<dyn ReadingStore>>,
}

impl PairReader {
    /// Loads a model folder for the CPU.
    pub fn load(folder: &Path, args: ReaderArgs) -> Result<Self, ReaderError> {
        Self::new(ModelFolder::load(folder, &Device::Cpu)?, args, Device::Cpu)
    }

    /// Wraps a loaded folder whose tensors lie on `device`.
    pub fn new(folder: ModelFolder, args: ReaderArgs, device: Device) -> Result<Self, ReaderError> {
        let h = folder.config.hidden_size;
        for (name, shape) in [
            ("span.weight", &[2, h][..]),
            ("span.bias", &[2]),
            ("rel.weight", &[1, h]),
            ("rel.bias", &[1]),
        ] {
            folder.tensor(name, shape)?;
        }
        let pairs = PairEncoder::new(folder.tokenizer, &folder.config, &args)?;
        let source = Source { config: folder.config, pairs, digest: folder.digest };
        Self::assemble(Arc::new(source), folder.tensors, args, device)
    }

    fn assemble(
        source: Arc<Source>,
        tensors: BTreeMap<String, Tensor>,
        args: ReaderArgs,
        device: Device,
    ) -> Result<Self, ReaderError> {
        Ok(Self {
            model: ReaderModel::new(&source.config, &Weights::frozen(tensors.clone()))?,
            tensors,
            source,
            device,
            cache: Mutex::new(Cache::new(args.cache_capacity)),
            args,
            pairs_encoded: AtomicU64::new(0),
            tokens_encoded: AtomicU64::new(0),
            cache_hits: AtomicU64::new(0),
            store_hits: AtomicU64::new(0),
            store: None,
        })
    }

    /// Keeps readings in `store` too, beyond the life of this process. They are named by the model
    /// and the limits as well as the pair, so that one store serves several readers.
    #[must_use]
    pub fn with_store(mut self, store: Arc<dyn ReadingStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Hidden width H of the states in a [`Reading`].
    pub fn width(&self) -> usize {
        self.model.width()
    }

    /// SHA-256 of the folder's weights file, also where a trunk replaces a part of it.
    pub fn digest(&self) -> &Digest {
        &self.source.digest
    }

    /// Work done since start.
    pub fn counters(&self) -> ReaderCounters {
        ReaderCounters {
            pairs_encoded: self.pairs_encoded.load(Ordering::Relaxed),
            tokens_encoded: self.tokens_encoded.load(Ordering::Relaxed),
            cache_hits: self.cache_hits.load(Ordering::Relaxed),
            store_hits: self.store_hits.load(Ordering::Relaxed),
        }
    }

    /// Reads each (question, document) pair; one reading a pair, in order.
    ///
    /// Known pairs come from the cache; the rest are encoded in batches of at most
    /// [`ReaderArgs::batch_tokens`]. The first error fails the call.
    pub fn read(&self, pairs: &[(&str, &Document)]) -> Result<Vec<Arc<Reading>>, ReaderError> {
        let keys: Vec<Key> = pairs.iter().map(|(q, document)| Key::of(q, document)).collect();
        let mut known: HashMap<Key, Arc<Reading>> = HashMap::with_capacity(pairs.len());
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            for key in &keys {
                if let Some(reading) = cache.get(key) {
                    known.insert(*key, reading);
                }
            }
        }
        let mut missing = Vec::new();
        let mut asked = std::collections::HashSet::new();
        for (key, pair) in keys.iter().zip(pairs) {
            if !known.contains_key(key) && asked.insert(*key) {
                missing.push((*key, *pair));
            }
        }
        self.cache_hits.fetch_add((pairs.len() - missing.len()) as u64, Ordering::Relaxed);
        let fresh = self.encode_or_recall(&missing)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for ((key, _), reading) in missing.into_iter().zip(fresh) {
            let reading = Arc::new(reading);
            cache.insert(key, Arc::clone(&reading));
            known.insert(key, reading);
        }
        // Every key is known or was missing and has been read.
        Ok(keys.iter().filter_map(|key| known.get(key).cloned()).collect())
    }

    /// Readings of pairs that the cache does not know: from the store where it has them, else
    /// encoded and put there.
    fn encode_or_recall(
        &self,
        missing: &[(Key, (&str, &Document))],
    ) -> Result<Vec<Reading>, ReaderError> {
        let Some(store) = self.store.as_deref().filter(|_| !missing.is_empty()) else {
            return self.encode(&missing.iter().map(|(_, pair)| *pair).collect::<Vec<_>>());
        };
        let model = format!("{}/{:?}", self.source.digest, self.args.lengths());
        let names: Vec<_> = missing.iter().map(|(key, _)| key.named(&model)).collect();
        let mut readings = store::recall(store, &names, self.model.width())?;
        let unknown: Vec<usize> = (0..missing.len()).filter(|&i| readings[i].is_none()).collect();
        let known = (missing.len() - unknown.len()) as u64;
        self.store_hits.fetch_add(known, Ordering::Relaxed);
        let wanted: Vec<_> = unknown.iter().map(|&i| missing[i].1).collect();
        let fresh = self.encode(&wanted)?;
        store::keep(store, unknown.iter().map(|&i| names[i]).zip(&fresh))?;
        for (i, reading) in unknown.into_iter().zip(fresh) {
            readings[i] = Some(reading);
        }
        Ok(readings.into_iter().flatten().collect())
    }

    /// Encodes pairs without looking into the cache.
    fn encode(&self, pairs: &[(&str, &Document)]) -> Result<Vec<Reading>, ReaderError> {
        let prepared = self.source.pairs.encode_all(pairs)?;
        let lengths: Vec<usize> = prepared.iter().map(|pair| pair.sequence.ids.len()).collect();
        let mut readings = Vec::with_capacity(pairs.len());
        for range in batches(&lengths, self.args.batch_tokens) {
            let documents = pairs[range.clone()].iter().map(|(_, document)| *document);
            readings.extend(self.encode_batch(&prepared[range], documents)?);
        }
        self.pairs_encoded.fetch_add(pairs.len() as u64, Ordering::Relaxed);
        let tokens = lengths.iter().sum::<usize>() as u64;
        self.tokens_encoded.fetch_add(tokens, Ordering::Relaxed);
        Ok(readings)
    }

    fn encode_batch<'a>(
        &self,
        pairs: &[Pair],
        documents: impl Iterator<Item = &'a Document>,
    ) -> Result<Vec<Reading>, ReaderError> {
        let sequences = pairs.iter().map(|pair| &pair.sequence);
        let batch = PackedBatch::new(sequences, &self.device)?;
        let output = self.model.forward(&batch)?;
        let logits: Vec<Vec<f32>> = output.span.to_vec2()?;
        let spans: Vec<Option<Span>> = batch
            .offsets()
            .spans()
            .zip(pairs)
            .map(|((start, _), pair)| {
                let from = start + pair.passage_start;
                best_span(&logits[from..from + pair.offsets.len()])
            })
            .collect();
        let ends = self.end_states(&output.states, &batch, pairs, &spans)?;
        let cls: Vec<Vec<f32>> = output.cls.to_vec2()?;
        let rel: Vec<f32> = output.rel.to_vec1()?;
        let mut readings = Vec::with_capacity(pairs.len());
        for (i, ((first, _), document)) in batch.offsets().spans().zip(documents).enumerate() {
            let null_score = logits[first][0] + logits[first][1];
            let empty = Span { first: 0, last: 0, score: null_score - spans::EMPTY_MARGIN };
            let span = spans[i].unwrap_or(empty);
            let answer = match spans[i] {
                Some(span) => pairs[i].text(document, span),
                None => String::new(),
            };
            let mean = ends[2 * i].iter().zip(&ends[2 * i + 1]).map(|(a, b)| 0.5 * (a + b));
            let reading = Reading {
                cls: cls[i].clone(),
                span: mean.collect(),
                rel: rel[i],
                span_score: span.score,
                null_score,
                answer,
                tokens: pairs[i].offsets.len() as u32,
            };
            if !(reading.rel.is_finite() && reading.margin().is_finite()) {
                return Err(ReaderError::NotFinite(document.id.to_string()));
            }
            readings.push(reading);
        }
        Ok(readings)
    }

    /// (2B, H): states of the first and last token of each span, of `[CLS]` where there is none.
    fn end_states(
        &self,
        states: &Tensor,
        batch: &PackedBatch,
        pairs: &[Pair],
        spans: &[Option<Span>],
    ) -> Result<Vec<Vec<f32>>, ReaderError> {
        let mut rows = Vec::with_capacity(2 * pairs.len());
        for (((start, _), pair), span) in batch.offsets().spans().zip(pairs).zip(spans) {
            let row = |at: usize| (start + pair.passage_start + at) as u32;
            match span {
                Some(span) => rows.extend([row(span.first), row(span.last)]),
                None => rows.extend([start as u32; 2]),
            }
        }
        let rows = Tensor::new(rows, states.device())?;
        Ok(states.index_select(&rows, 0)?.to_vec2()?)
    }
}

#[cfg(test)]
mod tests;

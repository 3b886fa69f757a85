//! From questions and passages to batches of pairs with targets.
//!
//! A question's positive is the first of its positives that holds an answer; its negative the first
//! of its candidates without one, else the passage that shares most words with the question among
//! some drawn at random. Knows no tensor.

use super::{TrainReaderArgs, TrainReaderError};
use crate::policy::reader::{Pair, PairEncoder, ReaderError, passage_text};
use actors::types::{Document, DocumentId};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap};

/// A question to learn from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrainingQuestion {
    /// Unique name.
    pub id: String,
    /// The question.
    pub question: String,
    /// Right answers, any of them.
    pub answers: Vec<String>,
    /// Passages known to hold an answer.
    pub positives: Vec<DocumentId>,
    /// Passages in retrieval order, from which a hard negative is taken; may be empty.
    pub candidates: Vec<DocumentId>,
}

/// What the pairs of a batch should give; a positive and a negative in turn.
#[derive(Debug, Default)]
pub(super) struct BatchTargets {
    /// First and last answer token by position in the sequence; (0, 0) for no answer.
    pub(super) spans: Vec<(usize, usize)>,
    /// 1 where the passage answers the question.
    pub(super) relevant: Vec<f32>,
}

struct Example {
    question: String,
    positive: Document,
    span: (usize, usize),
    negative: Document,
}

/// Every question that can be learnt from.
pub(super) struct Examples(Vec<Example>);

impl Examples {
    pub(super) fn build(
        args: &TrainReaderArgs,
        encoder: &PairEncoder,
    ) -> Result<Self, TrainReaderError> {
        let pool = Pool::new(args);
        let mut rng = StdRng::seed_from_u64(args.settings.seed);
        let mut examples = Vec::new();
        for question in &args.questions {
            let Some((positive, span)) = pool.positive(question, encoder)? else { continue };
            let Some(negative) = pool.negative(question, args.settings.negative_draws, &mut rng)
            else {
                continue;
            };
            examples.push(Example {
                question: question.question.clone(),
                positive: positive.clone(),
                span,
                negative: negative.clone(),
            });
        }
        if examples.is_empty() {
            let max_tokens = args.settings.reader.max_tokens;
            return Err(TrainReaderError::NoExamples {
                questions: args.questions.len(),
                max_tokens,
            });
        }
        Ok(Self(examples))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// SHA-256 over every example: tells one data set from another.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let mut hasher = Sha256::new();
        for example in &self.0 {
            for part in [&example.question, &example.positive.text, &example.negative.text] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hasher.finalize().to_vec()
    }

    /// The pairs and targets of `step` (from 0): a function of its arguments alone.
    pub(super) fn batch(
        &self,
        encoder: &PairEncoder,
        seed: u64,
        step: u64,
        size: usize,
    ) -> Result<(Vec<Pair>, BatchTargets), ReaderError> {
        let count = self.0.len() as u64;
        let mut order: (Option<u64>, Vec<usize>) = (None, Vec::new());
        let (mut asked, mut targets) = (Vec::with_capacity(2 * size), BatchTargets::default());
        for at in step * size as u64..(step + 1) * size as u64 {
            let epoch = at / count;
            if order.0 != Some(epoch) {
                order = (Some(epoch), self.epoch(seed, epoch));
            }
            let example = &self.0[order.1[(at % count) as usize]];
            asked.push((example.question.as_str(), &example.positive));
            asked.push((example.question.as_str(), &example.negative));
            targets.spans.extend([example.span, (0, 0)]);
            targets.relevant.extend([1.0, 0.0]);
        }
        Ok((encoder.encode_all(&asked)?, targets))
    }

    fn epoch(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        // An odd multiplier keeps the streams of neighbouring epochs apart.
        let stream = seed ^ (epoch + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        order.shuffle(&mut StdRng::seed_from_u64(stream));
        order
    }
}

/// A passage and the positions of its answer's first and last token in the sequence.
type Positive<'a> = (&'a Document, (usize, usize));

struct Pool<'a> {
    documents: &'a [Document],
    by_id: HashMap<&'a str, &'a Document>,
}

impl<'a> Pool<'a> {
    fn new(args: &'a TrainReaderArgs) -> Self {
        let by_id = args.passages.iter().map(|document| (document.id.as_str(), document));
        Self { documents: &args.passages, by_id: by_id.collect() }
    }

    /// The first positive that holds an answer among the tokens that are read.
    fn positive(
        &self,
        question: &TrainingQuestion,
        encoder: &PairEncoder,
    ) -> Result<Option<Positive<'a>>, ReaderError> {
        for id in &question.positives {
            let Some(document) = self.by_id.get(id.as_str()) else { continue };
            let Some((from, to)) = find_answer(question, document) else { continue };
            let pairs = encoder.encode_all(&[(question.question.as_str(), *document)])?;
            let Some(pair) = pairs.first() else { continue };
            let first = pair.offsets.iter().position(|offset| offset.1 > from);
            let last = pair.offsets.iter().position(|offset| offset.1 >= to);
            if let (Some(first), Some(last)) = (first, last) {
                let at = pair.passage_start;
                return Ok(Some((document, (at + first, at + last.max(first)))));
            }
        }
        Ok(None)
    }

    fn negative(
        &self,
        question: &TrainingQuestion,
        draws: usize,
        rng: &mut StdRng,
    ) -> Option<&'a Document> {
        let fits = |document: &Document| {
            !question.positives.contains(&document.id) && find_answer(question, document).is_none()
        };
        let known = |id: &DocumentId| self.by_id.get(id.as_str()).copied();
        let hard = question.candidates.iter().filter_map(known).find(|document| fits(document));
        if hard.is_some() || self.documents.is_empty() {
            return hard;
        }
        let asked = words(&question.question);
        let mut best: Option<(usize, &Document)> = None;
        for _ in 0..draws {
            let document = &self.documents[rng.random_range(0..self.documents.len())];
            let shared = words(&document.text).intersection(&asked).count();
            if best.is_none_or(|(most, _)| shared > most) && fits(document) {
                best = Some((shared, document));
            }
        }
        best.map(|(_, document)| document)
    }
}

/// Byte range of the first answer found in what is read of the document, letter case aside.
fn find_answer(question: &TrainingQuestion, document: &Document) -> Option<(usize, usize)> {
    let text = passage_text(document);
    // ASCII lowering keeps byte positions; other letters must match as they are.
    let lowered = text.to_ascii_lowercase();
    question.answers.iter().filter(|answer| !answer.trim().is_empty()).find_map(|answer| {
        let answer = answer.trim().to_ascii_lowercase();
        lowered.find(&answer).map(|from| (from, from + answer.len()))
    })
}

fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

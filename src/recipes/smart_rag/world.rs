//! What the recipe acts in: search, reading, answering, each done once a question and kept.
//!
//! Owns the caches, which make rollouts and epochs repeat nothing, and what they saved. Everything
//! is a function of the question and the text searched with, so a cache changes no result. Knows
//! ports and readings; no policy, no reward.

use super::memo::Memo;
use super::rewrites;
use crate::policy::features;
use crate::policy::reader::{PairReader, Reading};
use crate::policy::turn_head::moves::RewriteKind;
use crate::recipes::fit::RecipeError;
use crate::recipes::instance::Instance;
use actors::ports::{Generator, Rewriter, Search, SearchIndex};
use actors::types::{Answer, Candidate, CandidateStates, Document, Query};
use serde::Serialize;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Reads a question against documents.
pub trait ReadPairs: Send + Sync {
    /// Width E of the states in a reading.
    fn width(&self) -> usize;

    /// One reading a document, in order. An empty document gives the question alone.
    ///
    /// # Errors
    /// What could not be read, in words.
    fn read_pairs(
        &self,
        question: &str,
        documents: &[Document],
    ) -> Result<Vec<Arc<Reading>>, String>;
}

impl ReadPairs for PairReader {
    fn width(&self) -> usize {
        PairReader::width(self)
    }

    fn read_pairs(
        &self,
        question: &str,
        documents: &[Document],
    ) -> Result<Vec<Arc<Reading>>, String> {
        let pairs: Vec<_> = documents.iter().map(|document| (question, document)).collect();
        self.read(&pairs).map_err(|error| error.to_string())
    }
}

/// What the world is made of.
#[derive(Clone)]
pub struct Ports {
    /// Where documents come from.
    pub index: Arc<dyn SearchIndex>,
    /// Answers from documents.
    pub generator: Arc<dyn Generator>,
    /// Answers without documents: asked with an empty list. The same as `generator` where that
    /// knows something by itself.
    pub closed_book: Arc<dyn Generator>,
    /// Proposes further texts to search with; `None` for the built-in ones only.
    pub rewriter: Option<Arc<dyn Rewriter>>,
    /// What the policy sees of a document.
    pub reader: Arc<dyn ReadPairs>,
}

/// A question as the policy first sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The query, with its gold answers as references.
    pub query: Query,
    /// The question read against an empty passage.
    pub alone: Arc<Reading>,
    /// The answer without documents.
    pub closed_book: Answer,
    /// Texts proposed by the rewriter.
    pub proposals: Vec<(RewriteKind, String)>,
}

/// What one search found.
#[derive(Debug, Clone)]
pub struct Observation {
    /// In retrieval order; may be empty.
    pub candidates: Vec<Candidate>,
    /// The question as asked, read against each.
    pub readings: Vec<Arc<Reading>>,
}

/// Work done and work saved since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Searches made (each read: `top_n` pairs at most).
    pub searches: u64,
    /// Searches answered from the cache.
    pub search_hits: u64,
    /// Calls of the generator, those without documents included.
    pub answers: u64,
    /// Answers from the cache.
    pub answer_hits: u64,
    /// Questions whose rewriter failed: they have the built-in rewrites only.
    pub rewriter_failures: u64,
}

/// Id and text of a query.
type Key = (String, String);

/// See the module.
pub struct World {
    ports: Ports,
    top_n: usize,
    asked: Mutex<Memo<Key, Arc<Asked>>>,
    observed: Mutex<Memo<(Key, String), Arc<Observation>>>,
    listed: Mutex<Memo<(Key, Vec<RewriteKind>), Arc<Instance>>>,
    answered: Mutex<Memo<(Key, Vec<String>), Answer>>,
    searches: AtomicU64,
    search_hits: AtomicU64,
    answers: AtomicU64,
    answer_hits: AtomicU64,
    rewriter_failures: AtomicU64,
}

impl World {
    /// A world of `top_n` candidates a search; at most `kept` questions, observations, lists and
    /// answers are kept, each. An observation of 20 documents takes about 60 kB.
    pub fn new(ports: Ports, top_n: usize, kept: usize) -> Self {
        Self {
            ports,
            top_n,
            asked: Mutex::new(Memo::new(kept)),
            observed: Mutex::new(Memo::new(kept)),
            listed: Mutex::new(Memo::new(kept)),
            answered: Mutex::new(Memo::new(kept.saturating_mul(8))),
            searches: AtomicU64::new(0),
            search_hits: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            answer_hits: AtomicU64::new(0),
            rewriter_failures: AtomicU64::new(0),
        }
    }

    /// Width of an encoder state.
    pub fn width(&self) -> usize {
        self.ports.reader.width()
    }

    /// Work done so far.
    pub fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            searches: of(&self.searches),
            search_hits: of(&self.search_hits),
            answers: of(&self.answers),
            answer_hits: of(&self.answer_hits),
            rewriter_failures: of(&self.rewriter_failures),
        }
    }

    /// The question with what is known of it before any search.
    ///
    /// # Errors
    /// A text that cannot be read, or a generator that failed.
    pub async fn ask(&self, query: &Query) -> Result<Arc<Asked>, RecipeError> {
        let key = key(query);
        if let Some(asked) = get(&self.asked, &key) {
            return Ok(asked);
        }
        let alone = self
            .ports
            .reader
            .read_pairs(&query.text, &[Document::default()])
            .map_err(|reason| failed(query, reason))?
            .pop()
            .ok_or_else(|| failed(query, "the reader gave no reading".to_owned()))?;
        self.answers.fetch_add(1, Ordering::Relaxed);
        let closed_book = self.ports.closed_book.answer(query, &[]).await;
        let closed_book = closed_book.map_err(|error| failed(query, error.to_string()))?;
        let proposals = self.proposals(query).await;
        let asked = Arc::new(Asked { query: query.clone(), alone, closed_book, proposals });
        put(&self.asked, key, &asked);
        Ok(asked)
    }

    /// As the port has it, a rewriter that fails proposes nothing.
    async fn proposals(&self, query: &Query) -> Vec<(RewriteKind, String)> {
        let Some(rewriter) = &self.ports.rewriter else { return Vec::new() };
        let Ok(proposed) = rewriter.propose(query).await else {
            self.rewriter_failures.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        };
        let kind = |name: &str| RewriteKind::ALL.into_iter().find(|kind| kind.name() == name);
        proposed.into_iter().filter_map(|r| Some((kind(&r.kind)?, r.text))).collect()
    }

    /// Searches with another text, and reads what is found against the question as asked: a
    /// document says the same whichever search brought it.
    ///
    /// # Errors
    /// An index that fails, or a text that cannot be read.
    pub async fn observe(
        &self,
        asked: &Asked,
        text: &str,
    ) -> Result<Arc<Observation>, RecipeError> {
        let query = &asked.query;
        let key = (key(query), text.to_owned());
        if let Some(observation) = get(&self.observed, &key) {
            self.search_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(observation);
        }
        self.searches.fetch_add(1, Ordering::Relaxed);
        let search = Search { text: text.to_owned(), ..Search::of(query, self.top_n) };
        let candidates = self.ports.index.search(&search).await;
        let candidates = candidates.map_err(|error| failed(query, error.to_string()))?;
        let documents: Vec<Document> = candidates.iter().map(|c| c.document.clone()).collect();
        let readings = self
            .ports
            .reader
            .read_pairs(&query.text, &documents)
            .map_err(|reason| failed(query, reason))?;
        let observation = Arc::new(Observation { candidates, readings });
        put(&self.observed, key, &observation);
        Ok(observation)
    }

    /// The list that the selection head chooses from after these searches.
    ///
    /// # Errors
    /// States that are not finite.
    pub fn list(
        &self,
        asked: &Asked,
        used: &[RewriteKind],
        (candidates, readings): (&[Candidate], &[Arc<Reading>]),
    ) -> Result<Arc<Instance>, RecipeError> {
        let query = &asked.query;
        let key = (key(query), used.to_vec());
        if let Some(list) = get(&self.listed, &key) {
            return Ok(list);
        }
        let values = features::states(&query.text, candidates, readings);
        let states = CandidateStates::new(self.width() + features::SCALARS.len(), values)
            .map_err(|error| failed(query, error.to_string()))?;
        let list = Arc::new(Instance {
            query: query.clone(),
            dataset: query.metadata.get("dataset").cloned().unwrap_or_default(),
            answer_type: String::new(),
            positives: Vec::new(),
            candidates: candidates.to_vec(),
            states,
            tokens: readings.iter().map(|reading| reading.tokens).collect(),
        });
        put(&self.listed, key, &list);
        Ok(list)
    }

    /// The answer from these documents; without any it is the closed-book answer.
    ///
    /// # Errors
    /// A generator that fails.
    pub async fn answer(
        &self,
        asked: &Asked,
        documents: &[Document],
    ) -> Result<Answer, RecipeError> {
        if documents.is_empty() {
            return Ok(asked.closed_book.clone());
        }
        let query = &asked.query;
        let ids = documents.iter().map(|document| document.id.0.clone()).collect();
        let key = (key(query), ids);
        if let Some(answer) = get(&self.answered, &key) {
            self.answer_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(answer);
        }
        self.answers.fetch_add(1, Ordering::Relaxed);
        let answer = self.ports.generator.answer(query, documents).await;
        let answer = answer.map_err(|error| failed(query, error.to_string()))?;
        put(&self.answered, key, &answer);
        Ok(answer)
    }
}

impl Asked {
    /// The text that a rewrite searches with; `None` where it is not to be had: nothing is left of
    /// the question, nothing was found to bridge from, or nothing was proposed.
    pub fn text(&self, kind: RewriteKind, best: Option<(&Candidate, &Reading)>) -> Option<String> {
        let question = &self.query.text;
        match kind {
            RewriteKind::Original => Some(question.clone()),
            RewriteKind::Keywords => rewrites::keywords(question),
            RewriteKind::Bridge => best.map(|(candidate, reading)| {
                rewrites::bridge(question, &candidate.document.title, &reading.answer)
            }),
            RewriteKind::Query2doc | RewriteKind::Hyde | RewriteKind::Rewrite => {
                let proposal = self.proposals.iter().find(|(known, _)| *known == kind);
                proposal.map(|(_, text)| text.clone())
            }
        }
    }
}

fn key(query: &Query) -> Key {
    (query.id.0.clone(), query.text.clone())
}

fn get<K: Hash + Eq + Clone, V: Clone>(memo: &Mutex<Memo<K, V>>, key: &K) -> Option<V> {
    memo.lock().unwrap_or_else(PoisonError::into_inner).get(key)
}

fn put<K: Hash + Eq + Clone, V: Clone>(memo: &Mutex<Memo<K, V>>, key: K, value: &V) {
    memo.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value.clone());
}

pub(super) fn failed(query: &Query, reason: String) -> RecipeError {
    RecipeError::Question { question: query.id.to_string(), reason }
}

//! Closed book: answers without documents from questions whose answers are known.
//!
//! Wraps any generator. A question with documents passes on to it; one without takes the answer of
//! the nearest known question, so that "answer without documents" is a real branch where the
//! generator within only reads. Owns the memory and its measure of nearness. What is known is what
//! it was given and nothing else: the references of a query are never looked at, and a question
//! finds its own answer exactly if it, or its like, was put into the memory. Who measures with the
//! questions that the memory holds measures what was learned by heart.
//!
//! Source: nearest-neighbour answering as the closed-book baseline of Lewis et al. 2021 (arXiv
//! 2008.02637: questions of a test set whose answers, or whose paraphrases, are in the training
//! set); tf-idf retrieval of known questions as in PAQ (arXiv 2102.07033).

use crate::rewards::ANSWER_TYPE;
use crate::text;
use actors::ports::{GenerateError, Generator};
use actors::types::{Answer, Document, Query};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Stamp of answers from memory.
const NAME: &str = "memory";

/// A question whose answer is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The question.
    pub question: String,
    /// The answer given for it.
    pub answer: String,
    /// `long` or `label`, as in a query's metadata; `None` for a short one. Questions are near only
    /// to those that want the same kind.
    pub answer_type: Option<String>,
}

/// Bounds of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Most questions kept, the first ones; the rest is not remembered.
    pub entries_max: usize,
    /// Least similarity, in [0, 1], at which a known answer is given.
    pub similarity_min: f32,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { entries_max: 200_000, similarity_min: 0.6 }
    }
}

/// Known questions by their terms.
///
/// Terms are the distinct words of SQuAD's normalisation. With N questions of which n hold a term,
/// `idf = ln((1 + N) / (1 + n)) + 1`, and the similarity of two questions is the cosine of their
/// idf vectors, in [0, 1]: a rare word that only one of them has parts them most. A word that no
/// known question has counts too (n = 0), so an unknown name keeps a question far from all.
#[derive(Debug)]
pub struct Memory {
    known: Vec<Known>,
    /// Euclidean length of each question's vector.
    lengths: Vec<f64>,
    /// Questions that hold a term, ascending.
    postings: HashMap<String, Vec<u32>>,
    config: MemoryConfig,
}

impl Memory {
    /// Remembers the first [`MemoryConfig::entries_max`] questions that have a word and an answer.
    pub fn new(known: impl IntoIterator<Item = Known>, config: MemoryConfig) -> Self {
        let usable = |known: &Known| {
            !known.answer.trim().is_empty() && !text::normalise(&known.question).is_empty()
        };
        let known: Vec<Known> = known.into_iter().filter(usable).take(config.entries_max).collect();
        let mut postings: HashMap<String, Vec<u32>> = HashMap::new();
        for (n, known) in known.iter().enumerate() {
            for term in terms(&known.question) {
                postings.entry(term).or_default().push(n as u32);
            }
        }
        let mut memory = Self { known, lengths: Vec::new(), postings, config };
        let length = |known: &Known| {
            let squares = terms(&known.question).into_iter().map(|term| memory.idf(&term).powi(2));
            squares.sum::<f64>().sqrt()
        };
        memory.lengths = memory.known.iter().map(length).collect();
        memory
    }

    /// Questions remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The nearest known question that wants the same kind of answer, with its similarity in
    /// [0, 1]; the first of equals. `None` where none shares a word.
    pub fn nearest(&self, question: &str, answer_type: Option<&str>) -> Option<(&Known, f32)> {
        let asked = terms(question);
        let mut products: HashMap<u32, f64> = HashMap::new();
        let mut square = 0.0;
        for term in &asked {
            let weight = self.idf(term).powi(2);
            square += weight;
            for &n in self.postings.get(term).into_iter().flatten() {
                *products.entry(n).or_default() += weight;
            }
        }
        let like = |n: u32| self.known[n as usize].answer_type.as_deref() == answer_type;
        let scored = products.into_iter().filter(|(n, _)| like(*n)).map(|(n, product)| {
            (product / (square.sqrt() * self.lengths[n as usize]).max(f64::MIN_POSITIVE), n)
        });
        let (cosine, n) = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
        Some((&self.known[n as usize], cosine.clamp(0.0, 1.0) as f32))
    }

    fn idf(&self, term: &str) -> f64 {
        let holding = self.postings.get(term).map_or(0, Vec::len);
        ((1.0 + self.known.len() as f64) / (1.0 + holding as f64)).ln() + 1.0
    }
}

/// Distinct terms in a fixed order, so that sums repeat bit for bit.
fn terms(question: &str) -> BTreeSet<String> {
    text::normalise(question).split_whitespace().map(str::to_owned).collect()
}

/// A generator with a memory.
pub struct MemoryGenerator {
    inner: Arc<dyn Generator>,
    memory: Memory,
}

impl MemoryGenerator {
    /// `inner` answers whatever comes with documents, and what the memory does not know.
    pub fn new(inner: Arc<dyn Generator>, memory: Memory) -> Self {
        Self { inner, memory }
    }
}

#[async_trait]
impl Generator for MemoryGenerator {
    /// Without documents: the nearest known answer with its similarity as confidence; below the
    /// threshold what the generator within says without documents, which for a reader is the empty
    /// answer, and that has the similarity as confidence too.
    async fn answer(&self, query: &Query, documents: &[Document]) -> Result<Answer, GenerateError> {
        if !documents.is_empty() {
            return self.inner.answer(query, documents).await;
        }
        let wanted = query.metadata.get(ANSWER_TYPE).map(String::as_str);
        let nearest = self.memory.nearest(&query.text, wanted);
        let similarity = nearest.map_or(0.0, |(_, similarity)| similarity);
        if let Some((known, _)) =
            nearest.filter(|_| similarity >= self.memory.config.similarity_min)
        {
            let words = known.answer.split_whitespace().count();
            let mut answer = Answer {
                text: known.answer.clone(),
                confidence: Some(similarity),
                generator: NAME.to_owned(),
                ..Answer::default()
            };
            answer.usage.answer_tokens = u32::try_from(words).unwrap_or(u32::MAX);
            return Ok(answer);
        }
        let mut answer = self.inner.answer(query, documents).await?;
        if answer.text.is_empty() && answer.confidence.is_none() {
            answer.confidence = Some(similarity);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::adapters::contract::check_generator;
    use actors::fakes::FakeGenerator;

    fn known(question: &str, answer: &str) -> Known {
        Known { question: question.to_owned(), answer: answer.to_owned(), answer_type: None }
    }

    fn memory() -> Memory {
        let all = [
            known("Who wrote Hamlet?", "Shakespeare"),
            known("who wrote faust", "Goethe"),
            known("?!", "nothing"),
            known("who is nobody", " "),
        ];
        Memory::new(all, MemoryConfig::default())
    }

    fn generator() -> (Arc<FakeGenerator>, MemoryGenerator) {
        let inner = Arc::<FakeGenerator>::default();
        (inner.clone(), MemoryGenerator::new(inner, memory()))
    }

    fn query(text: &str) -> Query {
        let references = vec!["secret".to_owned()];
        Query { text: text.to_owned(), references, ..Query::default() }
    }

    #[tokio::test]
    async fn a_generator_with_a_memory_keeps_the_contract() {
        check_generator(async || Arc::new(generator().1) as Arc<dyn Generator>).await;
    }

    #[test]
    fn similarity_is_the_cosine_of_the_idf_vectors_worked_by_hand() {
        let memory = memory();
        assert_eq!(memory.len(), 2, "a question without words, and one without answer, are none");
        // "who" and "wrote" stand in both of 2 questions: idf 1. "hamlet" in one: ln(3/2) + 1;
        // "macbeth" in none: ln 3 + 1.
        let (hamlet, macbeth) = (1.5_f64.ln() + 1.0, 3_f64.ln() + 1.0);
        let expected = 2.0 / ((2.0 + hamlet * hamlet).sqrt() * (2.0 + macbeth * macbeth).sqrt());
        let (nearest, found) = memory.nearest("Who wrote Macbeth", None).unwrap();
        assert!((f64::from(found) - expected).abs() < 1e-6, "{found} against {expected}");
        assert_eq!(nearest.answer, "Shakespeare", "the first of equals");
        let (same, one) = memory.nearest("who wrote HAMLET", None).unwrap();
        assert!((one - 1.0).abs() < 1e-6 && same.answer == "Shakespeare");
        assert!(memory.nearest("when", None).is_none());
        assert!(memory.nearest("who wrote hamlet", Some("label")).is_none());
    }

    #[tokio::test]
    async fn without_documents_the_nearest_known_answer_is_given_if_it_is_near_enough() {
        let (inner, generator) = generator();
        let answer = generator.answer(&query("who wrote \"Faust\"?"), &[]).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.generator.as_str()), ("Goethe", "memory"));
        assert!((answer.confidence.unwrap() - 1.0).abs() < 1e-6);
        assert_eq!((answer.usage.answer_tokens, inner.knob.calls()), (1, 0));
        let unknown = generator.answer(&query("who wrote Macbeth"), &[]).await.unwrap();
        assert_ne!(unknown.generator, "memory");
        assert_ne!(unknown.text, "secret", "references are never looked at");
        assert_eq!(inner.knob.calls(), 1);
    }

    #[tokio::test]
    async fn with_documents_the_generator_within_answers() {
        let (inner, generator) = generator();
        let document = Document { text: "Faust is by Goethe".to_owned(), ..Document::default() };
        let answer = generator.answer(&query("who wrote faust"), &[document]).await.unwrap();
        assert!(answer.generator.is_empty());
        assert_eq!(inner.knob.calls(), 1);
    }

    #[test]
    fn the_memory_is_bounded() {
        let many = (0..100).map(|n| known(&format!("question {n}"), "x"));
        let config = MemoryConfig { entries_max: 10, ..MemoryConfig::default() };
        let memory = Memory::new(many, config);
        assert_eq!(memory.len(), 10);
        assert!(!memory.is_empty());
    }
}

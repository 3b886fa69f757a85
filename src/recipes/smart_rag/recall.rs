//! A closed book made of known questions: the answer of the most similar one, and how similar it
//! is.
//!
//! The branch without documents for a reader that knows nothing by itself. Similarity is the
//! overlap (Jaccard) of the words of two questions after SQuAD's normalisation: 1 for the same
//! question.

use crate::datasets::Question;
use crate::text;
use actors::ports::{GenerateError, Generator};
use actors::types::{Answer, Document, Query};
use async_trait::async_trait;
use std::collections::{BTreeSet, HashMap};

/// See the module.
#[derive(Debug, Default)]
pub struct Recall {
    /// Number of words and the answer of each known question.
    known: Vec<(usize, String)>,
    /// Questions that a word is in.
    by_word: HashMap<String, Vec<usize>>,
    similarity_min: f32,
}

impl Recall {
    /// Knows the first answer of each question that has one; below `similarity_min`, in [0, 1], it
    /// has no answer.
    pub fn new(questions: &[Question], similarity_min: f32) -> Self {
        let mut recall = Self { similarity_min, ..Self::default() };
        for question in questions {
            let Some(answer) = question.answers.first() else { continue };
            let words = words(&question.question);
            let at = recall.known.len();
            recall.known.push((words.len(), answer.clone()));
            for word in words {
                recall.by_word.entry(word).or_default().push(at);
            }
        }
        recall
    }

    /// The most similar known question, the first of equals, and its similarity.
    fn nearest(&self, question: &str) -> Option<(usize, f32)> {
        let words = words(question);
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for at in words.iter().filter_map(|word| self.by_word.get(word)).flatten() {
            *shared.entry(*at).or_default() += 1;
        }
        let similarity = |(at, both): (usize, usize)| {
            (at, both as f32 / (words.len() + self.known[at].0 - both).max(1) as f32)
        };
        let better = |a: (usize, f32), b: (usize, f32)| {
            if b.1 > a.1 || (b.1 == a.1 && b.0 < a.0) { b } else { a }
        };
        shared.into_iter().map(similarity).reduce(better)
    }
}

fn words(question: &str) -> BTreeSet<String> {
    text::normalise(question).split_whitespace().map(str::to_owned).collect()
}

#[async_trait]
impl Generator for Recall {
    /// Documents are not looked at.
    async fn answer(&self, query: &Query, _: &[Document]) -> Result<Answer, GenerateError> {
        let Some((at, similarity)) = self.nearest(&query.text) else {
            return Ok(Answer::default());
        };
        let known = similarity >= self.similarity_min;
        let text = if known { self.known[at].1.clone() } else { String::new() };
        Ok(Answer { text, confidence: Some(similarity), ..Answer::default() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn the_most_similar_question_answers_with_its_similarity() {
        let known = |text: &str, answer: &str| Question {
            question: text.to_owned(),
            answers: vec![answer.to_owned()],
            ..Question::default()
        };
        let questions = [known("Who wrote Dune?", "Herbert"), known("who wrote it", "King")];
        let recall = Recall::new(&questions, 0.5);
        let asked = |text: &str| Query { text: text.to_owned(), ..Query::default() };
        let same = recall.answer(&asked("who wrote the Dune"), &[]).await.unwrap();
        assert_eq!((same.text.as_str(), same.confidence), ("Herbert", Some(1.0)));
        // Shares "who" and "wrote" of four words with the first, of four with the second.
        let near = recall.answer(&asked("who wrote Emma"), &[]).await.unwrap();
        assert_eq!((near.text.as_str(), near.confidence), ("Herbert", Some(0.5)));
        let far = recall.answer(&asked("who painted Guernica"), &[]).await.unwrap();
        assert_eq!(far.text, "");
        assert_eq!(recall.answer(&asked("where"), &[]).await.unwrap(), Answer::default());
    }
}

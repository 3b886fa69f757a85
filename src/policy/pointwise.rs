//! Scores of documents one by one: what a point-wise reranker says of each (query, document) pair.
//!
//! Owns the trait and the project's own cross-encoder as one of its implementations; monoT5 is the
//! other (`monot5.rs`). Does not know what scores are for: an expert that labels training data and a
//! baseline that ranks take the same ones.

use super::reader::{PairReader, ReaderError};
use actors::types::Document;

/// Why documents have no scores.
#[derive(Debug, thiserror::Error)]
pub enum PointwiseError {
    /// A pair cannot be read by the cross-encoder.
    #[error("cannot score a document with the cross-encoder: {0}")]
    Reader(#[from] ReaderError),
    /// Another scorer failed.
    #[error("cannot score a document with {scorer}: {reason}")]
    Scorer {
        /// Its name.
        scorer: String,
        /// What was wrong with it or with the texts.
        reason: String,
    },
}

/// A reranker that sees one document at a time. Synchronous: it is model work and belongs on a
/// compute thread.
pub trait PointwiseScorer: Send + Sync {
    /// One score a document, in order; larger is better. Every score is finite. Scores of one
    /// scorer compare across queries; those of two scorers do not: see [`Self::probability`].
    ///
    /// # Errors
    /// The first pair that cannot be scored fails the call.
    fn score(&self, query: &str, documents: &[&Document]) -> Result<Vec<f32>, PointwiseError>;

    /// The probability of relevance that a score stands for, in [0, 1]; rises with the score. A
    /// cut such as DynamicRAG's 0.8 means the same for every scorer on this scale.
    fn probability(&self, score: f32) -> f32;

    /// What it is called in reports, as in `cross_encoder` or `monot5`.
    fn name(&self) -> &str;
}

/// The cross-encoder of the model folder: its relevance logit.
impl PointwiseScorer for PairReader {
    fn score(&self, query: &str, documents: &[&Document]) -> Result<Vec<f32>, PointwiseError> {
        let pairs: Vec<(&str, &Document)> = documents.iter().map(|d| (query, *d)).collect();
        Ok(self.read(&pairs)?.iter().map(|reading| reading.rel).collect())
    }

    fn probability(&self, score: f32) -> f32 {
        logistic(score)
    }

    fn name(&self) -> &str {
        "cross_encoder"
    }
}

/// `1 / (1 + exp(-logit))`, in [0, 1], without overflow at either end.
pub fn logistic(logit: f32) -> f32 {
    if logit >= 0.0 {
        1.0 / (1.0 + (-logit).exp())
    } else {
        let odds = logit.exp();
        odds / (1.0 + odds)
    }
}

/// Places of the scores from best to worst; equal scores stay in list order, so that a tie goes to
/// the better retrieval rank.
pub fn ranking(scores: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    places
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::policy::fixture::write_tiny_model;
    use crate::policy::reader::ReaderArgs;

    fn document(id: &str, text: &str) -> Document {
        Document { id: id.into(), text: text.to_owned(), ..Document::default() }
    }

    #[test]
    fn the_cross_encoder_scores_by_its_relevance_logit_whatever_the_order_of_the_documents() {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(folder.path(), 5).unwrap();
        let reader = PairReader::load(folder.path(), ReaderArgs::default()).unwrap();
        let documents = [document("a", "the nile"), document("b", "a room"), document("c", "")];
        let [a, b, c] = &documents;
        let scores = reader.score("what is the nile", &[a, b, c]).unwrap();
        let rels: Vec<f32> = documents
            .iter()
            .map(|d| reader.read(&[("what is the nile", d)]).unwrap()[0].rel)
            .collect();
        assert_eq!(scores, rels);
        let turned = reader.score("what is the nile", &[c, b, a]).unwrap();
        assert_eq!(turned, [scores[2], scores[1], scores[0]]);
        assert!(reader.score("", &[a]).is_err(), "an empty question cannot be read");
        assert!(reader.score("q", &[]).unwrap().is_empty());
    }

    #[test]
    fn a_logit_becomes_a_probability_without_overflow() {
        assert_eq!(logistic(0.0), 0.5);
        // ln 4: odds of 4 to 1.
        assert!((logistic(4.0_f32.ln()) - 0.8).abs() < 1e-6);
        assert_eq!(logistic(200.0), 1.0);
        assert_eq!(logistic(-200.0), 0.0);
        assert!((logistic(3.0) + logistic(-3.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_ranking_keeps_the_list_order_of_equal_scores() {
        assert_eq!(ranking(&[1.0, 3.0, 1.0, 3.0, 2.0]), [1, 3, 4, 0, 2]);
        assert!(ranking(&[]).is_empty());
    }
}

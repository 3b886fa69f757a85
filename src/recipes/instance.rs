//! Questions laid out for training: what a policy sees of each and what the environment needs.
//!
//! Laying out retrieves and reads once; every recipe, seed and epoch then works on the same
//! instances. Knows no loss and no generator.

use super::fit::RecipeError;
use crate::datasets::{Question, bucket};
use crate::policy::features;
use crate::policy::reader::PairReader;
use crate::policy::selection::Masks;
use actors::ports::{Search, SearchIndex};
use actors::types::{Candidate, CandidateStates, Document, DocumentId, Query, SelectionLimits};

/// Questions whose pairs are read together.
const READ_BATCH: usize = 8;
/// One question in so many of the training part is kept for choosing between epochs.
const VALIDATION_BUCKETS: u32 = 8;

/// One question with its candidates.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The query, with its gold answers as references.
    pub query: Query,
    /// The data set; may be empty.
    pub dataset: String,
    /// `short`, `long` or `label`.
    pub answer_type: String,
    /// Passages known to hold the answer; only oracles and metrics look at them.
    pub positives: Vec<DocumentId>,
    /// In retrieval order; may be empty.
    pub candidates: Vec<Candidate>,
    /// (n, width), one row a candidate, rounded as they are logged.
    pub states: CandidateStates,
    /// (n) context tokens of each candidate.
    pub tokens: Vec<u32>,
}

impl Instance {
    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether nothing was retrieved.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// What masks a selection from the candidates.
    pub fn masks(&self, limits: SelectionLimits) -> Masks<'_> {
        Masks { tokens: &self.tokens, limits }
    }

    /// The documents of a selection, in its order; indices out of range are left out.
    pub fn documents(&self, order: &[u32]) -> Vec<Document> {
        let at = |&j: &u32| self.candidates.get(j as usize).map(|c| c.document.clone());
        order.iter().filter_map(at).collect()
    }

    /// The instance of a question and its candidates.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn new(
        question: &Question,
        candidates: Vec<Candidate>,
        reader: &PairReader,
    ) -> Result<Self, RecipeError> {
        let query = question.to_query();
        let pairs: Vec<_> = candidates.iter().map(|c| (query.text.as_str(), &c.document)).collect();
        let readings = reader.read(&pairs).map_err(|error| RecipeError::Question {
            question: question.id.clone(),
            reason: error.to_string(),
        })?;
        let values = features::states(&query.text, &candidates, &readings);
        let width = reader.width() + features::SCALARS.len();
        let states = CandidateStates::new(width, values).map_err(|error| {
            RecipeError::Question { question: question.id.clone(), reason: error.to_string() }
        })?;
        Ok(Self {
            dataset: question.dataset.clone(),
            answer_type: question.answer_type.clone(),
            positives: question.positives.clone(),
            tokens: readings.iter().map(|r| r.tokens).collect(),
            query,
            candidates,
            states,
        })
    }
}

/// Retrieves `top_n` candidates for each question and reads them.
///
/// `progress` is told how many are done, of how many. Questions for which nothing is found are laid
/// out too: without candidates.
///
/// # Errors
/// The index fails, or a text cannot be read.
pub async fn lay_out(
    index: &dyn SearchIndex,
    reader: &PairReader,
    questions: &[Question],
    top_n: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Instance>, RecipeError> {
    let mut instances = Vec::with_capacity(questions.len());
    for chunk in questions.chunks(READ_BATCH) {
        let mut found = Vec::with_capacity(chunk.len());
        for question in chunk {
            let search = Search::of(&question.to_query(), top_n);
            let candidates = index.search(&search).await.map_err(|error| {
                RecipeError::Question { question: question.id.clone(), reason: error.to_string() }
            })?;
            found.push(candidates);
        }
        // One read for all, so that batches are full; each instance then finds its pairs known.
        let texts = chunk.iter().zip(&found).flat_map(|(question, candidates)| {
            candidates.iter().map(|c| (question.question.as_str(), &c.document))
        });
        // Where one text cannot be read, `Instance::new` says which.
        let _ = reader.read(&texts.collect::<Vec<_>>());
        for (question, candidates) in chunk.iter().zip(found) {
            instances.push(Instance::new(question, candidates, reader)?);
        }
        progress(instances.len(), questions.len());
    }
    Ok(instances)
}

/// Splits training questions into those that are trained on and those that choose between epochs:
/// by a hash of the id, so that the split is the same in every run.
pub fn split_validation(instances: Vec<Instance>) -> (Vec<Instance>, Vec<Instance>) {
    instances
        .into_iter()
        .partition(|i| bucket(i.query.id.as_str(), "validation", VALIDATION_BUCKETS) != 0)
}

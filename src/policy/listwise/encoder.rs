//! Windows ranked by the project's own backbone: list-wise reranking without a language model.
//!
//! A window is read pair by pair, its list-wise features are computed over the window alone, and a
//! selection head scores it; the window's order is that of the scores before anything is chosen. With
//! the untrained head that is nearly the order of the relevance logits within each window, so the
//! difference to `cross_encoder` is what windows can and cannot carry up: the fair opponent of a
//! policy that sees the whole list on the same backbone. A trained head is taken as well.

use super::{WindowError, WindowRanker};
use crate::policy::features;
use crate::policy::head::Head;
use crate::policy::pointwise::ranking;
use crate::policy::reader::{PairReader, ReaderError};
use actors::types::{Candidate, CandidateStates, Document};
use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

/// See the module. Model work: it runs where it is awaited, at once.
#[derive(Debug, Clone)]
pub struct EncoderWindows {
    reader: Arc<PairReader>,
    head: Head,
    device: Device,
}

impl EncoderWindows {
    /// Ranks with `head`, whose weights lie on `device`, on states of `reader`.
    pub fn new(reader: Arc<PairReader>, head: Head, device: Device) -> Self {
        Self { reader, head, device }
    }

    fn scores(&self, query: &str, window: &[&Document]) -> Result<Vec<f32>, WindowError> {
        let pairs: Vec<(&str, &Document)> = window.iter().map(|d| (query, *d)).collect();
        let readings = self.reader.read(&pairs).map_err(|error| match error {
            ReaderError::QuestionTooLong { .. } | ReaderError::EmptyQuestion => {
                WindowError::Refused(error.to_string())
            }
            _ => WindowError::Unavailable(error.to_string()),
        })?;
        // The loop knows no retrieval scores: places in the window stand for them.
        let candidate = |(rank, document): (usize, &&Document)| Candidate {
            document: (*document).clone(),
            score: 1.0 / (1.0 + rank as f32),
            rank: rank as u32,
        };
        let candidates: Vec<Candidate> = window.iter().enumerate().map(candidate).collect();
        let failed = |error: candle_core::Error| WindowError::Unavailable(error.to_string());
        let values = features::states(query, &candidates, &readings);
        let width = self.head.config().state_width();
        let states = CandidateStates::new(width, values)
            .map_err(|error| WindowError::Unavailable(error.to_string()))?;
        let n = states.rows();
        let input = Tensor::from_slice(states.values(), (1, n, width), &self.device);
        let present = Tensor::ones((1, n), DType::F32, &self.device).map_err(failed)?;
        let output = self.head.forward(&input.map_err(failed)?, &present).map_err(failed)?;
        output.scores.flatten_all().and_then(|scores| scores.to_vec1()).map_err(failed)
    }
}

#[async_trait]
impl WindowRanker for EncoderWindows {
    async fn rank(&self, query: &str, window: &[&Document]) -> Result<Vec<usize>, WindowError> {
        Ok(ranking(&self.scores(query, window)?))
    }
}

//! The answer head: one answer out of an ordered list of passages that the extractive reader has
//! read, each on its own.
//!
//! Owns the scores of the passages' spans, the pooling of equal answers, the verdict over labels,
//! and these weights. The list-aware part is a [`Head`]: the policy's own (shared weights, as in
//! DynamicRAG's one model for reranker and generator) or another. Knows no loss and no port.
//!
//! With s_i the score of passage i, b that of "no passage holds the answer", and a_i the span of i
//! after SQuAD's normalisation:
//!
//! `P(a) = Σ_{i: a_i = a} exp(s_i) / Z`, `P(none) = exp(b) / Z`, `Z = exp(b) + Σ_i exp(s_i)`.
//!
//! Sources: one normaliser over all passages and the marginal over equal answers: Clark and Gardner
//! 2018 (arXiv 1710.10723, with the no-answer option), Wang et al. 2019 (multi-passage BERT, arXiv
//! 1908.08167), Karpukhin et al. 2020 (DPR's reader, arXiv 2004.04906, whose product of passage and
//! span is one score here, because the head sees both). A span's score against "no answer" of its
//! own passage, the margin, is SQuAD 2.0's (Devlin et al. 2019); b = 0 says that it is calibrated.

mod decode;
mod folder;
mod groups;
mod sentences;
mod weights;

pub use decode::{Found, Limits, Passages, Wanted, decode};
pub use folder::{AnswerFolderError, read, write};
pub use groups::{Groups, answer_key};
pub use weights::{LAYOUT, WeightsError, from_bytes, to_bytes};

use super::features;
use super::head::{Head, HeadConfig, Prior};
use super::reader::Reading;
use actors::types::{Candidate, Document};
use candle_core::{D, Device, Result, Tensor, Var};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Starts the names of the list-aware part's variables.
const HEAD_PREFIX: &str = "head.";
/// Starts the names of the other variables.
const ANSWER_PREFIX: &str = "answer.";

/// Parts of a [`Head`] that no answer is read from: only a policy trains them.
const OTHERS: [&str; 6] = [
    "interaction.left.weight",
    "interaction.right.weight",
    "evidence.weight",
    "stop.weight",
    "stop.bias",
    "stop.per_document",
];

/// Weights of the answer head. Clones share them.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    head: Head,
    /// `skip.weight` (scalars), `none` (1), `verdict.attention` (hidden), `verdict.weight`
    /// (labels, hidden), `verdict.bias` (labels).
    own: BTreeMap<String, Tensor>,
    labels: Vec<String>,
}

/// Passages of B questions, padded to n.
#[derive(Debug, Clone)]
pub struct Lists {
    /// (B, n, width) f32.
    pub states: Tensor,
    /// (B, n) f32: 1 for a passage, 0 for padding.
    pub present: Tensor,
}

/// What the answer head says of B questions.
#[derive(Debug, Clone)]
pub struct AnswerLogits {
    /// (B, n + 1) f32: the score of each passage's span, and last that of "none".
    pub spans: Tensor,
    /// (B, n + 1) f32: 1 where there is something to score.
    pub present: Tensor,
    /// (B, labels) f32.
    pub labels: Tensor,
}

impl AnswerHead {
    /// A head of its own before any training: the score of a span is its margin over "no answer",
    /// so the best span of one passage is that of the plain rule; agreement adds to it.
    ///
    /// embedding: width of the reader's states; labels: what a verdict chooses from, each once, at
    /// least one.
    pub fn untrained(
        embedding: usize,
        labels: &[String],
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let config = HeadConfig {
            embedding,
            scalars: features::SCALARS.len(),
            hidden: 64,
            attention_heads: 4,
            interaction_rank: 16,
        };
        let prior = Prior { scores: vec![0.0; config.scalars], stop: 0.0 };
        Self::on(Head::init(config, &prior, seed, device)?, labels, seed, device)
    }

    /// An untrained answer head on a list-aware part that may be trained: with the policy's own
    /// head the two share weights, and as long as its variables live, every step of either.
    ///
    /// Its own linear weights start as the margin less what `head` weighs the scalar features with,
    /// so that the policy's prior, which orders passages and not answers, is not in the scores.
    pub fn on(head: Head, labels: &[String], seed: u64, device: &Device) -> Result<Self> {
        if labels.is_empty() {
            candle_core::bail!("an answer head needs a label to choose from, and none was given");
        }
        let hidden = head.config().hidden;
        let mut skip = vec![0f32; head.config().scalars];
        if let Some(weight) = head.tensors().get("skip.weight") {
            let theirs = weight.to_vec1::<f32>()?;
            skip.iter_mut().zip(theirs).for_each(|(own, theirs)| *own = -theirs);
        }
        let mut none = 0.0;
        if let Some(margin) = features::position("margin") {
            // Undo the feature's scale and centre: the score is the margin itself.
            let (_, centre, scale) = features::SCALARS[margin];
            skip[margin] += scale;
            none = -centre;
        }
        let mut rng = StdRng::seed_from_u64(seed ^ 0x616e_7377_6572);
        let bound = 0.01 * (3.0 / hidden as f32).sqrt();
        let verdict: Vec<f32> =
            (0..labels.len() * hidden).map(|_| rng.random_range(-bound..bound)).collect();
        let own = [
            ("skip.weight", Tensor::new(skip, device)?),
            ("none", Tensor::new(&[none], device)?),
            ("verdict.attention", Tensor::new(vec![0f32; hidden], device)?),
            ("verdict.weight", Tensor::from_vec(verdict, (labels.len(), hidden), device)?),
            ("verdict.bias", Tensor::new(vec![0f32; labels.len()], device)?),
        ];
        let own = own.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        Ok(Self { head, own, labels: labels.to_vec() })
    }

    /// Takes tensors by name; names the one that is missing, superfluous or of another shape.
    pub fn from_tensors(
        head: Head,
        labels: Vec<String>,
        mut found: BTreeMap<String, Tensor>,
    ) -> std::result::Result<Self, String> {
        let (scalars, hidden) = (head.config().scalars, head.config().hidden);
        let plan = [
            ("skip.weight", vec![scalars]),
            ("none", vec![1]),
            ("verdict.attention", vec![hidden]),
            ("verdict.weight", vec![labels.len(), hidden]),
            ("verdict.bias", vec![labels.len()]),
        ];
        let mut own = BTreeMap::new();
        for (name, shape) in plan {
            let tensor =
                found.remove(name).ok_or(format!("tensor `{ANSWER_PREFIX}{name}` is missing"))?;
            if tensor.dims() != shape.as_slice() {
                let dims = tensor.dims();
                return Err(format!(
                    "tensor `{ANSWER_PREFIX}{name}` has shape {dims:?}, expected {shape:?}"
                ));
            }
            own.insert(name.to_owned(), tensor);
        }
        match found.keys().next() {
            Some(name) => {
                Err(format!("tensor `{ANSWER_PREFIX}{name}` does not belong to an answer head"))
            }
            None => Ok(Self { head, own, labels }),
        }
    }

    /// A copy whose weights are variables, with them by name (`head.…`, `answer.…`): the copy sees
    /// every optimiser step. What only a policy reads of the head stays as it is.
    pub fn trainable(&self) -> Result<(Self, BTreeMap<String, Var>)> {
        let (head, variables) = self.head.trainable()?;
        let read = variables.into_iter().filter(|(name, _)| !OTHERS.contains(&name.as_str()));
        let prefixed = |(name, variable)| (format!("{HEAD_PREFIX}{name}"), variable);
        let mut variables: BTreeMap<String, Var> = read.map(prefixed).collect();
        let mut own = BTreeMap::new();
        for (name, tensor) in &self.own {
            let variable = Var::from_tensor(&tensor.copy()?)?;
            own.insert(name.clone(), variable.as_tensor().clone());
            variables.insert(format!("{ANSWER_PREFIX}{name}"), variable);
        }
        Ok((Self { head, own, labels: self.labels.clone() }, variables))
    }

    /// A deep copy: later optimiser steps do not change it.
    pub fn snapshot(&self) -> Result<Self> {
        let copies = self.own.iter().map(|(n, t)| Ok((n.clone(), t.detach().copy()?)));
        let own = copies.collect::<Result<_>>()?;
        Ok(Self { head: self.head.snapshot()?, own, labels: self.labels.clone() })
    }

    /// The list-aware part.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The other tensors by name.
    pub fn own(&self) -> &BTreeMap<String, Tensor> {
        &self.own
    }

    /// What a verdict chooses from.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        self.own
            .get(name)
            .ok_or_else(|| candle_core::Error::Msg(format!("answer head has no tensor `{name}`")))
    }

    /// Scores the spans and the labels of each list. Padding influences nothing.
    pub fn forward(&self, lists: &Lists) -> Result<AnswerLogits> {
        let (batch, n, _) = lists.states.dims3()?;
        let config = self.head.config();
        let (output, hidden) = self.head.forward_with_hidden(&lists.states, &lists.present)?;
        let scalars = lists.states.narrow(D::Minus1, config.embedding, config.scalars)?;
        let skip = scalars.contiguous()?.broadcast_mul(self.weight("skip.weight")?)?;
        let scores = (output.scores + skip.sum(D::Minus1)?)?;
        let none = self.weight("none")?.reshape((1, 1))?.broadcast_as((batch, 1))?;
        let ones = Tensor::ones((batch, 1), lists.present.dtype(), lists.present.device())?;
        // Attention over the list by one vector; at 0 it is the mean.
        let weights = hidden.broadcast_mul(self.weight("verdict.attention")?)?.sum(D::Minus1)?;
        let closed = ((&lists.present - 1.0)? * 1e9)?;
        let weights = candle_nn::ops::softmax(&(weights + closed)?, D::Minus1)?;
        let pooled = hidden.broadcast_mul(&weights.reshape((batch, n, 1))?)?.sum(1)?;
        let labels = pooled.matmul(&self.weight("verdict.weight")?.t()?)?;
        Ok(AnswerLogits {
            spans: Tensor::cat(&[scores, none], D::Minus1)?,
            present: Tensor::cat(&[lists.present.clone(), ones], D::Minus1)?,
            labels: labels.broadcast_add(self.weight("verdict.bias")?)?,
        })
    }
}

/// States of the given documents alone, in their given order, `(n, width)` row-major: position is a
/// feature, and so is what the others of the list say.
///
/// A generator is not told how a document was retrieved: each has the same retrieval score, which
/// moves all scores of a list alike.
pub fn states(question: &str, documents: &[Document], readings: &[Arc<Reading>]) -> Vec<f32> {
    let candidate = |(rank, document): (usize, &Document)| Candidate {
        document: document.clone(),
        score: 1.0,
        rank: u32::try_from(rank).unwrap_or(u32::MAX),
    };
    let candidates: Vec<Candidate> = documents.iter().enumerate().map(candidate).collect();
    features::states(question, &candidates, readings)
}

impl Lists {
    /// Pads row-major states of several lists; each list holds at least one row of `width`.
    pub fn pad(lists: &[Vec<f32>], width: usize, device: &Device) -> Result<Self> {
        let longest = lists.iter().map(|list| list.len() / width.max(1)).max().unwrap_or(0);
        let mut states = Vec::with_capacity(lists.len() * longest * width);
        let mut present = Vec::with_capacity(lists.len() * longest);
        for list in lists {
            let rows = list.len() / width.max(1);
            states.extend_from_slice(list);
            states.extend(std::iter::repeat_n(0f32, (longest - rows) * width));
            present.extend(std::iter::repeat_n(1f32, rows));
            present.extend(std::iter::repeat_n(0f32, longest - rows));
        }
        Ok(Self {
            states: Tensor::from_vec(states, (lists.len(), longest, width), device)?,
            present: Tensor::from_vec(present, (lists.len(), longest), device)?,
        })
    }
}

#[cfg(test)]
mod tests;

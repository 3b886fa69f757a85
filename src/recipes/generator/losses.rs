//! The two losses on a batch of contexts.
//!
//! Every answer that a row may give is one alternative: its passages, "none", its labels. So spans and
//! labels have one likelihood (`algorithms::marginal`). Knows no loop.

use super::GeneratorSettings;
use super::examples::Example;
use super::pairs::Pair;
use crate::algorithms::dpo::{Preference, preference};
use crate::algorithms::marginal;
use crate::policy::answer_head::{AnswerHead, Lists, Wanted, states};
use actors::types::Document;
use candle_core::{D, Device, Result, Tensor};
use std::sync::Arc;

/// R contexts laid out for the head, of n passages at most: n + 1 + labels alternatives.
#[derive(Debug, Clone)]
pub struct Rows {
    lists: Lists,
    /// (R, n + 1 + labels): 1 where the row may give the alternative.
    open: Tensor,
    /// (R, n + 1 + labels): how right it is, before any threshold; "none" has 0.
    quality: Vec<Vec<f32>>,
    /// Whether a row wants a label.
    is_label: Vec<bool>,
    /// Alternatives of a row.
    width: usize,
}

impl Rows {
    /// Lays out contexts (indices of the example's candidates); each holds at least one.
    pub fn new(head: &AnswerHead, rows: &[(&Example, Vec<usize>)]) -> Result<Self> {
        let values: Vec<Vec<f32>> = rows.iter().map(|(e, context)| input(e, context)).collect();
        let state = head.head().config().state_width();
        let lists = Lists::pad(&values, state, &Device::Cpu)?;
        let n = lists.present.dim(1)?;
        let labels = head.labels();
        let width = n + 1 + labels.len();
        let (mut open, mut quality) = (vec![0f32; rows.len() * width], Vec::new());
        for (row, (example, context)) in rows.iter().enumerate() {
            let open = &mut open[row * width..(row + 1) * width];
            let mut right = vec![0f32; width];
            if let Wanted::Label(wanted) = &example.wanted {
                for (at, label) in labels.iter().enumerate() {
                    let is_open = wanted.is_empty() || wanted.contains(label);
                    open[n + 1 + at] = f32::from(u8::from(is_open));
                    right[n + 1 + at] =
                        f32::from(u8::from(is_open && example.query.references.contains(label)));
                }
            } else {
                open[..context.len()].fill(1.0);
                open[n] = 1.0;
                for (at, &candidate) in context.iter().enumerate() {
                    right[at] = example.quality[candidate];
                }
            }
            quality.push(right);
        }
        let open = Tensor::from_vec(open, (rows.len(), width), &Device::Cpu)?;
        let is_label = rows.iter().map(|(e, _)| matches!(e.wanted, Wanted::Label(_))).collect();
        Ok(Self { lists, open, quality, is_label, width })
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.quality.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.quality.is_empty()
    }

    /// Alternative that stands for "none".
    fn none(&self, labels: usize) -> usize {
        self.width - labels - 1
    }

    /// (R, alternatives) scores of everything that may be answered.
    pub(super) fn logits(&self, head: &AnswerHead) -> Result<Tensor> {
        let out = head.forward(&self.lists)?;
        Tensor::cat(&[out.spans, out.labels], D::Minus1)
    }

    /// (R, alternatives) log-probabilities in nats, without gradients; meaningless where closed.
    pub(super) fn log_probs(&self, head: &AnswerHead) -> Result<Vec<Vec<f32>>> {
        let closed = ((&self.open - 1.0)? * 1e9)?;
        let logits = (self.logits(head)?.detach() + closed)?;
        candle_nn::ops::log_softmax(&logits, D::Minus1)?.to_vec2()
    }

    /// What SFT teaches: (R, alternatives) weights, and (R) how much each row counts.
    pub(super) fn targets(
        &self,
        labels: usize,
        settings: &GeneratorSettings,
    ) -> (Vec<Vec<f32>>, Vec<f32>) {
        let none = self.none(labels);
        let of = |row: usize| {
            let near = |q: &f32| if *q >= settings.soft_f1_min { *q } else { 0.0 };
            let mut weights: Vec<f32> = self.quality[row].iter().map(near).collect();
            let has_right = weights.iter().any(|w| *w > 0.0);
            match (has_right, self.is_label[row]) {
                (true, _) => (weights, 1.0),
                // A gold label that is not among those to choose from teaches nothing.
                (false, true) => (weights, 0.0),
                (false, false) => {
                    weights[none] = 1.0;
                    (weights, settings.none_weight)
                }
            }
        };
        (0..self.len()).map(of).unzip()
    }

    fn tensor(&self, weights: Vec<Vec<f32>>) -> Result<Tensor> {
        let shape = (weights.len(), self.width);
        Tensor::from_vec(weights.into_iter().flatten().collect::<Vec<f32>>(), shape, &Device::Cpu)
    }

    /// (R) log-likelihood in nats of the alternatives of weight 1.
    fn likelihood(&self, head: &AnswerHead, weights: Vec<Vec<f32>>) -> Result<Tensor> {
        marginal::log_likelihood(&self.logits(head)?, &self.tensor(weights)?, &self.open)
    }
}

fn input(example: &Example, context: &[usize]) -> Vec<f32> {
    let documents: Vec<Document> =
        context.iter().map(|&at| example.documents[at].clone()).collect();
    let readings: Vec<_> = context.iter().map(|&at| Arc::clone(&example.readings[at])).collect();
    states(&example.query.text, &documents, &readings)
}

/// The SFT loss of the recipe's head, a scalar in nats: mean over rows by their weights, 0 where no
/// row teaches anything.
pub fn sft_loss(head: &AnswerHead, rows: &Rows, settings: &GeneratorSettings) -> Result<Tensor> {
    let (weights, counts) = rows.targets(head.labels().len(), settings);
    let counts = Tensor::new(counts, &Device::Cpu)?;
    let logits = rows.logits(head)?;
    marginal::negative_log_likelihood(&logits, &rows.tensor(weights)?, &rows.open, &counts)
}

/// The DPO loss: one pair a row, in order, and its reference log-probabilities as the pairs hold
/// them. [`Preference::margin`] is (R), nats.
pub fn preference_loss(
    head: &AnswerHead,
    rows: &Rows,
    pairs: &[&Pair],
    settings: &GeneratorSettings,
) -> Result<Preference> {
    let marks = |of: fn(&Pair) -> &[usize], labels: usize| -> Vec<Vec<f32>> {
        let row = |pair: &&Pair| {
            let mut weights = vec![0f32; rows.width];
            for &at in of(pair) {
                // Labels stand after "none", wherever the padding of this batch puts it.
                let place = if pair.is_label { rows.none(labels) + 1 + at } else { at };
                weights[place] = 1.0;
            }
            weights
        };
        pairs.iter().map(row).collect()
    };
    let labels = head.labels().len();
    let chosen = rows.likelihood(head, marks(|pair| &pair.chosen, labels))?;
    let rejected = rows.likelihood(head, marks(|pair| &pair.rejected, labels))?;
    let reference = |of: fn(&Pair) -> f32| {
        Tensor::new(pairs.iter().map(|pair| of(pair)).collect::<Vec<f32>>(), &Device::Cpu)
    };
    let before = (reference(|pair| pair.reference.0)?, reference(|pair| pair.reference.1)?);
    preference(&chosen, &rejected, &before.0, &before.1, settings.beta, settings.sft_weight)
}

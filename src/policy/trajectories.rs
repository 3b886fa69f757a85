//! Recorded selections as tensors: what the trainer needs to give each step its log-probability.
//!
//! Mirrors `selection.rs` op by op, with the same masks, so that a trained policy and a served one
//! agree on every probability. Does not know rewards or losses.

use super::head::HeadOutput;
use super::selection::{Masks, SelectionError, open_actions};
use candle_core::{D, Device, Result, Tensor};

/// One selection from list `list` of a batch.
#[derive(Debug, Clone)]
pub struct Recorded<'a> {
    /// Row of the batch that holds its candidates.
    pub list: u32,
    /// Number of candidates of that list.
    pub candidates: usize,
    /// What masks it.
    pub masks: Masks<'a>,
    /// The selection.
    pub order: &'a [u32],
}

/// R selections of up to T steps over lists padded to n candidates.
#[derive(Debug, Clone)]
pub struct Trajectories {
    /// (R) u32: which list.
    lists: Tensor,
    /// (R, T, n): 1 where the candidate is chosen before the step.
    chosen: Tensor,
    /// (R, T, 1): how many are.
    count: Tensor,
    /// (R, T, n + 1): 0 where the action is open, -1e9 where it is masked.
    closed: Tensor,
    /// (R, T) u32: the action taken; n is the stop.
    actions: Tensor,
    /// (R, T) f32: 1 for a step, 0 for padding.
    steps: Tensor,
}

impl Trajectories {
    /// Lays out the selections; `n` is the padded list length.
    pub fn new(
        recorded: &[Recorded<'_>],
        n: usize,
        device: &Device,
    ) -> std::result::Result<Self, TrajectoryError> {
        let rows: Vec<Vec<Vec<bool>>> = recorded
            .iter()
            .map(|r| open_actions(r.candidates, r.masks, r.order))
            .collect::<std::result::Result<_, _>>()?;
        let (r, t) = (recorded.len(), rows.iter().map(Vec::len).max().unwrap_or(0).max(1));
        let mut chosen = vec![0f32; r * t * n];
        let mut count = vec![0f32; r * t];
        let mut closed = vec![-1e9f32; r * t * (n + 1)];
        let mut actions = vec![n as u32; r * t];
        let mut steps = vec![0f32; r * t];
        for (row, (record, open)) in recorded.iter().zip(&rows).enumerate() {
            for step in 0..t {
                let at = row * t + step;
                let Some(open) = open.get(step) else {
                    // Padding: only the stop is open, so its log-probability is 0 and finite.
                    closed[at * (n + 1) + n] = 0.0;
                    continue;
                };
                for (j, _) in open.iter().enumerate().filter(|(_, open)| **open) {
                    let column = if j == record.candidates { n } else { j };
                    closed[at * (n + 1) + column] = 0.0;
                }
                for &j in &record.order[..step.min(record.order.len())] {
                    chosen[at * n + j as usize] = 1.0;
                    count[at] += 1.0;
                }
                actions[at] = record.order.get(step).copied().unwrap_or(n as u32);
                steps[at] = 1.0;
            }
        }
        let lists: Vec<u32> = recorded.iter().map(|r| r.list).collect();
        Ok(Self {
            lists: Tensor::from_vec(lists, r, device)?,
            chosen: Tensor::from_vec(chosen, (r, t, n), device)?,
            count: Tensor::from_vec(count, (r, t, 1), device)?,
            closed: Tensor::from_vec(closed, (r, t, n + 1), device)?,
            actions: Tensor::from_vec(actions, (r, t), device)?,
            steps: Tensor::from_vec(steps, (r, t), device)?,
        })
    }

    /// (R, T) f32: 1 for a step, 0 for padding.
    pub fn steps(&self) -> &Tensor {
        &self.steps
    }

    /// (R, T, n + 1) f32: log-probability in nats of every action at every step at this
    /// temperature; about -1e9 where masked.
    pub fn all_log_probs(&self, output: &HeadOutput, temperature: f64) -> Result<Tensor> {
        let of = |t: &Tensor| t.index_select(&self.lists, 0);
        let scores = of(&output.scores)?.unsqueeze(1)?;
        let shift = self.chosen.broadcast_div(&self.count.maximum(1f64)?)?;
        let shift = shift.matmul(&of(&output.interaction)?.transpose(1, 2)?.contiguous()?)?;
        let documents = shift.broadcast_add(&scores)?;
        let evidence = self.chosen.matmul(&of(&output.evidence)?.unsqueeze(2)?)?;
        let per_document = self.count.broadcast_mul(&output.stop_per_document)?;
        let start = of(&output.stop)?.reshape((self.lists.dim(0)?, 1, 1))?;
        let stop = (evidence + per_document)?.broadcast_add(&start)?;
        let logits = (Tensor::cat(&[documents, stop], D::Minus1)? / temperature)?;
        candle_nn::ops::log_softmax(&(logits + &self.closed)?, D::Minus1)
    }

    /// (R, T) f32: log-probability of the action taken; 0 at padding.
    pub fn taken(&self, all_log_probs: &Tensor) -> Result<Tensor> {
        self.at_actions(all_log_probs)? * &self.steps
    }

    /// (R, T) f32: log-odds of the stop against the action taken, which at temperature 1 is the
    /// difference of their logits; about -1e9 where the stop is masked, 0 at padding and at the stop.
    pub fn stop_margins(&self, all_log_probs: &Tensor) -> Result<Tensor> {
        let stop = self.closed.dim(D::Minus1)? - 1;
        let stop = all_log_probs.narrow(D::Minus1, stop, 1)?.squeeze(2)?;
        stop - self.at_actions(all_log_probs)?
    }

    fn at_actions(&self, all_log_probs: &Tensor) -> Result<Tensor> {
        all_log_probs.gather(&self.actions.unsqueeze(2)?, D::Minus1)?.squeeze(2)
    }
}

/// Why selections could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum TrajectoryError {
    /// A record contradicts its own masks.
    #[error("recorded selection is impossible: {0}")]
    Selection(#[from] SelectionError),
    /// A tensor operation failed.
    #[error("cannot lay out selections: {0}")]
    Tensor(#[from] candle_core::Error),
}

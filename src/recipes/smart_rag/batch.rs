//! Turns and selections as tensors: what the losses need to give each choice its log-probability.
//!
//! Mirrors `moves.rs` and `selection.rs` with the same masks. Knows no loss.

use crate::policy::head::Head;
use crate::policy::selection::Masks;
use crate::policy::trajectories::{Recorded, Trajectories};
use crate::policy::turn_head::TurnHead;
use crate::policy::turn_head::moves::{MOVES, Move, Open};
use crate::recipes::fit::RecipeError;
use crate::recipes::instance::Instance;
use crate::recipes::rollout::pad;
use actors::types::SelectionLimits;
use candle_core::{D, Device, Tensor};
use std::sync::Arc;

/// R turns.
#[derive(Debug)]
pub(super) struct TurnBatch {
    /// (R, state width).
    states: Tensor,
    /// (R, MOVES): 0 where open, -1e9 where closed.
    closed: Tensor,
    /// (R) u32: column of the move made.
    taken: Tensor,
}

/// What the turn head says of a batch.
pub(super) struct TurnFigures {
    /// (R, MOVES): log-probabilities in nats, about -1e9 where closed.
    pub(super) all: Tensor,
    /// (R): of the moves made.
    pub(super) taken: Tensor,
    /// (R): values.
    pub(super) values: Tensor,
}

impl TurnBatch {
    /// Lays out the turns; at least one.
    pub(super) fn new(
        turns: &[(&[f32], &Open, Move)],
        device: &Device,
    ) -> Result<Self, RecipeError> {
        let (rows, width) = (turns.len(), turns.first().map_or(0, |(state, ..)| state.len()));
        let states: Vec<f32> = turns.iter().flat_map(|(state, ..)| state.iter().copied()).collect();
        let closed: Vec<f32> = turns
            .iter()
            .flat_map(|(_, open, _)| open.iter().map(|open| if *open { 0.0 } else { -1e9 }))
            .collect();
        let taken: Vec<u32> = turns.iter().map(|(.., taken)| taken.column() as u32).collect();
        Ok(Self {
            states: Tensor::from_vec(states, (rows, width), device)?,
            closed: Tensor::from_vec(closed, (rows, MOVES), device)?,
            taken: Tensor::from_vec(taken, (rows, 1), device)?,
        })
    }

    pub(super) fn figures(&self, head: &TurnHead) -> Result<TurnFigures, RecipeError> {
        let output = head.forward(&self.states)?;
        let all = candle_nn::ops::log_softmax(&(output.logits + &self.closed)?, D::Minus1)?;
        let taken = all.gather(&self.taken, 1)?.squeeze(1)?;
        Ok(TurnFigures { all, taken, values: output.values })
    }
}

/// S selections of up to T steps, each from a list of its own.
#[derive(Debug)]
pub(super) struct SelectionBatch {
    states: Tensor,
    present: Tensor,
    trajectories: Trajectories,
}

impl SelectionBatch {
    /// Lays out the selections; `None` where there are none.
    pub(super) fn new(
        chosen: &[(Arc<Instance>, Vec<u32>)],
        limits: SelectionLimits,
        head: &Head,
        device: &Device,
    ) -> Result<Option<Self>, RecipeError> {
        if chosen.is_empty() {
            return Ok(None);
        }
        let lists: Vec<_> = chosen.iter().map(|(list, _)| &list.states).collect();
        let (states, present, n) = pad(&lists, head.config().state_width(), device)?;
        let recorded: Vec<Recorded<'_>> = (0..)
            .zip(chosen)
            .map(|(row, (list, order))| Recorded {
                list: row,
                candidates: list.len(),
                masks: Masks { tokens: &list.tokens, limits },
                order,
            })
            .collect();
        let trajectories = Trajectories::new(&recorded, n, device)
            .map_err(|error| RecipeError::Model(error.to_string()))?;
        Ok(Some(Self { states, present, trajectories }))
    }

    /// (S, T): log-probability of each step in nats, 0 at padding.
    pub(super) fn log_probs(&self, head: &Head) -> Result<Tensor, RecipeError> {
        let output = head.forward(&self.states, &self.present)?;
        let all = self.trajectories.all_log_probs(&output, 1.0)?;
        Ok(self.trajectories.taken(&all)?)
    }

    /// (S, T): 1 for a step, 0 for padding.
    pub(super) fn steps(&self) -> &Tensor {
        self.trajectories.steps()
    }
}

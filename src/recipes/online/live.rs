//! What moves during an update: a head, and in `full` the trunk below it, each with its optimiser.
//!
//! Owns copies; the champion they start from is never touched. Knows no loss but the states that
//! one is of.

use super::config::OnlineConfig;
use super::groups::Group;
use super::objective::read_anew;
use crate::policy::encoder::Trainable;
use crate::policy::head::Head;
use crate::policy::optimizer::{Optimizer, OptimizerArgs, OptimizerError};
use crate::policy::reader::{LiveTrunk, PairReader};
use crate::policy::serving::PolicyWeights;
use actors::ports::LearnError;
use actors::types::CandidateStates;
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A head and perhaps a trunk under training.
pub(super) struct Live {
    /// Sees every step.
    pub head: Head,
    variables: BTreeMap<String, Var>,
    /// Sees every step; `None` where the trunk is frozen.
    pub trunk: Option<LiveTrunk>,
}

impl Live {
    /// Copies the champion; its trunk is trained where there is a `base` to run it on.
    pub(super) fn new(
        config: &OnlineConfig,
        champion: &PolicyWeights,
        base: Option<&Arc<PairReader>>,
    ) -> std::result::Result<Self, LearnError> {
        let (head, variables) = champion.head.trainable().map_err(super::model)?;
        let Some(base) = base else { return Ok(Self { head, variables, trunk: None }) };
        let (first, layers) = (config.trunk_from_layer, base.layers());
        if first > layers {
            return Err(LearnError::Model(format!(
                "trunk_from_layer is {first}, the encoder has {layers} layers: nothing is trained"
            )));
        }
        let which = match first.checked_sub(1) {
            None => Trainable::All,
            Some(first) => Trainable::FromLayer(first),
        };
        let empty = BTreeMap::new();
        let trained = champion.trunk.as_deref().unwrap_or(&empty);
        let trunk = base
            .live_trunk(trained, which)
            .map_err(|error| LearnError::Model(format!("cannot train the trunk: {error}")))?;
        Ok(Self { head, variables, trunk: Some(trunk) })
    }

    /// Copies of the weights as they are now. What an earlier update has trained of the champion's
    /// trunk and this one has not stays in.
    pub(super) fn weights(&self, champion: &PolicyWeights) -> Result<PolicyWeights> {
        let trunk = match &self.trunk {
            None => champion.trunk.clone(),
            Some(live) => {
                let mut tensors = champion.trunk.as_deref().cloned().unwrap_or_default();
                tensors.extend(live.snapshot()?);
                Some(Arc::new(tensors))
            }
        };
        Ok(PolicyWeights { head: self.head.snapshot()?, trunk, turn: champion.turn.clone() })
    }

    /// The states of a group by the trunk as it is now, rounded as they are served; `None` where the
    /// trunk is frozen. `done`: steps made so far, for the error.
    ///
    /// # Errors
    /// The trunk fails, or gives states that are not finite: training has diverged.
    pub(super) fn states(
        &self,
        group: &Group<'_>,
        done: u64,
    ) -> std::result::Result<Option<CandidateStates>, LearnError> {
        let Some(trunk) = &self.trunk else { return Ok(None) };
        let read = || -> Result<Vec<f32>> {
            let (n, width) = (group.states.rows(), group.states.width());
            let logged = Tensor::from_slice(group.states.values(), (1, n, width), &Device::Cpu)?;
            let embedding = self.head.config().embedding;
            read_anew(trunk, &logged, &[group], embedding)?.flatten_all()?.to_vec1()
        };
        let values = read().map_err(super::model)?;
        let states = CandidateStates::new(group.states.width(), values)
            .map_err(|error| LearnError::Diverged { step: done, reason: error.to_string() })?;
        Ok(Some(states))
    }

    /// The head's variables.
    pub(super) fn head_variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// Variables of head and trunk; their names do not meet.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.variables.iter().chain(self.trunk.iter().flat_map(|t| t.variables()))
    }

    /// Adds the gradients of the variables in `part` to `sum`, and nothing else of it.
    pub(super) fn add(&self, sum: &mut GradStore, part: &GradStore) -> Result<()> {
        for (_, variable) in self.variables() {
            let Some(gradient) = part.get(variable) else { continue };
            let total = match sum.get(variable) {
                None => gradient.clone(),
                Some(so_far) => (so_far + gradient)?,
            };
            sum.insert(variable, total);
        }
        Ok(())
    }
}

/// The optimisers of a [`Live`] in one phase.
pub(super) struct Steps {
    head: Optimizer,
    trunk: Option<Optimizer>,
}

impl Steps {
    /// The head's peak rate and both schedules over `total` steps. The moments are those of `before`,
    /// the same phase of the update before, where they fit the variables, and else zero.
    pub(super) fn new(
        config: &OnlineConfig,
        live: &Live,
        (head_rate, total): (f64, u64),
        before: Option<&Self>,
    ) -> Self {
        let args = |rate: f64| OptimizerArgs {
            rate: rate as f32,
            weight_decay: config.weight_decay as f32,
            clip_norm: config.gradient_norm_max,
            warmup_steps: total / 10,
            total_steps: total,
            ..OptimizerArgs::default()
        };
        let trunk = |t: &LiveTrunk| {
            let before = before.and_then(|before| before.trunk.as_ref());
            carried_on(args(config.trunk_learning_rate), t.variables(), before)
        };
        Self {
            head: carried_on(args(head_rate), &live.variables, before.map(|b| &b.head)),
            trunk: live.trunk.as_ref().map(trunk),
        }
    }

    /// One step of both, or of neither.
    ///
    /// # Errors
    /// A gradient that is not finite: every variable keeps its value.
    pub(super) fn step(
        &mut self,
        live: &Live,
        gradients: &GradStore,
    ) -> std::result::Result<(), OptimizerError> {
        // The trunk refuses on its own, and goes first; so the head is asked before.
        let step = self.head.steps() + 1;
        let mut squares = 0.0;
        for variable in live.variables.values() {
            if let Some(gradient) = gradients.get(variable) {
                squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        if !squares.is_finite() {
            return Err(OptimizerError::NotFinite { step, norm: squares.sqrt() });
        }
        if let (Some(optimizer), Some(trunk)) = (&mut self.trunk, &live.trunk) {
            optimizer.step(trunk.variables(), gradients)?;
        }
        self.head.step(&live.variables, gradients)?;
        Ok(())
    }
}

/// An optimiser with the moments of `before`, whose steps count on, so that their bias stays
/// corrected: the schedule is moved by as many, and its rise is short because moments are known.
pub(crate) fn carried_on(
    args: OptimizerArgs,
    variables: &BTreeMap<String, Var>,
    before: Option<&Optimizer>,
) -> Optimizer {
    let resumed = before.and_then(|before| {
        let done = before.steps();
        let moved = OptimizerArgs {
            warmup_steps: args.warmup_steps + done,
            total_steps: args.total_steps + done,
            ..args.clone()
        };
        Optimizer::resume(moved, variables, done, &before.state().ok()?).ok()
    });
    resumed.unwrap_or_else(|| Optimizer::new(args, variables))
}

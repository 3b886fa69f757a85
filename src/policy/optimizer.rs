//! AdamW with savable moments, clipping by global norm, and a linear schedule.
//!
//! Owns the moments. Knows no loss. candle's own AdamW keeps its moments private, so a run could not
//! be resumed; this one repeats bit for bit from [`Optimizer::state`].

use super::kernels;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Ends the name of a first moment in saved state.
const FIRST: &str = ".first_moment";
/// Ends the name of a second moment in saved state.
const SECOND: &str = ".second_moment";

/// Why a step could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// The gradient is not a number; no parameter was changed.
    #[error("gradient norm is {norm} at step {step}; parameters were left as they were")]
    NotFinite {
        /// Step that was refused, from 1.
        step: u64,
        /// The norm.
        norm: f64,
    },
    /// Saved moments do not fit the parameters.
    #[error("optimizer state of `{name}`: expected {expected} numbers, found {found}")]
    State {
        /// Name of the moment.
        name: String,
        /// Size of the parameter.
        expected: usize,
        /// Size found; 0 where it is missing.
        found: usize,
    },
    /// The tensor library failed.
    #[error("optimizer arithmetic failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A gradient has another size than its parameter.
    #[error(transparent)]
    Shape(#[from] kernels::ShapeError),
}

/// Settings of the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerArgs {
    /// Largest step size.
    pub rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled decay of matrices; biases and norms are not decayed.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; 0 turns it off.
    pub clip_norm: f64,
    /// Steps over which the rate rises from 0.
    pub warmup_steps: u64,
    /// Step at which the rate has fallen to 0; 0 keeps it constant after the warm-up.
    pub total_steps: u64,
}

impl Default for OptimizerArgs {
    fn default() -> Self {
        Self {
            rate: 2e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
            warmup_steps: 0,
            total_steps: 0,
        }
    }
}

impl OptimizerArgs {
    /// Step size at `step`, from 1: linear rise, then linear fall.
    pub fn rate_at(&self, step: u64) -> f32 {
        let (warmup, total) = (self.warmup_steps, self.total_steps);
        if step <= warmup {
            return self.rate * step as f32 / warmup.max(1) as f32;
        }
        if total == 0 {
            return self.rate;
        }
        // The last step still moves: its rate is one part of the fall above zero.
        let left = (total + 1).saturating_sub(step) as f32;
        self.rate * left / (total + 1).saturating_sub(warmup).max(1) as f32
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Number of the step, from 1.
    pub step: u64,
    /// Step size used.
    pub rate: f32,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
}

#[derive(Debug, Clone, PartialEq)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// AdamW over named variables.
#[derive(Debug, Clone)]
pub struct Optimizer {
    args: OptimizerArgs,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

impl Optimizer {
    /// Starts with zero moments for every variable.
    pub fn new(args: OptimizerArgs, variables: &BTreeMap<String, Var>) -> Self {
        let zero = |variable: &Var| {
            let zeros = vec![0f32; variable.elem_count()];
            Moments { first: zeros.clone(), second: zeros }
        };
        let moments = variables.iter().map(|(name, var)| (name.clone(), zero(var))).collect();
        Self { args, step: 0, moments }
    }

    /// Continues after `step` steps from what [`Optimizer::state`] gave.
    pub fn resume(
        args: OptimizerArgs,
        variables: &BTreeMap<String, Var>,
        step: u64,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<Self, OptimizerError> {
        let mut moments = BTreeMap::new();
        for (name, variable) in variables {
            let take = |suffix: &str| {
                let full = format!("{name}{suffix}");
                let expected = variable.elem_count();
                let found = state.get(&full).map_or(0, Tensor::elem_count);
                match state.get(&full) {
                    Some(tensor) if found == expected => {
                        Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
                    }
                    _ => Err(OptimizerError::State { name: full, expected, found }),
                }
            };
            let both = Moments { first: take(FIRST)?, second: take(SECOND)? };
            moments.insert(name.clone(), both);
        }
        Ok(Self { args, step, moments })
    }

    /// Moments as tensors named `NAME.first_moment` and `NAME.second_moment`.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, OptimizerError> {
        let mut state = BTreeMap::new();
        for (name, moments) in &self.moments {
            let tensor = |numbers: &[f32]| Tensor::new(numbers, &candle_core::Device::Cpu);
            state.insert(format!("{name}{FIRST}"), tensor(&moments.first)?);
            state.insert(format!("{name}{SECOND}"), tensor(&moments.second)?);
        }
        Ok(state)
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Makes one step on every variable that has a gradient; the others keep value and moments.
    ///
    /// A norm that is not finite changes nothing and is an error.
    pub fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &GradStore,
    ) -> Result<StepReport, OptimizerError> {
        let step = self.step + 1;
        let mut found = Vec::new();
        let mut squares = 0.0;
        for (name, variable) in variables {
            if let Some(gradient) = gradients.get(variable) {
                let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                squares += kernels::square_sum(&gradient);
                found.push((name, variable, gradient));
            }
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Err(OptimizerError::NotFinite { step, norm });
        }
        let rate = self.args.rate_at(step);
        for (name, variable, gradient) in found {
            self.move_one(name, variable, &gradient, (step, rate, norm))?;
        }
        self.step = step;
        Ok(StepReport { step, rate, gradient_norm: norm })
    }

    fn move_one(
        &mut self,
        name: &str,
        variable: &Var,
        gradient: &[f32],
        (step, rate, norm): (u64, f32, f64),
    ) -> Result<(), OptimizerError> {
        let args = &self.args;
        let clip = args.clip_norm;
        let gradient_scale = if clip > 0.0 && norm > clip { (clip / norm) as f32 } else { 1.0 };
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(step as f64))) as f32;
        let decays = variable.rank() > 1 && !name.contains("LayerNorm");
        let numbers = kernels::AdamW {
            rate,
            beta1: args.beta1,
            beta2: args.beta2,
            epsilon: args.epsilon,
            decay: if decays { args.weight_decay } else { 0.0 },
            correction1: correction(args.beta1),
            correction2: correction(args.beta2),
            gradient_scale,
        };
        let missing = || OptimizerError::State {
            name: name.to_owned(),
            expected: variable.elem_count(),
            found: 0,
        };
        let moments = self.moments.get_mut(name).ok_or_else(missing)?;
        let mut values = variable.flatten_all()?.to_vec1::<f32>()?;
        let both = (moments.first.as_mut_slice(), moments.second.as_mut_slice());
        kernels::adamw(&mut values, both, gradient, numbers)?;
        let moved = Tensor::from_vec(values, variable.shape(), variable.device())?;
        Ok(variable.set(&moved)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use candle_core::Device;

    fn variables(numbers: &[f32]) -> BTreeMap<String, Var> {
        let tensor = Tensor::new(numbers, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        BTreeMap::from([("w".to_owned(), Var::from_tensor(&tensor).unwrap())])
    }

    fn values(variables: &BTreeMap<String, Var>) -> Vec<f32> {
        variables["w"].flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Gradient of sum(w^4) / 4.
    fn gradients(variables: &BTreeMap<String, Var>) -> GradStore {
        let w = variables["w"].as_tensor();
        (w.powf(4.0).unwrap() * 0.25).unwrap().sum_all().unwrap().backward().unwrap()
    }

    #[test]
    fn the_first_step_moves_by_the_rate_and_the_decay() {
        let args = OptimizerArgs { rate: 0.1, weight_decay: 0.5, ..Default::default() };
        let vars = variables(&[2.0, -1.0]);
        let report = Optimizer::new(args, &vars).step(&vars, &gradients(&vars)).unwrap();
        // |g| = sqrt(64 + 1); the first Adam step is sign(g) whatever the scale.
        assert!((report.gradient_norm - 65f64.sqrt()).abs() < 1e-5);
        for (value, expected) in values(&vars).iter().zip([2.0 - 0.1 - 0.1, -1.0 + 0.1 + 0.05]) {
            assert!((value - expected).abs() < 1e-4, "{value} against {expected}");
        }
    }

    #[test]
    fn a_resumed_run_has_the_same_bits_as_one_that_never_stopped() {
        let args = OptimizerArgs { warmup_steps: 2, total_steps: 8, ..Default::default() };
        let straight = variables(&[2.0, -1.0, 0.5]);
        let stopped = variables(&[2.0, -1.0, 0.5]);
        let mut one = Optimizer::new(args.clone(), &straight);
        let mut two = Optimizer::new(args.clone(), &stopped);
        for step in 0..8 {
            one.step(&straight, &gradients(&straight)).unwrap();
            if step == 4 {
                let state = two.state().unwrap();
                two = Optimizer::resume(args.clone(), &stopped, two.steps(), &state).unwrap();
            }
            two.step(&stopped, &gradients(&stopped)).unwrap();
        }
        assert_eq!(values(&straight), values(&stopped));
    }

    #[test]
    fn a_gradient_that_is_not_a_number_changes_nothing() {
        let vars = variables(&[f32::NAN, 1.0]);
        let mut optimizer = Optimizer::new(OptimizerArgs::default(), &vars);
        let error = optimizer.step(&vars, &gradients(&vars)).unwrap_err();
        assert!(matches!(error, OptimizerError::NotFinite { step: 1, .. }), "{error}");
        assert_eq!((values(&vars)[1], optimizer.steps()), (1.0, 0));
    }

    #[test]
    fn the_rate_rises_and_falls_in_lines() {
        let args =
            OptimizerArgs { rate: 1.0, warmup_steps: 4, total_steps: 8, ..Default::default() };
        let rates: Vec<f32> = (1..=9).map(|step| args.rate_at(step)).collect();
        let expected = [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-6, "{rates:?}");
        }
    }

    #[test]
    fn moments_of_another_model_are_refused_by_name() {
        let vars = variables(&[1.0, 2.0]);
        let other = Optimizer::new(OptimizerArgs::default(), &variables(&[1.0])).state().unwrap();
        let error = Optimizer::resume(OptimizerArgs::default(), &vars, 1, &other).unwrap_err();
        assert!(error.to_string().contains("`w.first_moment`: expected 2"), "{error}");
    }
}

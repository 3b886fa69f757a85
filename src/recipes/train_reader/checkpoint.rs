//! One file that holds a run: trained weights, moments, step, and whose run it is.
//!
//! Written beside its place and renamed, so that a crash leaves the last whole one.

use super::examples::Examples;
use super::{TrainReaderArgs, TrainReaderError};
use crate::policy::encoder::Weights;
use crate::policy::model_folder::{ModelFolderError, read_tensors, write_tensors};
use crate::policy::optimizer::{Optimizer, OptimizerArgs};
use actors::types::{Digest, PolicySnapshot};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

const FILE: &str = "checkpoint.safetensors";
const STEP: &str = "step";
const RUN: &str = "run";

/// Where a run is kept, and its fingerprint.
pub(super) struct Checkpoint {
    path: PathBuf,
    run: String,
}

impl Checkpoint {
    /// The place for a run over these examples from these weights with these settings.
    pub(super) fn of(args: &TrainReaderArgs, base: &Digest, examples: &Examples) -> Self {
        let mut identity = format!("{base} {:?}", args.settings).into_bytes();
        identity.extend(examples.fingerprint());
        let run = PolicySnapshot::digest_of(&identity).0;
        Self { path: args.out.join(FILE), run }
    }

    pub(super) fn save(
        &self,
        weights: &Weights,
        optimizer: &Optimizer,
    ) -> Result<(), TrainReaderError> {
        let mut tensors = optimizer.state()?;
        for (name, variable) in weights.variables() {
            tensors.insert(name.clone(), variable.as_detached_tensor());
        }
        let metadata = HashMap::from([
            (STEP.to_owned(), optimizer.steps().to_string()),
            (RUN.to_owned(), self.run.clone()),
        ]);
        Ok(write_tensors(&self.path, &tensors, metadata)?)
    }

    /// Removes the file: the run is done and its model written.
    pub(super) fn remove(&self) -> Result<(), TrainReaderError> {
        match std::fs::remove_file(&self.path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(ModelFolderError::Io { path: self.path.clone(), source }.into())
            }
            _ => Ok(()),
        }
    }

    /// Sets the weights to those saved and returns the optimizer, if there is a checkpoint.
    pub(super) fn restore(
        &self,
        weights: &Weights,
        args: &OptimizerArgs,
    ) -> Result<Option<Optimizer>, TrainReaderError> {
        if !self.path.is_file() {
            return Ok(None);
        }
        let (tensors, metadata) = read_tensors(&self.path)?;
        if metadata.get(RUN) != Some(&self.run) {
            return Err(TrainReaderError::OtherRun { path: self.path.clone() });
        }
        let step = metadata.get(STEP).and_then(|step| step.parse().ok());
        let step = step.ok_or_else(|| ModelFolderError::Malformed {
            path: self.path.clone(),
            reason: "it names no step".to_owned(),
        })?;
        self.restore_weights(weights, &tensors)?;
        Ok(Some(Optimizer::resume(args.clone(), weights.variables(), step, &tensors)?))
    }

    fn restore_weights(
        &self,
        weights: &Weights,
        tensors: &BTreeMap<String, candle_core::Tensor>,
    ) -> Result<(), TrainReaderError> {
        for (name, variable) in weights.variables() {
            let found = tensors.get(name).filter(|tensor| tensor.shape() == variable.shape());
            let Some(tensor) = found else {
                let reason = format!("missing; expected shape {:?}", variable.dims());
                let path = self.path.clone();
                return Err(ModelFolderError::Tensor { name: name.clone(), path, reason }.into());
            };
            variable.set(tensor)?;
        }
        Ok(())
    }
}

//! What promotion needs: who signs, what examines, and the canary questions.

use super::WiringError;
use crate::adapters::seal_ed25519::Ed25519Seal;
use crate::config::{Config, LogKind, Trainable};
use crate::evaluate::probes::{self, judges};
use crate::policy::reader::PairReader;
use crate::recipes::examiner::{Canaries, EncoderExaminer, ExaminerConfig};
use actors::ports::{Examiner, Generator, Judge, Seal};
use actors::service::ExaminerFactory;
use candle_core::Device;
use std::sync::Arc;
use tokio::runtime::Handle;

/// What signs certificates and knows whose count. A log in memory has a key in memory. A process that
/// only serves and trusts others' keys needs none of its own; one that trusts nobody shares the key
/// file of its folder, so that processes on one machine work together without a word.
///
/// # Errors
/// A key file that cannot be used, or a trusted key that is none.
pub fn seal(config: &Config) -> Result<Arc<dyn Seal>, WiringError> {
    Ok(Arc::new(signer(config)?))
}

/// The same, with its public key.
///
/// # Errors
/// As [`seal`].
pub fn signer(config: &Config) -> Result<Ed25519Seal, WiringError> {
    let certificates = &config.certificates;
    let learns = config.service.roles.learn;
    let seal = if config.log.kind == LogKind::Memory {
        Ed25519Seal::ephemeral(&certificates.trusted)
    } else if learns || certificates.key_file.exists() || certificates.trusted.is_empty() {
        Ed25519Seal::open(certificates)
    } else {
        Ed25519Seal::verifier(&certificates.trusted)
    };
    Ok(seal?)
}

/// Makes examiners of the policies that are served on this reader.
pub(super) fn examiner_factory(
    config: &Config,
    reader: &Arc<PairReader>,
    device: Device,
    canaries: Canaries,
) -> ExaminerFactory {
    let rules = ExaminerConfig {
        parity: config.service.promotion.parity,
        offline: config.service.promotion.offline,
        estimators: config.off_policy.clone(),
    };
    let has_trunk = config.policy.trainable == Trainable::Full;
    let reader = Arc::clone(reader);
    Arc::new(move || {
        let base = (Arc::clone(&reader), has_trunk);
        let (rules, canaries) = (rules.clone(), canaries.clone());
        Ok(Box::new(EncoderExaminer::new(base, device.clone(), rules, canaries)))
    })
}

/// The canary questions and judge probes of a configuration.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn canaries(
    config: &Config,
    generator: Arc<dyn Generator>,
    judge: Arc<dyn Judge>,
) -> Result<Canaries, WiringError> {
    let questions = match &config.probes.questions {
        Some(path) => probes::load(path).map_err(WiringError::Probes)?,
        None => Vec::new(),
    };
    let judged = match &config.probes.judge {
        Some(path) => judges::load(path).map_err(WiringError::Probes)?,
        None => Vec::new(),
    };
    let (limits, runtime) = (config.service.limits, Handle::current());
    Ok(Canaries { questions, judged, generator, judge, limits, runtime })
}

/// An examiner of this configuration's policies, for a command: it asks no canary questions.
///
/// # Errors
/// A model folder that cannot be loaded.
pub fn examiner(config: &Config) -> Result<Box<dyn Examiner>, WiringError> {
    let device = super::device(config.policy.device)?;
    let (reader, generator) = super::models(config, config.generator.reader.clone())?;
    let judge = super::llm::judges(config)?.served;
    let bare = Config { probes: crate::config::ProbesConfig::default(), ..config.clone() };
    let canaries = canaries(&bare, generator, judge)?;
    let made = examiner_factory(config, &reader, device, canaries)();
    made.map_err(|error| WiringError::Policy(error.to_string()))
}

//! A policy as samples see it: its head, and its states of each sample.
//!
//! Owns the rule when logged states may stand for a policy's own. Knows no loss.

use crate::policy::head::Head;
use crate::policy::reader::{PairReader, ReaderError};
use crate::policy::serving::PolicyWeights;
use actors::ports::LearnError;
use actors::types::{CandidateStates, Digest, Document, PolicyStamp, Sample};
use std::borrow::Cow;
use std::sync::Arc;

/// Where the states of a policy come from.
#[derive(Debug)]
pub enum StateSource {
    /// The log: one frozen trunk has made every state there is.
    Logged,
    /// The policy's own trunk, except for what the log has from this very policy.
    Own {
        /// The base, or the base with the policy's trunk.
        reader: Arc<PairReader>,
        /// Of the policy.
        digest: Digest,
    },
}

impl StateSource {
    /// The source for the policy of `weights`; with a `base` where trunks are trained.
    ///
    /// # Errors
    /// The trunk or the head was made for another encoder than `base`.
    pub fn new(
        base: Option<&Arc<PairReader>>,
        weights: &PolicyWeights,
        stamp: &PolicyStamp,
    ) -> Result<Self, LearnError> {
        let Some(base) = base else { return Ok(Self::Logged) };
        let refused = |reason: String| {
            let version = stamp.version;
            LearnError::Model(format!("policy {version} does not fit the model folder: {reason}"))
        };
        let (found, expected) = (weights.head.config().embedding, base.width());
        if found != expected {
            return Err(refused(format!("its head takes states {found} wide, not {expected}")));
        }
        let reader = match &weights.trunk {
            None => Arc::clone(base),
            Some(trunk) => {
                Arc::new(base.with_trunk(trunk).map_err(|error| refused(error.to_string()))?)
            }
        };
        Ok(Self::Own { reader, digest: stamp.digest.clone() })
    }
}

/// One policy in training or at the gate.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a> {
    /// Its head.
    pub head: &'a Head,
    /// Where its states come from.
    pub source: &'a StateSource,
}

impl Contender<'_> {
    /// Whether a trunk under training could read the sample's texts.
    pub(super) fn is_readable(&self, sample: &Sample) -> bool {
        match self.source {
            StateSource::Logged => true,
            StateSource::Own { reader, .. } => reader.check(&pairs(sample)).is_ok(),
        }
    }

    /// The policy's states of the candidates of `sample`, rounded as they are logged; `None` where
    /// the sample has none of the head's width or a text that cannot be read.
    ///
    /// A state read anew keeps the logged scalar features: they are the base reader's, and no
    /// trunk moves them.
    ///
    /// # Errors
    /// The encoder fails, or gives a state that is not finite.
    pub fn states<'a>(
        &self,
        sample: &'a Sample,
    ) -> Result<Option<Cow<'a, CandidateStates>>, LearnError> {
        let Some(decision) = &sample.episode.decision else { return Ok(None) };
        let (logged, sizes) = (&decision.states, self.head.config());
        let n = logged.rows();
        let fits = logged.width() == sizes.state_width() && sample.episode.candidates.len() == n;
        if !fits || n == 0 {
            return Ok(None);
        }
        let reader = match self.source {
            StateSource::Own { reader, digest } if *digest != decision.policy.digest => reader,
            StateSource::Own { .. } | StateSource::Logged => {
                return Ok(Some(Cow::Borrowed(logged)));
            }
        };
        let readings = match reader.read(&pairs(sample)) {
            Ok(readings) => readings,
            Err(
                ReaderError::QuestionTooLong { .. }
                | ReaderError::EmptyQuestion
                | ReaderError::Tokenizer(_),
            ) => return Ok(None),
            Err(error) => return Err(LearnError::Model(error.to_string())),
        };
        let mut values = Vec::with_capacity(logged.values().len());
        for (reading, row) in readings.iter().zip(logged.values().chunks(logged.width())) {
            values.extend_from_slice(&reading.cls);
            values.extend_from_slice(&row[sizes.embedding..]);
        }
        let states = CandidateStates::new(logged.width(), values)
            .map_err(|error| LearnError::Model(format!("cannot read candidates anew: {error}")))?;
        Ok(Some(Cow::Owned(states)))
    }
}

/// What an encoder reads of a sample: the query with each candidate.
pub(super) fn pairs(sample: &Sample) -> Vec<(&str, &Document)> {
    let query = sample.episode.query.text.as_str();
    sample.episode.candidates.iter().map(|c| (query, &c.document)).collect()
}

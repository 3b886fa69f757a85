//! Which encoder says what of a pair.
//!
//! The policy's own trunk gives the `[CLS]` state; everything else of a reading is the base
//! reader's, so that the scalar features of a pair do not move when the trunk is trained. Knows no
//! features and no head.

use crate::policy::reader::{PairReader, ReaderError, Reading};
use actors::types::Document;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads pairs for the policy.
pub(super) struct StateReader {
    /// The frozen model folder, shared with the generator so that a pair is encoded once.
    base: Arc<PairReader>,
    /// The trunk of the policy's own, if it has one.
    trunk: Option<PairReader>,
}

impl StateReader {
    /// `trunk`: the policy's trained tensors; `None` where the base is its trunk.
    pub(super) fn new(
        base: &Arc<PairReader>,
        trunk: Option<&BTreeMap<String, Tensor>>,
    ) -> Result<Self, ReaderError> {
        let trunk = trunk.map(|tensors| base.with_trunk(tensors)).transpose()?;
        Ok(Self { base: Arc::clone(base), trunk })
    }

    /// One reading a pair, in order.
    pub(super) fn read(
        &self,
        pairs: &[(&str, &Document)],
    ) -> Result<Vec<Arc<Reading>>, ReaderError> {
        let readings = self.base.read(pairs)?;
        let Some(trunk) = &self.trunk else { return Ok(readings) };
        let states = trunk.read(pairs)?;
        let both = readings.iter().zip(states);
        Ok(both.map(|(r, s)| Arc::new(Reading { cls: s.cls.clone(), ..(**r).clone() })).collect())
    }
}

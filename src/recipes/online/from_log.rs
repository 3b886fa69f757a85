//! The part of the online learner that learns from the log alone: what is trained and examined by
//! `recipes::logged`, with the champion, the settings and what is kept from one update to the next.

use super::OnlineLearner;
use crate::policy::serving::{self, PolicyWeights};
use crate::recipes::logged::{self, Kind, Recipe};
use actors::ports::{Batch, Examination, LearnError, LearnReport};
use actors::types::{PolicySnapshot, PolicyVersion, Sample};

impl OnlineLearner {
    /// Trains on logged decisions alone.
    pub(super) fn update_from_log(
        &mut self,
        kind: Kind,
        batch: &Batch,
        version: PolicyVersion,
    ) -> Result<(PolicySnapshot, LearnReport), LearnError> {
        if self.base.is_some() {
            return Err(LearnError::Model(
                "objectives that learn from the log train the head alone: set policy.trainable = \
                 \"head\""
                    .to_owned(),
            ));
        }
        let champion = &self.champion.weights;
        let (head, report, knowledge) =
            logged::update(&self.logged(kind, version), &champion.head, batch)?;
        let weights = PolicyWeights { head, ..champion.clone() };
        self.knowledge = Some(knowledge);
        let bytes = serving::to_bytes(&weights).map_err(LearnError::Model)?;
        let recipe = format!("online/{}", self.config.objective.name());
        let parent = Some(self.champion.stamp.version);
        Ok((PolicySnapshot::new(version, parent, recipe, bytes), report))
    }

    fn logged(&self, kind: Kind, version: PolicyVersion) -> Recipe<'_> {
        Recipe {
            config: &self.config.logged,
            kind,
            temperature: self.config.temperature,
            weight_decay: self.config.weight_decay,
            gradient_norm_max: self.config.gradient_norm_max,
            device: &self.device,
            seed: self.config.seed ^ version.0,
            before: self.knowledge.as_ref(),
        }
    }

    /// Examines a candidate on later decisions; `None` where nothing was learned from the log.
    pub(super) fn examine_on_log(
        &mut self,
        (candidate, version): (&PolicyWeights, PolicyVersion),
        holdout: &[Sample],
    ) -> Result<Option<Examination>, LearnError> {
        let (Some(kind), Some(knowledge)) = (self.config.objective.logged(), &self.knowledge)
        else {
            return Ok(None);
        };
        let recipe = self.logged(kind, version);
        let heads = (&self.champion.weights.head, &candidate.head);
        // Versions are counted on the log, so that no restart begins the spending of α anew.
        let look = version.0.saturating_sub(self.untold).max(1);
        let rules = (&self.config.gate, &recipe);
        let (found, is_taken) = logged::examine(rules, heads, holdout, knowledge, look)?;
        self.untold += u64::from(!is_taken);
        Ok(Some(found))
    }
}

//! What the learner and the recipes of papers may be set to.

use super::Check;
use crate::config::{Config, Trainable};
use crate::recipes::fit::RecipeError;

impl Check<'_> {
    pub(super) fn learner(&mut self, config: &Config) {
        if let Err((field, expected)) = config.learner.validate() {
            let key = format!("learner.{field}");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key], &format!("expected {expected}"), &remedy);
        }
        let key = "environment.parallel_answers_max";
        let is_right = (1..=1_024).contains(&config.environment.parallel_answers_max);
        self.require(is_right, &[key], "expected 1 to 1024", "change it, or leave it out");
        let papers = [
            ("dynamic_rag", config.dynamic_rag.validate()),
            ("rrpo", config.rrpo.validate()),
            ("grpo", config.grpo.validate()),
        ];
        for (section, found) in papers {
            let Err(RecipeError::Setting { setting, expected }) = found else { continue };
            let key = format!("{section}.{setting}");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key], &format!("expected {expected}"), &remedy);
        }
        if let Err((field, expected)) = config.smart_rag.validate() {
            let key = format!("smart_rag.{field}");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key], &format!("expected {expected}"), &remedy);
        }
        let is_full = config.policy.trainable == Trainable::Full;
        let objective = config.learner.objective;
        self.require(
            !is_full || objective.simulates(),
            &["policy.trainable"],
            &format!("expected \"head\" with `learner.objective = \"{}\"`", objective.name()),
            "set it to \"head\", or the objective to one that tries selections, such as \"rrpo\"",
        );
    }
}

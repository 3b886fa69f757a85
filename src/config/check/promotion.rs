//! What cannot be promoted by, and rules that nothing would read.

use super::Check;
use crate::config::{Config, JudgeKind};
use actors::rollout::{self, Path};

/// Sections of `service.promotion` that only the staged path reads.
const STAGES: [&str; 5] = ["parity", "offline", "shadow", "canary", "watch"];

impl Check<'_> {
    pub(super) fn promotion(&mut self, config: &Config) {
        if let Err((field, expected)) = config.off_policy.validate() {
            let key = format!("off_policy.{field}");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key], &format!("expected {expected}"), &remedy);
        }
        let rules = &config.service.promotion;
        if rules.path == Path::HeldOut {
            let all = serde_json::to_value(rules).unwrap_or_default();
            let usual = serde_json::to_value(rollout::Config::default()).unwrap_or_default();
            let why = "`service.promotion.path = \"held_out\"` has no such stage";
            for section in STAGES {
                let keys = all[section].as_object();
                for (key, value) in keys.into_iter().flatten() {
                    let differs = usual[section][key] != *value;
                    self.idle_if(differs, &format!("service.promotion.{section}.{key}"), why);
                }
            }
        }
        let has_questions = config.probes.questions.is_some();
        if has_questions && config.judge.kind != JudgeKind::Llm {
            let why = "canary questions are judged without their gold answers, which a judge by \
                       references cannot; it needs `judge.kind = \"llm\"`";
            self.idle_if(true, "probes.questions", why);
        }
        let budget = &config.service.exploration_budget;
        if rules.path == Path::HeldOut && budget.widened.is_some() {
            let why = "no alarm widens exploration with `service.promotion.path = \"held_out\"`";
            self.idle("service.exploration_budget.widened", why);
        }
    }
}

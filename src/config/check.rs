//! The bounds of every setting, and the settings that would have no effect.
//!
//! What types cannot say. A finding points at the setting that somebody wrote, so a bound between
//! two settings points at the one laid on last.

use super::error::Problem;
use super::layers::{Table, find};
use super::source::Origins;
use super::{Config, Device, Placement};
use actors::types::Exploration;

/// Everything that is wrong with a decoded configuration, in the order of its sections.
pub(super) fn findings(config: &Config, origins: &Origins, merged: &Table<'_>) -> Vec<Problem> {
    let mut check = Check { origins, merged, problems: Vec::new() };
    check.server(config);
    check.service(config);
    check.stores(config);
    check.models(config);
    check.learning(config);
    check.problems
}

struct Check<'a> {
    origins: &'a Origins,
    merged: &'a Table<'a>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn server(&mut self, config: &Config) {
        let server = &config.server;
        self.positive("server.max_body_bytes", server.max_body_bytes as f64);
        self.positive("server.max_query_chars", server.max_query_chars as f64);
        self.positive("server.max_documents", server.max_documents as f64);
        self.positive("server.request_deadline_ms", server.request_deadline_ms as f64);
        self.positive("server.drain_deadline_ms", server.drain_deadline_ms as f64);
        self.require(
            server.max_query_chars <= server.max_body_bytes,
            &["server.max_query_chars", "server.max_body_bytes"],
            &format!(
                "a query of {} characters does not fit a body of {} bytes",
                server.max_query_chars, server.max_body_bytes
            ),
            "raise `server.max_body_bytes` or lower `server.max_query_chars`",
        );
    }

    fn service(&mut self, config: &Config) {
        let service = &config.service;
        self.positive("service.queue_capacity", service.queue_capacity as f64);
        self.positive("service.retrieve", service.retrieve as f64);
        self.positive("service.batch_max", service.batch_max as f64);
        self.positive("service.limits.k_max", f64::from(service.limits.k_max));
        self.positive("service.limits.token_budget", f64::from(service.limits.token_budget));
        self.positive("service.join_window_ms", service.join_window_ms as f64);
        self.require(
            service.limits.k_min <= service.limits.k_max,
            &["service.limits.k_min", "service.limits.k_max"],
            &format!(
                "k_min = {} is above k_max = {}: no selection is possible",
                service.limits.k_min, service.limits.k_max
            ),
            "make `service.limits.k_min` at most `service.limits.k_max`",
        );
        if let Exploration::Sample { temperature, epsilon } = service.exploration {
            self.positive("service.exploration.temperature", temperature);
            self.within("service.exploration.epsilon", epsilon, 0.0, 1.0);
        }
    }

    fn stores(&mut self, config: &Config) {
        self.require(
            config.index.k1.is_finite() && config.index.k1 >= 0.0,
            &["index.k1"],
            "expected a number ≥ 0",
            "0.9 suits short passages, 1.2 longer ones",
        );
        self.within("index.b", config.index.b, 0.0, 1.0);
        self.positive("log.retention_hours", config.log.retention_hours as f64);
        self.filled("snapshots.url", &config.snapshots.url);
        if config.index.kind == Placement::Memory {
            self.idle("index.folder", "`index.kind = \"memory\"` keeps nothing on disk");
        } else {
            self.filled("index.folder", &config.index.folder.to_string_lossy());
        }
        if config.log.kind == Placement::Memory {
            self.idle("log.folder", "`log.kind = \"memory\"` keeps nothing on disk");
            self.idle("log.retention_hours", "`log.kind = \"memory\"` ends with the process");
        } else {
            self.filled("log.folder", &config.log.folder.to_string_lossy());
        }
    }

    fn models(&mut self, config: &Config) {
        self.filled("generator.model", &config.generator.model.to_string_lossy());
        self.filled("policy.model", &config.policy.model.to_string_lossy());
        self.finite("generator.no_answer_threshold", config.generator.no_answer_threshold);
        let judge = &config.judge;
        for (key, weight) in [
            ("judge.token_f1", judge.token_f1),
            ("judge.exact_match", judge.exact_match),
            ("judge.feedback", judge.feedback),
            ("judge.context_cost", judge.context_cost),
        ] {
            self.require(
                weight.is_finite() && weight >= 0.0,
                &[key],
                "expected a number ≥ 0",
                "costs are subtracted: write them as positive numbers",
            );
        }
        self.require(
            judge.token_f1 + judge.exact_match + judge.feedback > 0.0,
            &["judge.token_f1", "judge.exact_match", "judge.feedback"],
            "every quality weight is 0: all answers would be worth the same",
            "give one of `judge.token_f1`, `judge.exact_match`, `judge.feedback` a weight above 0",
        );
        self.require(
            config.policy.device != Device::Cuda || cfg!(feature = "cuda"),
            &["policy.device"],
            "this build has no CUDA",
            "build with `--features cuda`, or use \"auto\" or \"cpu\"",
        );
    }

    fn learning(&mut self, config: &Config) {
        let learner = &config.learner;
        if learner.enabled {
            self.positive("learner.interval_ms", learner.interval_ms as f64);
            self.positive("learner.min_new_rewards", learner.min_new_rewards as f64);
            self.positive("learner.batch_max", learner.batch_max as f64);
        } else {
            for key in ["interval_ms", "min_new_rewards", "batch_max", "online"] {
                self.idle(&format!("learner.{key}"), "`learner.enabled = false`");
            }
        }
        let replay = &config.replay;
        self.positive("replay.capacity", replay.capacity as f64);
        self.require(
            replay.holdout_share > 0.0 && replay.holdout_share < 1.0,
            &["replay.holdout_share"],
            "expected a number above 0 and below 1",
            "0.2 keeps every fifth query for the gate",
        );
    }

    fn positive(&mut self, key: &str, value: f64) {
        self.require(
            value.is_finite() && value > 0.0,
            &[key],
            "expected a number above 0",
            &format!("give `{key}` a value above 0, or leave it out for the default"),
        );
    }

    fn finite(&mut self, key: &str, value: f64) {
        let remedy = format!("give `{key}` a finite number");
        self.require(value.is_finite(), &[key], "expected a finite number", &remedy);
    }

    fn within(&mut self, key: &str, value: f64, low: f64, high: f64) {
        self.require(
            (low..=high).contains(&value),
            &[key],
            &format!("expected a number from {low} to {high}"),
            &format!("give `{key}` a value from {low} to {high}"),
        );
    }

    fn filled(&mut self, key: &str, value: &str) {
        let remedy = format!("give `{key}` a value, or leave it out for the default");
        self.require(!value.trim().is_empty(), &[key], "is empty", &remedy);
    }

    /// The key must not have been given: nothing would read it.
    fn idle(&mut self, key: &str, why: &str) {
        let given = find(self.merged, key)
            .is_some_and(|(_, value)| self.origins.is_given(&value.span()));
        let message = format!("has no effect: {why}");
        self.require(!given, &[key], &message, &format!("remove `{key}`"));
    }

    fn require(&mut self, holds: bool, keys: &[&str], message: &str, remedy: &str) {
        if holds {
            return;
        }
        let set = keys
            .iter()
            .filter_map(|key| Some((*key, find(self.merged, key)?.1.span())))
            .max_by_key(|(_, span)| span.start);
        let (key, span) = set.unwrap_or((keys.first().copied().unwrap_or_default(), 0..0));
        self.problems.push(Problem {
            place: self.origins.place(&span),
            message: format!("`{key}`: {message}"),
            remedy: remedy.to_owned(),
        });
    }
}

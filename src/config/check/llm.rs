//! The bounds of the sections about endpoints, and which of them would have no effect.

use super::Check;
use crate::config::{Config, FallbackKind, GeneratorKind, JudgeKind, RewriteKind};

type Verdict = Result<(), (String, String)>;

impl Check<'_> {
    pub(super) fn endpoints(&mut self, config: &Config) {
        self.generator_endpoint(config);
        self.judge_endpoint(config);
        self.rewrite_endpoint(config);
    }

    fn generator_endpoint(&mut self, config: &Config) {
        let generator = &config.generator;
        if generator.kind != GeneratorKind::Http {
            let why = "`generator.kind = \"reader\"` asks no endpoint";
            self.idle("generator.http", why);
            self.idle("generator.fallback", why);
            return;
        }
        let checked = generator.http.as_ref().map(|http| http.validate());
        self.section("generator.kind", "generator.http", checked);
        let Some(fallback) = &generator.fallback else {
            let why = "`generator.kind = \"http\"` without a fall-back loads no reader to answer";
            self.idle("generator.model", why);
            self.idle("generator.limits", why);
            return;
        };
        let deadline_ms = config.service.generator.deadline_ms;
        self.require(
            fallback.after_ms > 0 && fallback.after_ms < deadline_ms,
            &["generator.fallback.after_ms", "service.generator.deadline_ms"],
            &format!(
                "expected a number above 0, below `service.generator.deadline_ms` {deadline_ms}"
            ),
            "leave the second generator some of the deadline",
        );
        if fallback.kind == FallbackKind::Reader {
            let why = "`generator.fallback.kind = \"reader\"` asks no endpoint";
            self.idle("generator.fallback.endpoint", why);
            return;
        }
        let why = "`generator.fallback.kind = \"endpoint\"` loads no reader to answer";
        self.idle("generator.model", why);
        self.idle("generator.limits", why);
        let checked = fallback.endpoint.as_ref().map(|endpoint| {
            endpoint.validate().map_err(|(field, expected)| (field.to_owned(), expected))
        });
        self.section("generator.fallback.kind", "generator.fallback.endpoint", checked);
    }

    fn judge_endpoint(&mut self, config: &Config) {
        let (judge, weight) = (&config.judge, config.judge.weights.judge);
        if judge.kind != JudgeKind::Llm {
            self.idle("judge.llm", "`judge.kind = \"reference\"` asks no model");
            self.require(
                weight == 0.0,
                &["judge.weights.judge"],
                "has no effect: `judge.kind = \"reference\"` asks no model",
                "remove `judge.weights.judge`, or set `judge.kind = \"llm\"`",
            );
            return;
        }
        self.section("judge.kind", "judge.llm", judge.llm.as_ref().map(|llm| llm.validate()));
        self.require(
            weight > 0.0,
            &["judge.weights.judge", "judge.kind"],
            "expected a number above 0: the model would have no say",
            "give `judge.weights.judge` a value, such as 1.0",
        );
        let deadline_ms = config.service.judge.deadline_ms;
        let own = judge.llm.as_ref().map_or(0, |llm| llm.endpoint.deadline_ms);
        self.require(
            own < deadline_ms,
            &["judge.llm.endpoint.deadline_ms", "service.judge.deadline_ms"],
            &format!("{own} is not below `service.judge.deadline_ms` {deadline_ms}"),
            "a judgement cut off from outside is charged to the budget at the most it may cost",
        );
    }

    fn rewrite_endpoint(&mut self, config: &Config) {
        let rewrite = &config.rewrite;
        if rewrite.kind == RewriteKind::None {
            self.idle("rewrite.llm", "`rewrite.kind = \"none\"` asks no model");
            return;
        }
        let checked = rewrite.llm.as_ref().map(|llm| llm.validate());
        self.section("rewrite.kind", "rewrite.llm", checked);
    }

    /// A section that a kind needs: it must be there, and its values in bounds.
    fn section(&mut self, kind: &str, section: &str, checked: Option<Verdict>) {
        match checked {
            Some(Ok(())) => {}
            Some(Err((field, expected))) => {
                let key = format!("{section}.{field}");
                let remedy = format!("change `{key}`, or leave it out for the default");
                self.require(false, &[&key], &format!("expected {expected}"), &remedy);
            }
            None => {
                let message = format!("needs the section `[{section}]`");
                let remedy = format!("add `[{section}]`: it names the server and the model");
                self.require(false, &[kind], &message, &remedy);
            }
        }
    }
}

//! The bounds of every setting, and the settings that would have no effect.
//!
//! What types cannot say. A finding points at the setting that somebody wrote, so a bound between
//! two settings points at the one laid on last.

mod generator;
mod learner;
mod llm;
mod promotion;

use super::error::Problem;
use super::layers::{Table, find};
use super::source::Origins;
use super::{Config, Device, EmbedderKind, IndexConfig, IndexKind, LogKind};
use crate::adapters::log_embedded::EmbeddedLogConfig;
use crate::adapters::log_kafka::KafkaLogConfig;
use crate::adapters::snapshots_object::{self, PlaceError};
use crate::rewards::BlendError;
use tracing_subscriber::EnvFilter;

/// Everything that is wrong with a decoded configuration, in the order of its sections.
pub(super) fn findings(config: &Config, origins: &Origins, merged: &Table<'_>) -> Vec<Problem> {
    let mut check = Check { origins, merged, problems: Vec::new() };
    check.server(config);
    check.service(config);
    check.stores(config);
    check.embedder(config);
    check.models(config);
    check.endpoints(config);
    check.answers(config);
    check.learner(config);
    check.promotion(config);
    check.telemetry(config);
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

    /// The service knows its own bounds; its sentence is `field: what it may be`.
    fn service(&mut self, config: &Config) {
        if let Err(sentence) = config.service.validate() {
            let (field, message) = sentence.split_once(": ").unwrap_or(("", &sentence));
            let key = format!("service.{field}");
            // A bound between two settings may point at the one that was not given.
            let other = key.replace(".k_min", ".k_max").replace("backoff_max_ms", "backoff_ms");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key, &other], message, &remedy);
        }
    }

    fn stores(&mut self, config: &Config) {
        let limits = &config.log.limits;
        for (key, value) in [
            ("record_bytes_max", limits.record_bytes_max),
            ("write_queue_max", limits.write_queue_max),
            ("write_batch_max", limits.write_batch_max),
            ("poll_bytes_max", limits.poll_bytes_max),
        ] {
            self.positive(&format!("log.limits.{key}"), value as f64);
        }
        let search = &config.index.search;
        self.within("index.search.b", search.b, 0.0, 1.0);
        self.within("index.search.common_term_share", search.common_term_share, 0.0, 1.0);
        self.positive("index.search.query_terms_max", search.query_terms_max as f64);
        self.positive("index.search.candidates_max", search.candidates_max as f64);
        self.require(
            search.k1.is_finite() && search.k1 >= 0.0,
            &["index.search.k1"],
            "expected a number ≥ 0",
            "0.9 suits short passages, 1.2 longer ones",
        );
        self.require(
            search.writer_memory_bytes >= 15_000_000,
            &["index.search.writer_memory_bytes"],
            "expected at least 15000000",
            "give it 15 MB or more, or leave it out for the default",
        );
        self.snapshots(config);
        self.index(config);
        self.log(config);
    }

    fn log(&mut self, config: &Config) {
        let kind = config.log.kind;
        if kind == LogKind::Memory {
            self.idle("log.folder", "`log.kind = \"memory\"` keeps nothing on disk");
        } else {
            self.filled("log.folder", &config.log.folder.to_string_lossy());
        }
        if kind != LogKind::Kafka {
            let differs = config.log.kafka != KafkaLogConfig::default();
            return self.idle_if(differs, "log.kafka", "`log.kind` is not \"kafka\"");
        }
        let differs = config.log.limits != EmbeddedLogConfig::default();
        let why = "with `log.kind = \"kafka\"` the topics have limits of their own";
        self.idle_if(differs, "log.limits", why);
        self.idle("service.seed", "processes that share a log would draw the same ids");
        if let Err(sentence) = config.log.kafka.validate() {
            let (field, message) = sentence.split_once(": ").unwrap_or(("", &sentence));
            let key = format!("log.kafka.{field}");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key], message, &remedy);
        }
    }

    fn snapshots(&mut self, config: &Config) {
        let snapshots = &config.snapshots;
        self.filled("snapshots.url", &snapshots.url);
        if let Err((field, expected)) = snapshots.limits.validate() {
            let key = format!("snapshots.limits.{field}");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key], &format!("expected {expected}"), &remedy);
        }
        let Err(error) = snapshots_object::check(&snapshots.url, &snapshots.options) else {
            return;
        };
        let message = error.to_string();
        let (key, remedy) = match &error {
            PlaceError::Secret { key, .. } if key == "url" => {
                ("snapshots.url".to_owned(), "give the bare URL here")
            }
            PlaceError::Secret { key, .. } => {
                (format!("snapshots.options.{key}"), "remove it here")
            }
            PlaceError::Option { key, .. } => {
                (format!("snapshots.options.{key}"), "remove it, or correct its name")
            }
            _ => ("snapshots.url".to_owned(), "correct the URL"),
        };
        self.require(false, &[&key], &message, remedy);
        if let (PlaceError::Secret { .. }, Some(problem)) = (&error, self.problems.last_mut()) {
            // The line is shown without what must not be shown.
            let place = &mut problem.place;
            place.text = place.text.chars().take(place.column.saturating_sub(1)).collect();
            place.text.push('…');
            place.width = 1;
        }
    }

    /// Each kind of index has settings of its own; those of another would do nothing.
    fn index(&mut self, config: &Config) {
        let (index, defaults) = (&config.index, IndexConfig::default());
        let has_folder = index.folder != defaults.folder;
        let has_search = index.search != defaults.search;
        let has_server = index.qdrant != defaults.qdrant;
        let server = "only `index.kind = \"qdrant\"` asks a server";
        match index.kind {
            IndexKind::Memory => {
                let why = "`index.kind = \"memory\"` keeps nothing on disk";
                self.idle_if(has_folder, "index.folder", why);
                self.idle_if(has_server, "index.qdrant", server);
            }
            IndexKind::Embedded => {
                self.filled("index.folder", &index.folder.to_string_lossy());
                self.idle_if(has_server, "index.qdrant", server);
            }
            IndexKind::Qdrant => {
                let why = "`index.kind = \"qdrant\"` has its settings in `index.qdrant`";
                self.filled("index.folder", &index.folder.to_string_lossy());
                self.idle_if(has_search, "index.search", why);
                self.qdrant(config);
            }
        }
    }

    fn qdrant(&mut self, config: &Config) {
        let qdrant = &config.index.qdrant;
        if let Err((field, expected)) = qdrant.validate() {
            let key = format!("index.qdrant.{field}");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key], &format!("expected {expected}"), &remedy);
        }
        let (search, retriever) = (qdrant.search_deadline_ms, config.service.retriever.deadline_ms);
        self.require(
            search < retriever,
            &["index.qdrant.search_deadline_ms", "service.retriever.deadline_ms"],
            &format!(
                "a search may take {search} ms, but is cut off after {retriever} ms without a reason"
            ),
            "raise `service.retriever.deadline_ms`, or lower `index.qdrant.search_deadline_ms`",
        );
    }

    fn embedder(&mut self, config: &Config) {
        let embedder = &config.index.embedder;
        let unused: &[(&str, &str)] = match embedder.kind {
            EmbedderKind::None => &[
                ("index.embedder.local", "`index.embedder.kind = \"none\"` embeds nothing"),
                ("index.embedder.http", "`index.embedder.kind = \"none\"` embeds nothing"),
                ("index.dense", "there are no vectors without `index.embedder`"),
            ],
            EmbedderKind::Local => {
                &[("index.embedder.http", "`index.embedder.kind = \"local\"` asks no server")]
            }
            EmbedderKind::Http => {
                &[("index.embedder.local", "`index.embedder.kind = \"http\"` loads no model")]
            }
        };
        for (key, why) in unused {
            self.idle(key, why);
        }
        let checked = match embedder.kind {
            EmbedderKind::None => Ok(()),
            EmbedderKind::Local => embedder.local.validate().map_err(|e| ("local", e)),
            EmbedderKind::Http => embedder.http.validate().map_err(|e| ("http", e)),
        };
        if let Err((kind, (field, expected))) = checked {
            let key = format!("index.embedder.{kind}.{field}");
            let remedy = format!("set `{key}`");
            // A setting that is missing has the kind that asks for it to point at.
            let keys = [key.as_str(), "index.embedder.kind"];
            self.require(false, &keys, &format!("expected {expected}"), &remedy);
        }
        if let Err((field, expected)) = config.index.dense.validate() {
            let key = format!("index.dense.{field}");
            let remedy = format!("change `{key}`, or leave it out for the default");
            self.require(false, &[&key], &format!("expected {expected}"), &remedy);
        }
    }

    fn models(&mut self, config: &Config) {
        self.filled("generator.model", &config.generator.model.to_string_lossy());
        self.filled("policy.model", &config.policy.model.to_string_lossy());
        let limits = &config.generator.limits;
        self.positive("generator.limits.documents_max", limits.documents_max as f64);
        if let Some(threshold) = limits.no_answer_threshold {
            self.finite("generator.limits.no_answer_threshold", f64::from(threshold));
        }
        let reader = &config.generator.reader;
        for (key, value) in [
            ("max_tokens", reader.max_tokens),
            ("max_question_tokens", reader.max_question_tokens),
            ("max_question_bytes", reader.max_question_bytes),
            ("batch_tokens", reader.batch_tokens),
        ] {
            self.positive(&format!("generator.reader.{key}"), value as f64);
        }
        if let Err(error) = config.judge.weights.check() {
            let (key, remedy) = match &error {
                BlendError::Weight { term, .. } => (
                    format!("judge.weights.{term}"),
                    "qualities have weights ≥ 0, costs weights ≤ 0",
                ),
                BlendError::NoCorrectness => (
                    "judge.weights.token_f1".to_owned(),
                    "all answers would be worth the same: give one of them a weight",
                ),
                BlendError::NoBound(bound) => (
                    format!("judge.weights.{bound}"),
                    "all costs would be the same: raise it to what a selection may take",
                ),
            };
            self.require(false, &[&key], &error.to_string(), remedy);
        }
        self.costs(config);
        self.require(
            config.policy.device != Device::Cuda || cfg!(feature = "cuda"),
            &["policy.device"],
            "this build has no CUDA",
            "build with `--features cuda`, or use \"auto\" or \"cpu\"",
        );
    }

    /// A cost beyond its bound would count as the bound, and the reward no longer tell contexts
    /// apart.
    fn costs(&mut self, config: &Config) {
        let (weights, limits) = (&config.judge.weights, &config.service.limits);
        let (bound, budget) = (weights.context_tokens_max, limits.token_budget);
        self.require(
            weights.context_cost == 0.0 || bound >= budget,
            &["judge.weights.context_tokens_max", "service.limits.token_budget"],
            &format!(
                "costs are counted up to {bound} context tokens, a selection may take {budget}"
            ),
            &format!("set `judge.weights.context_tokens_max` to at least {budget}"),
        );
        let (bound, most) = (weights.documents_max, limits.k_max);
        self.require(
            weights.document_cost == 0.0 || bound >= most,
            &["judge.weights.documents_max", "service.limits.k_max"],
            &format!("costs are counted up to {bound} documents, a selection may take {most}"),
            &format!("set `judge.weights.documents_max` to at least {most}"),
        );
    }

    fn telemetry(&mut self, config: &Config) {
        if let Err(error) = EnvFilter::builder().parse(&config.telemetry.filter) {
            let remedy = "write a level, or modules with levels, as in `warn,regrade=debug`";
            self.require(false, &["telemetry.filter"], &error.to_string(), remedy);
        }
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

    /// The same for a value that differs from its default: a default does no harm, and the resolved
    /// configuration names every setting.
    fn idle_if(&mut self, differs: bool, key: &str, why: &str) {
        if differs {
            self.idle(key, why);
        }
    }

    /// The key must not have been given: nothing would read it.
    fn idle(&mut self, key: &str, why: &str) {
        let given =
            find(self.merged, key).is_some_and(|(_, value)| self.origins.is_given(&value.span()));
        let message = format!("has no effect: {why}");
        self.require(!given, &[key], &message, &format!("remove `{key}`"));
    }

    fn require(&mut self, holds: bool, keys: &[&str], message: &str, remedy: &str) {
        if holds {
            return;
        }
        let key = keys.first().copied().unwrap_or_default();
        let spans = keys.iter().filter_map(|key| Some(find(self.merged, key)?.1.span()));
        let span = spans.max_by_key(|span| span.start).unwrap_or(0..0);
        self.problems.push(Problem {
            place: self.origins.place(&span),
            message: format!("`{key}`: {message}"),
            remedy: remedy.to_owned(),
        });
    }
}

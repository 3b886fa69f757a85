//! The configuration: one [`Config`] of sections, and how it is put together.
//!
//! Owns the order (built-in defaults < TOML files left to right < `REGRADE__SECTION__KEY` < flags),
//! the checks, and errors that point at the very place a value was set. Knows no adapter: `wiring.rs`
//! turns a section into a port.

mod check;
mod error;
mod layers;
mod llm;
mod sections;
mod source;

pub use crate::adapters::environment::EnvironmentConfig;
pub use crate::adapters::seal_ed25519::CertificatesConfig;
pub use crate::evaluate::off_policy::OffPolicyConfig;
pub use crate::recipes::dynamic_rag::DynamicRagConfig;
pub use crate::recipes::grpo::GrpoConfig;
pub use crate::recipes::online::OnlineConfig;
pub use crate::recipes::rrpo::RrpoConfig;
pub use crate::recipes::smart_rag::SmartRagConfig;
pub use error::{ConfigError, Place, Problem};
pub use layers::{ENV_PREFIX, Layers};
pub use llm::{FallbackConfig, FallbackKind, RewriteConfig, RewriteKind};
pub use sections::{
    Device, EmbedderConfig, EmbedderKind, GeneratorConfig, GeneratorKind, IndexConfig, IndexKind,
    JudgeConfig, JudgeKind, LogConfig, LogKind, PolicyConfig, ProbesConfig, ServerConfig,
    SnapshotsConfig, TelemetryConfig, TelemetryFormat, Trainable,
};

use actors::service::ServiceConfig;
use actors::types::{Digest, PolicySnapshot};
use serde::{Deserialize, Serialize};
use source::Origins;

/// Everything a service is told before it starts. `Config::default()` starts one without any file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The HTTP door.
    pub server: ServerConfig,
    /// The actors: roles, queues, deadlines, limits of a selection.
    pub service: ServiceConfig,
    /// Where passages are found.
    pub index: IndexConfig,
    /// Where events are kept.
    pub log: LogConfig,
    /// Where policy weights are kept.
    pub snapshots: SnapshotsConfig,
    /// What answers.
    pub generator: GeneratorConfig,
    /// What turns answers into rewards.
    pub judge: JudgeConfig,
    /// What to search with besides the query as asked.
    pub rewrite: RewriteConfig,
    /// What selects documents.
    pub policy: PolicyConfig,
    /// How the policy learns: loss, step size, trust region. When it learns and what it remembers
    /// are in `service.learner` and `service.replay_buffer`.
    pub learner: OnlineConfig,
    /// How what the learner tries is asked for, and what is kept of it.
    pub environment: EnvironmentConfig,
    /// Who signs certificates, and whose signatures count. The rules of promotion are in
    /// `service.promotion`, the detectors of drift in `service.drift`.
    pub certificates: CertificatesConfig,
    /// Off-policy estimates: of `regrade ope` and of the stage `offline` of a promotion.
    pub off_policy: OffPolicyConfig,
    /// Canary questions and judge probes.
    pub probes: ProbesConfig,
    /// The recipe `dynamic_rag` of `regrade train`; a service does not read it.
    pub dynamic_rag: DynamicRagConfig,
    /// The recipe `rrpo` of `regrade train`; a service does not read it.
    pub rrpo: RrpoConfig,
    /// The recipe `grpo` of `regrade train`, with the settings of RRPO; a service does not read it.
    pub grpo: GrpoConfig,
    /// The recipe `smart_rag` of `regrade train`; a service does not read it.
    pub smart_rag: SmartRagConfig,
    /// Logs and metrics.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads the files, lays environment and flags over them, and checks the result.
    ///
    /// # Errors
    /// Every [`ConfigError`] names the file, line and column (or the variable, or the flag) that is
    /// at fault, shows it, and says what to write instead.
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        Self::default().overlaid(layers)
    }

    /// The same over this configuration instead of the built-in defaults.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn overlaid(&self, layers: &Layers) -> Result<Self, ConfigError> {
        let defaults = self.to_toml()?;
        let origins = layers.read(&defaults)?;
        let merged = layers::merge(&origins)?;
        let config = decode(&origins, &merged)?;
        let findings = check::findings(&config, &origins, &merged);
        if findings.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(findings)) }
    }

    /// The resolved configuration as TOML: what `--dry-run` prints. Loading it again gives the same.
    ///
    /// # Errors
    /// A path that is not UTF-8 has no TOML form.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|source| ConfigError::Unprintable { source })
    }

    /// SHA-256 of the resolved TOML: equal configurations have equal digests, whatever file,
    /// variable or flag each value came from.
    ///
    /// # Errors
    /// As [`Config::to_toml`].
    pub fn digest(&self) -> Result<Digest, ConfigError> {
        Ok(PolicySnapshot::digest_of(self.to_toml()?.as_bytes()))
    }
}

fn decode(origins: &Origins, merged: &layers::Table<'_>) -> Result<Config, ConfigError> {
    let root = toml::Spanned::new(0..0, merged.clone());
    Config::deserialize(toml::de::Deserializer::from(root)).map_err(|e| {
        ConfigError::Invalid(vec![error::explain(origins, merged, e.message(), e.span())])
    })
}

//! The sections this package owns: plain data with defaults. Bounds are in `check.rs`.
//!
//! Every default starts a service that needs nothing outside the process.

use crate::adapters::embedder_http::HttpEmbedderConfig;
use crate::adapters::embedder_local::LocalEmbedderConfig;
use crate::adapters::generator_reader::ReaderGeneratorConfig;
use crate::adapters::index_embedded::{DenseConfig, EmbeddedIndexConfig};
use crate::adapters::log_embedded::EmbeddedLogConfig;
use crate::policy::reader::ReaderArgs;
use crate::rewards::Blend;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// `[server]`: the HTTP door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port to listen on; port 0 takes a free one. Loopback unless told otherwise:
    /// there is no authentication.
    pub bind: SocketAddr,
    /// Largest request body, bytes; larger is answered 413.
    pub max_body_bytes: usize,
    /// Longest query, characters; longer is answered 413.
    pub max_query_chars: usize,
    /// Most documents in one request; more is answered 413.
    pub max_documents: usize,
    /// Time for one request, milliseconds; then it is answered 504.
    pub request_deadline_ms: u64,
    /// Time for requests under way when the service is told to stop, milliseconds.
    pub drain_deadline_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 8787)),
            max_body_bytes: 4 << 20,
            max_query_chars: 8_192,
            max_documents: 1_000,
            request_deadline_ms: 10_000,
            drain_deadline_ms: 15_000,
        }
    }
}

/// Where an embedded store keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// In a folder, durable.
    #[default]
    Embedded,
    /// In memory, gone with the process.
    Memory,
}

/// `[index]`: where passages are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexConfig {
    /// Which index.
    pub kind: Placement,
    /// Folder of the embedded index; `memory` has none.
    pub folder: PathBuf,
    /// How text is matched, and how much of a query and of a list is taken.
    pub search: EmbeddedIndexConfig,
    /// How dense vectors are searched and fused with terms; only with an embedder.
    #[serde(skip_serializing_if = "is_default")]
    pub dense: DenseConfig,
    /// What makes dense vectors, if anything.
    pub embedder: EmbedderConfig,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            kind: Placement::Embedded,
            folder: ".regrade/index".into(),
            search: EmbeddedIndexConfig::default(),
            dense: DenseConfig::default(),
            embedder: EmbedderConfig::default(),
        }
    }
}

/// Which embedder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedderKind {
    /// None: terms alone are searched.
    #[default]
    None,
    /// A sentence encoder in this process.
    Local,
    /// A server with an OpenAI-compatible interface.
    Http,
}

/// `[index.embedder]`: what makes dense vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbedderConfig {
    /// Which embedder.
    pub kind: EmbedderKind,
    /// Of `local`: model folder and sizes.
    #[serde(skip_serializing_if = "is_default")]
    pub local: LocalEmbedderConfig,
    /// Of `http`: server, model and patience.
    #[serde(skip_serializing_if = "is_default")]
    pub http: HttpEmbedderConfig,
}

/// What has no effect in some configurations is written only where somebody changed it, so that a
/// resolved file loads again.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `[log]`: where events are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Which log.
    pub kind: Placement,
    /// Folder of the embedded log; `memory` has none.
    pub folder: PathBuf,
    /// Sizes, retention and start-up checks of either kind.
    pub limits: EmbeddedLogConfig,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            kind: Placement::Embedded,
            folder: ".regrade/log".into(),
            limits: EmbeddedLogConfig::default(),
        }
    }
}

/// `[snapshots]`: where policy weights are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotsConfig {
    /// A folder, a `file://` URL, or `memory:` for one that ends with the process.
    pub url: String,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self { url: ".regrade/policies".to_owned() }
    }
}

/// Which generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratorKind {
    /// The small extractive reader, in this process.
    #[default]
    Reader,
}

/// `[generator]`: what answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorConfig {
    /// Which generator.
    pub kind: GeneratorKind,
    /// Folder with `config.json`, `tokenizer.json` and `model.safetensors` of the reader.
    pub model: PathBuf,
    /// When to answer nothing, and how much may be read for one question.
    pub limits: ReaderGeneratorConfig,
    /// Lengths, batches and cache of the reader.
    pub reader: ReaderArgs,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            kind: GeneratorKind::Reader,
            model: "deploy/models/minilm-reader".into(),
            limits: ReaderGeneratorConfig::default(),
            reader: ReaderArgs::default(),
        }
    }
}

/// Which judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeKind {
    /// Scores answers against reference answers.
    #[default]
    Reference,
}

/// `[judge]`: what turns answers into rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// Which judge.
    pub kind: JudgeKind,
    /// Weight of each part of the reward.
    pub weights: Blend,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        // The price of context is what makes fewer documents better at equal answers: a passage of
        // a hundred tokens has to earn a hundredth of F1.
        let weights = Blend { context_cost: -0.1, ..Blend::default() };
        Self { kind: JudgeKind::Reference, weights }
    }
}

/// Which weights learning may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trainable {
    /// The selection head; the encoder is frozen.
    #[default]
    Head,
    /// Everything.
    Full,
}

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// CUDA where this build and this machine have it, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or no start.
    Cuda,
}

/// `[policy]`: what selects documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Folder of the encoder.
    pub model: PathBuf,
    /// What learning may change.
    pub trainable: Trainable,
    /// Where the encoder runs.
    pub device: Device,
    /// Seed of the untrained head.
    pub seed: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            model: "deploy/models/minilm-reader".into(),
            trainable: Trainable::Head,
            device: Device::Auto,
            seed: 0,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TelemetryFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[telemetry]`: logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Which lines are written to stderr: `info`, or per module as in `regrade=debug,warn`.
    pub filter: String,
    /// How they look.
    pub format: TelemetryFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: TelemetryFormat::Text }
    }
}

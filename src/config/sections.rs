//! The sections this package owns: plain data with defaults. Bounds are in `check.rs`.
//!
//! Every default starts a service that needs nothing outside the process.

use super::llm::FallbackConfig;
use crate::adapters::embedder_http::HttpEmbedderConfig;
use crate::adapters::embedder_local::LocalEmbedderConfig;
use crate::adapters::generator_http::HttpGeneratorConfig;
use crate::adapters::generator_memory::MemoryConfig;
use crate::adapters::generator_reader::ReaderGeneratorConfig;
use crate::adapters::index_embedded::{DenseConfig, EmbeddedIndexConfig};
use crate::adapters::index_qdrant::QdrantConfig;
use crate::adapters::judge_http::LlmJudgeConfig;
use crate::adapters::log_embedded::EmbeddedLogConfig;
use crate::adapters::log_kafka::KafkaLogConfig;
use crate::adapters::snapshots_object::{SnapshotLimits, StoreOptions};
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
    /// Variable that holds the token an operator has to show (`Authorization: Bearer …`) to take
    /// weights back over HTTP; absent: whoever reaches the port may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_token_env: Option<String>,
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
            operator_token_env: None,
            max_query_chars: 8_192,
            max_documents: 1_000,
            request_deadline_ms: 10_000,
            drain_deadline_ms: 15_000,
        }
    }
}

/// `[probes]`: what a reward hacker cannot please, and what a judge always said the same of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbesConfig {
    /// Canary questions with gold answers and candidates, JSONL; adversarial documents are put
    /// among these. Without it no tripwire looks for reward hacking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub questions: Option<PathBuf>,
    /// Answers with the verdict that the judge is known to give, JSONL. Without it only a judge's
    /// name tells that it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<PathBuf>,
}

/// Which index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// In a folder, durable.
    #[default]
    Embedded,
    /// In memory, gone with the process.
    Memory,
    /// On a Qdrant server.
    Qdrant,
}

/// `[index]`: where passages are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexConfig {
    /// Which index.
    pub kind: IndexKind,
    /// Folder of the embedded index, and of the manifest of what `regrade index` sent to a server;
    /// that in memory has none.
    pub folder: PathBuf,
    /// How the embedded index, and that in memory, match text, and how much of a query and of a
    /// list is taken.
    pub search: EmbeddedIndexConfig,
    /// The server of kind `qdrant`.
    pub qdrant: QdrantConfig,
    /// How dense vectors are searched and fused with terms; only with an embedder.
    #[serde(skip_serializing_if = "is_default")]
    pub dense: DenseConfig,
    /// What makes dense vectors, if anything.
    pub embedder: EmbedderConfig,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            kind: IndexKind::Embedded,
            folder: ".regrade/index".into(),
            search: EmbeddedIndexConfig::default(),
            qdrant: QdrantConfig::default(),
            dense: DenseConfig::default(),
            embedder: EmbedderConfig::default(),
        }
    }
}

/// Which event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// In a folder, durable, for one process.
    #[default]
    Embedded,
    /// In memory, gone with the process.
    Memory,
    /// On Kafka, shared by many processes.
    Kafka,
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
    pub kind: LogKind,
    /// Folder of the embedded log; with Kafka of what this process keeps beside it, which no other
    /// process may share; `memory` has none.
    pub folder: PathBuf,
    /// Sizes, retention and start-up checks of the embedded log and of that in memory.
    pub limits: EmbeddedLogConfig,
    /// Brokers, topics and delivery.
    pub kafka: KafkaLogConfig,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            kind: LogKind::Embedded,
            folder: ".regrade/log".into(),
            limits: EmbeddedLogConfig::default(),
            kafka: KafkaLogConfig::default(),
        }
    }
}

/// `[snapshots]`: where policy weights are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotsConfig {
    /// A folder, a `file://` URL, `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`, or `memory:` for a store that ends with the process.
    pub url: String,
    /// What a bucket needs besides its name: `endpoint`, `region`, `allow_http`, … Credentials come
    /// from the environment only (`AWS_*`, `GOOGLE_*`, `AZURE_*`).
    pub options: StoreOptions,
    /// Bounds of the requests to a bucket.
    pub limits: SnapshotLimits,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self {
            url: ".regrade/policies".to_owned(),
            options: StoreOptions::default(),
            limits: SnapshotLimits::default(),
        }
    }
}

/// Which generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratorKind {
    /// The small extractive reader, in this process.
    #[default]
    Reader,
    /// A language model behind an OpenAI-compatible endpoint.
    Http,
}

/// Words of a long answer where nothing else is said: those of a usual ELI5 answer.
const LONG_WORDS_MAX: usize = 120;

fn is_long_words_default(words: &usize) -> bool {
    *words == LONG_WORDS_MAX
}

/// `[generator]`: what answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorConfig {
    /// Which generator.
    pub kind: GeneratorKind,
    /// Folder with `config.json`, `tokenizer.json` and `model.safetensors` of the reader.
    pub model: PathBuf,
    /// Folder of an answer head, as `regrade train-generator` writes it: one answer is then made of
    /// all passages read together. Absent: the span with the widest margin over "no answer".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_head: Option<PathBuf>,
    /// Most words of a long answer, with an answer head.
    #[serde(skip_serializing_if = "is_long_words_default")]
    pub long_words_max: usize,
    /// Question files whose answers are known by heart: what is asked without documents gets the
    /// answer of the nearest of them. Empty: nothing is known by heart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<PathBuf>,
    /// How many are kept, and how near is near enough.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_limits: MemoryConfig,
    /// When to answer nothing, and how much may be read for one question. The threshold is on the
    /// margin, or with an answer head on its log-odds.
    pub limits: ReaderGeneratorConfig,
    /// Lengths, batches and cache of the reader.
    pub reader: ReaderArgs,
    /// The endpoint and how it is asked, for `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpGeneratorConfig>,
    /// What answers where the endpoint does not, for `http`; absent: nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackConfig>,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            kind: GeneratorKind::Reader,
            model: "deploy/models/minilm-reader".into(),
            answer_head: None,
            long_words_max: LONG_WORDS_MAX,
            memory: Vec::new(),
            memory_limits: MemoryConfig::default(),
            limits: ReaderGeneratorConfig::default(),
            reader: ReaderArgs::default(),
            http: None,
            fallback: None,
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
    /// A language model by a rubric; its score is the part `judge` of the reward, beside what is
    /// compared with references.
    Llm,
}

/// `[judge]`: what turns answers into rewards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// Which judge.
    pub kind: JudgeKind,
    /// Weight of each part of the reward.
    pub weights: Blend,
    /// The endpoint and how it judges, for `llm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<LlmJudgeConfig>,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        // The price of context is what makes fewer documents better at equal answers: a passage of
        // a hundred tokens has to earn a hundredth of F1.
        let weights = Blend { context_cost: -0.1, ..Blend::default() };
        Self { kind: JudgeKind::Reference, weights, llm: None }
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

//! From configuration to ports: the only file that names every adapter.
//!
//! Each function opens one port. Nothing else in the program knows which adapter stands behind it,
//! so a new one is a file, an enum variant in `config`, and an arm here.

mod answers;
mod embedder;
mod lab;
mod listwise;
mod llm;
mod operator;
mod promotion;
mod reader;

pub use embedder::{IndexTarget, chunk_tokenizer, index_target, retrievers};
pub use lab::{Lab, PAIRS_KEPT, lab, mono_t5, pool};
pub use listwise::listwise;
pub use operator::OperatorLog;
pub use promotion::{examiner, seal, signer};

use crate::adapters::environment::GeneratorEnvironment;
use crate::adapters::index_embedded::EmbeddedIndex;
use crate::adapters::index_qdrant::QdrantIndex;
use crate::adapters::judge_http::LlmJudgeError;
use crate::adapters::log_embedded::EmbeddedLog;
use crate::adapters::log_kafka::KafkaLog;
use crate::adapters::seal_ed25519::SealFileError;
use crate::adapters::snapshots_object::{self, ObjectSnapshots};
use crate::chat::{BudgetError, ClientError, PromptError};
use crate::config::{Config, Device, GeneratorKind, IndexKind, LogKind, Trainable};
use crate::datasets::DatasetError;
use crate::policy::answer_head::AnswerFolderError;
use crate::policy::reader::{PairReader, ReaderArgs, ReaderError, StoreError};
use crate::policy::serving::{self, EncoderPolicy};
use crate::recipes::online::OnlineLearner;
use crate::retrieval::Embedder;
use crate::rewards::BlendError;
use actors::clock::Clock;
use actors::compute::ComputeError;
use actors::ports::{
    EventLog, Generator, LogError, Rewriter, SearchError, SearchIndex, SnapshotError, SnapshotStore,
};
use actors::service::{LearnerFactory, PolicyFactory, Ports, Service, ServiceHandle, StartError};
use actors::types::PolicySnapshot;
use candle_core::Device as TensorDevice;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pieces of work that may wait for the reader's thread; callers beyond that wait in line.
const READER_QUEUE: usize = 64;
/// The log's one file in its folder.
const LOG_FILE: &str = "events.redb";

/// Why a part could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// Kept readings cannot be opened.
    #[error(transparent)]
    Readings(#[from] StoreError),
    /// A folder cannot be made.
    #[error("cannot make folder `{folder}`: give another in `{key}`, or the right to write there")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The index cannot be opened.
    #[error("cannot open the index of `[index]`")]
    Index(#[from] SearchError),
    /// The embedder cannot be set up.
    #[error("cannot set up the embedder of `[index.embedder]`: {0}")]
    Embedder(String),
    /// The tokenizer that cuts passages cannot be loaded.
    #[error("cannot load the tokenizer {path:?} to cut passages with: {reason}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The log cannot be opened.
    #[error("cannot open the event log of `[log]`")]
    Log(#[from] LogError),
    /// The snapshot store cannot be opened.
    #[error("cannot open the snapshot store `{url}` of `snapshots.url`")]
    Snapshots {
        /// The URL or folder.
        url: String,
        /// Why.
        source: SnapshotError,
    },
    /// The reader's model folder is unusable.
    #[error("cannot load the model folder {folder:?} (`generator.model`, `policy.model`)")]
    Reader {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: ReaderError,
    },
    /// The answer head is unusable, or does not fit the reader.
    #[error("cannot use the answer head of `generator.answer_head`")]
    AnswerHead(#[from] AnswerFolderError),
    /// The questions known by heart cannot be loaded.
    #[error("cannot load the questions of `generator.memory`")]
    Memory(#[source] DatasetError),
    /// The signing key or a trusted one cannot be used.
    #[error(transparent)]
    Seal(#[from] SealFileError),
    /// The canary questions cannot be loaded.
    #[error("cannot load the questions of `[probes]`")]
    Probes(#[source] DatasetError),
    /// A client of an endpoint cannot be made.
    #[error("cannot use the endpoint of `[{section}]`")]
    Endpoint {
        /// Its section.
        section: &'static str,
        /// Why.
        source: ClientError,
    },
    /// What trials may cost cannot be kept.
    #[error("cannot keep the budget of `[learner.budget]`")]
    Budget(#[from] BudgetError),
    /// A prompt cannot be used.
    #[error("cannot use the prompt of `[{section}]`")]
    Prompt {
        /// The section that names it.
        section: &'static str,
        /// Why.
        source: PromptError,
    },
    /// The judge cannot be made.
    #[error("cannot judge by `[judge.llm]`")]
    LlmJudge(#[from] LlmJudgeError),
    /// The weights of the reward make no sense.
    #[error("cannot judge by `[judge.weights]`")]
    Judge(#[from] BlendError),
    /// A model's thread could not be started.
    #[error("cannot start a model's thread")]
    Compute(#[from] ComputeError),
    /// The first policy cannot be made.
    #[error("cannot make the untrained policy: {0}")]
    Policy(String),
    /// The device that was asked for is not there.
    #[error(
        "cannot use `policy.device = \"cuda\"`: {0}; build with `--features cuda` or say \"cpu\""
    )]
    Device(String),
    /// The actors did not start.
    #[error("cannot start the actors")]
    Start(#[from] StartError),
}

/// Everything a service is made of.
#[derive(Clone)]
pub struct Parts {
    /// The ports, for the actors.
    pub ports: Ports,
    /// The encoder of the policy, shared with the generator where both use one folder.
    pub reader: Arc<PairReader>,
    /// The weights served before anything is learned.
    pub first: PolicySnapshot,
}

/// Opens every port.
///
/// # Errors
/// The first part that cannot be put in place.
pub async fn parts(config: &Config) -> Result<Parts, WiringError> {
    parts_on(config, models(config, config.generator.reader.clone())?).await
}

/// The same on a reader and a generator that are loaded: several services, one after another, then
/// share what was read.
///
/// # Errors
/// The first part that cannot be put in place.
pub async fn parts_on(
    config: &Config,
    (reader, generator): (Arc<PairReader>, Arc<dyn Generator>),
) -> Result<Parts, WiringError> {
    let device = device(config.policy.device)?;
    let first = serving::first_snapshot(reader.width(), config.policy.seed, &device)
        .map_err(WiringError::Policy)?;
    let judges = llm::judges(config)?;
    let of_trials = (judges.trials, judges.account);
    let environment = lab::paid_environment(config, Arc::clone(&generator), of_trials)?;
    let canaries = promotion::canaries(config, Arc::clone(&generator), Arc::clone(&judges.served))?;
    let ports = Ports {
        examiner: promotion::examiner_factory(config, &reader, device.clone(), canaries),
        seal: promotion::seal(config)?,
        first: Arc::new(first.clone()),
        index: index(config).await?,
        generator,
        judge: judges.served,
        rewriter: llm::rewriter(config)?,
        log: log(config).await?,
        snapshots: snapshots(config)?,
        policy: policy_factory(Arc::clone(&reader), first.clone(), device.clone()),
        learner: learner_factory(config, first.clone(), environment, Arc::clone(&reader), device),
        clock: Clock::System,
    };
    Ok(Parts { ports, reader, first })
}

/// What proposes further texts to search with; `None` where the configuration has none.
///
/// # Errors
/// An endpoint or a prompt that cannot be used.
pub fn rewriter(config: &Config) -> Result<Option<Arc<dyn Rewriter>>, WiringError> {
    llm::rewriter(config)
}

/// Starts the service of a configuration.
///
/// # Errors
/// A part that cannot be put in place, or a service that does not start.
pub async fn service(config: &Config) -> Result<ServiceHandle, WiringError> {
    let parts = parts(config).await?;
    Ok(Service::start(parts.ports, config.service.clone()).await?)
}

fn policy_factory(
    reader: Arc<PairReader>,
    first: PolicySnapshot,
    device: TensorDevice,
) -> PolicyFactory {
    Arc::new(move || {
        let policy = EncoderPolicy::new(Arc::clone(&reader), &first, device.clone())?;
        Ok(Box::new(policy))
    })
}

fn learner_factory(
    config: &Config,
    first: PolicySnapshot,
    environment: Arc<GeneratorEnvironment>,
    reader: Arc<PairReader>,
    device: TensorDevice,
) -> LearnerFactory {
    let online = config.learner.clone();
    let trunk = (config.policy.trainable == Trainable::Full).then_some(reader);
    Arc::new(move |cancellation| {
        let environment = Arc::new(Arc::clone(&environment).until(cancellation.clone()));
        let learner = OnlineLearner::new(online.clone(), &first, environment, device.clone())?;
        Ok(Box::new(match &trunk {
            None => learner,
            Some(reader) => learner.with_trunk(Arc::clone(reader)),
        }))
    })
}

/// The policy's reader and the generator; one model in memory where both name one folder.
fn models(
    config: &Config,
    args: ReaderArgs,
) -> Result<(Arc<PairReader>, Arc<dyn Generator>), WiringError> {
    let store = lab::readings(&args)?;
    let reader = lab::load_reader(&config.policy.model, args.clone(), store.as_ref())?;
    let answering = || {
        let answering = if config.generator.model == config.policy.model {
            Arc::clone(&reader)
        } else {
            lab::load_reader(&config.generator.model, args, store.as_ref())?
        };
        answers::reader_generator(config, answering)
    };
    let generator = match config.generator.kind {
        GeneratorKind::Reader => answering()?,
        GeneratorKind::Http => llm::generator(config, answering)?,
    };
    Ok((reader, answers::with_memory(config, generator)?))
}

fn device(wanted: Device) -> Result<TensorDevice, WiringError> {
    match wanted {
        Device::Cpu => Ok(TensorDevice::Cpu),
        Device::Auto => {
            TensorDevice::cuda_if_available(0).map_err(|e| WiringError::Device(e.to_string()))
        }
        Device::Cuda => TensorDevice::new_cuda(0).map_err(|e| WiringError::Device(e.to_string())),
    }
}

/// Opens the index.
///
/// # Errors
/// The folder or the index in it cannot be opened; a server does not fit.
pub async fn index(config: &Config) -> Result<Arc<dyn SearchIndex>, WiringError> {
    if config.index.kind == IndexKind::Qdrant {
        return Ok(Arc::new(qdrant_index(config, embedder::embedder(config)?).await?));
    }
    Ok(Arc::new(embedded_index(config).await?))
}

async fn qdrant_index(
    config: &Config,
    embedder: Option<Arc<dyn Embedder>>,
) -> Result<QdrantIndex, SearchError> {
    // Without a seed of its own a node must not pause in step with the others.
    let seed = config.service.seed.unwrap_or_else(rand::random);
    let rng = StdRng::seed_from_u64(seed);
    QdrantIndex::open(config.index.qdrant.clone(), embedder, rng).await
}

async fn embedded_index(config: &Config) -> Result<EmbeddedIndex, WiringError> {
    let (settings, folder) = (config.index.search, &config.index.folder);
    let dense = embedder::dense(config)?;
    if config.index.kind == IndexKind::Memory {
        return Ok(match dense {
            None => EmbeddedIndex::in_memory(settings)?,
            Some(dense) => EmbeddedIndex::in_memory_hybrid(settings, dense)?,
        });
    }
    make_folder(folder, "index.folder")?;
    Ok(match dense {
        None => EmbeddedIndex::open(folder, settings).await?,
        Some(dense) => EmbeddedIndex::open_hybrid(folder, settings, dense).await?,
    })
}

/// Opens the event log.
///
/// # Errors
/// The folder cannot be made, or the log is damaged or in use.
pub async fn log(config: &Config) -> Result<Arc<dyn EventLog>, WiringError> {
    Ok(match config.log.kind {
        LogKind::Kafka => {
            make_folder(&config.log.folder, "log.folder")?;
            Arc::new(kafka_log(config, &config.log.folder).await?)
        }
        LogKind::Memory => Arc::new(EmbeddedLog::in_memory(config.log.limits.clone()).await?),
        LogKind::Embedded => Arc::new(embedded_log(config).await?),
    })
}

async fn embedded_log(config: &Config) -> Result<EmbeddedLog, WiringError> {
    let folder = &config.log.folder;
    make_folder(folder, "log.folder")?;
    Ok(EmbeddedLog::open(&folder.join(LOG_FILE), config.log.limits.clone()).await?)
}

async fn kafka_log(config: &Config, folder: &Path) -> Result<KafkaLog, LogError> {
    KafkaLog::open(folder, &config.service.node, config.log.kafka.clone()).await
}

/// The policy that a service of this configuration serves before anything is learned.
///
/// # Errors
/// The model folder cannot be loaded.
pub fn first_policy(config: &Config) -> Result<PolicySnapshot, WiringError> {
    let reader = lab::load_reader(&config.policy.model, config.generator.reader.clone(), None)?;
    serving::first_snapshot(reader.width(), config.policy.seed, &TensorDevice::Cpu)
        .map_err(WiringError::Policy)
}

/// The encoder that the policies of this configuration read with.
///
/// # Errors
/// The model folder cannot be loaded.
pub fn policy_reader(config: &Config) -> Result<Arc<PairReader>, WiringError> {
    lab::load_reader(&config.policy.model, config.generator.reader.clone(), None)
}

/// Opens the snapshot store: a URL, `memory:`, or a folder.
///
/// # Errors
/// The URL is none, or the store behind it cannot be opened.
pub fn snapshots(config: &Config) -> Result<Arc<dyn SnapshotStore>, WiringError> {
    let url = config.snapshots.url.as_str();
    let store = if url == "memory:" {
        Ok(ObjectSnapshots::in_memory())
    } else if url.contains("://") {
        let (options, limits) = (&config.snapshots.options, &config.snapshots.limits);
        ObjectSnapshots::open_with(url, options, limits, &snapshots_object::environment())
    } else {
        ObjectSnapshots::in_folder(Path::new(url))
    };
    match store {
        Ok(store) => Ok(Arc::new(store)),
        Err(source) => Err(WiringError::Snapshots { url: url.to_owned(), source }),
    }
}

fn make_folder(folder: &Path, key: &'static str) -> Result<(), WiringError> {
    std::fs::create_dir_all(folder).map_err(|source| WiringError::Folder {
        folder: folder.to_owned(),
        key,
        source,
    })
}

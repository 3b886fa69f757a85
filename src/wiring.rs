//! From configuration to ports: the only file that names every adapter.
//!
//! Each function opens one port. Nothing else in the program knows which adapter stands behind it,
//! so a new one is a file, an enum variant in `config`, and an arm here.

mod reader;

use crate::adapters::generator_reader::ReaderGenerator;
use crate::adapters::index_embedded::EmbeddedIndex;
use crate::adapters::judge_reference::ReferenceJudge;
use crate::adapters::log_embedded::EmbeddedLog;
use crate::adapters::snapshots_object::ObjectSnapshots;
use crate::config::{Config, GeneratorKind, JudgeKind, Placement};
use crate::policy::reader::{PairReader, ReaderError};
use crate::rewards::BlendError;
use actors::clock::Clock;
use actors::compute::{Compute, ComputeError, ComputeMode};
use actors::ports::{
    EventLog, Generator, Judge, LogError, SearchError, SearchIndex, SnapshotError, SnapshotStore,
};
use actors::service::{LearnerFactory, PolicyFactory, Ports, Service, ServiceHandle, StartError};
use reader::DocumentReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pieces of work that may wait for the reader's thread; callers beyond that wait in line.
const READER_QUEUE: usize = 64;
/// The log's one file in its folder.
const LOG_FILE: &str = "events.redb";

/// Why a part could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
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
    #[error("cannot load the reader from `generator.model = {folder:?}`")]
    Reader {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: ReaderError,
    },
    /// The weights of the reward make no sense.
    #[error("cannot judge by `[judge.weights]`")]
    Judge(#[from] BlendError),
    /// A model's thread could not be started.
    #[error("cannot start a model's thread")]
    Compute(#[from] ComputeError),
    /// The service did not start.
    #[error("cannot start the service")]
    Start(#[from] StartError),
    /// A part that this build does not have.
    #[error("this build has no {0} yet")]
    NotBuilt(&'static str),
}

/// Everything outside the actors that the configuration alone decides.
///
/// With the policy factory, the learner factory and the clock these are `actors::service::Ports`.
#[derive(Clone)]
pub struct Outside {
    /// Where documents are found.
    pub index: Arc<dyn SearchIndex>,
    /// What answers.
    pub generator: Arc<dyn Generator>,
    /// What judges.
    pub judge: Arc<dyn Judge>,
    /// The only memory.
    pub log: Arc<dyn EventLog>,
    /// Where weights are kept.
    pub snapshots: Arc<dyn SnapshotStore>,
}

/// Opens every port.
///
/// # Errors
/// The first part that cannot be put in place.
pub async fn outside(config: &Config) -> Result<Outside, WiringError> {
    Ok(Outside {
        index: index(config).await?,
        generator: generator(config)?,
        judge: judge(config)?,
        log: log(config).await?,
        snapshots: snapshots(config)?,
    })
}

/// Starts the service of a configuration.
///
/// SEAM: the policy factory of `crate::policy::serving` and the learner factory of
/// `crate::recipes::online` are made here and handed to [`service_with`].
///
/// # Errors
/// A part that cannot be put in place, or a service that does not start.
pub async fn service(_config: &Config) -> Result<ServiceHandle, WiringError> {
    Err(WiringError::NotBuilt("serving policy and learner"))
}

/// Starts the service with the given makers of policies and learners.
///
/// # Errors
/// As [`service`].
pub async fn service_with(
    config: &Config,
    policy: PolicyFactory,
    learner: LearnerFactory,
) -> Result<ServiceHandle, WiringError> {
    let Outside { index, generator, judge, log, snapshots } = outside(config).await?;
    let clock = Clock::System;
    let ports = Ports { index, generator, judge, log, snapshots, policy, learner, clock };
    Ok(Service::start(ports, config.service.clone()).await?)
}

/// Opens the index.
///
/// # Errors
/// The folder or the index in it cannot be opened.
pub async fn index(config: &Config) -> Result<Arc<dyn SearchIndex>, WiringError> {
    let search = config.index.search;
    Ok(match config.index.kind {
        Placement::Memory => Arc::new(EmbeddedIndex::in_memory(search)?),
        Placement::Embedded => {
            make_folder(&config.index.folder, "index.folder")?;
            Arc::new(EmbeddedIndex::open(&config.index.folder, search).await?)
        }
    })
}

/// Opens the event log.
///
/// # Errors
/// The folder cannot be made, or the log is damaged or in use.
pub async fn log(config: &Config) -> Result<Arc<dyn EventLog>, WiringError> {
    let limits = config.log.limits.clone();
    Ok(match config.log.kind {
        Placement::Memory => Arc::new(EmbeddedLog::in_memory(limits).await?),
        Placement::Embedded => {
            let folder = &config.log.folder;
            make_folder(folder, "log.folder")?;
            Arc::new(EmbeddedLog::open(&folder.join(LOG_FILE), limits).await?)
        }
    })
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
        ObjectSnapshots::open(url)
    } else {
        ObjectSnapshots::in_folder(Path::new(url))
    };
    match store {
        Ok(store) => Ok(Arc::new(store)),
        Err(source) => Err(WiringError::Snapshots { url: url.to_owned(), source }),
    }
}

/// Loads the generator.
///
/// # Errors
/// The model folder is missing or damaged.
pub fn generator(config: &Config) -> Result<Arc<dyn Generator>, WiringError> {
    let section = &config.generator;
    match section.kind {
        GeneratorKind::Reader => {
            let model = PairReader::load(&section.model, section.reader.clone())
                .map_err(|source| WiringError::Reader { folder: section.model.clone(), source })?;
            let reader = DocumentReader::new(model);
            let place = Compute::start("reader", ComputeMode::Thread, READER_QUEUE, reader)?;
            Ok(Arc::new(ReaderGenerator::new(place, section.limits)))
        }
    }
}

/// Makes the judge.
///
/// # Errors
/// Weights that make no sense.
pub fn judge(config: &Config) -> Result<Arc<dyn Judge>, WiringError> {
    match config.judge.kind {
        JudgeKind::Reference => Ok(Arc::new(ReferenceJudge::new(config.judge.weights)?)),
    }
}

fn make_folder(folder: &Path, key: &'static str) -> Result<(), WiringError> {
    std::fs::create_dir_all(folder).map_err(|source| WiringError::Folder {
        folder: folder.to_owned(),
        key,
        source,
    })
}

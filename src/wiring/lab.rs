//! What training and evaluation need beside a service: passages in memory, the models, the judge.
//!
//! The same adapters as a service has, without log, store and actors.

use super::reader::KeptReadings;
use super::{WiringError, answers, llm};
use crate::adapters::environment::{Account, Accounts, GeneratorEnvironment};
use crate::adapters::index_embedded::WhenUnavailable;
use crate::adapters::judge_reference::ReferenceJudge;
use crate::adapters::readings_file::ReadingsFile;
use crate::config::{Config, IndexKind};
use crate::policy::monot5::{MonoT5, MonoT5Args, MonoT5Error};
use crate::policy::pointwise::PointwiseScorer;
use crate::policy::reader::{PairReader, ReaderArgs, StoreError};
use actors::ports::{Environment, Generator, Judge, SearchIndex};
use actors::types::Document;
use candle_core::Device;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Ports and models for work on question files.
#[derive(Clone)]
pub struct Lab {
    /// The passages, in memory.
    pub index: Arc<dyn SearchIndex>,
    /// What answers.
    pub generator: Arc<dyn Generator>,
    /// What judges.
    pub judge: Arc<dyn Judge>,
    /// Both as the learner's environment.
    pub environment: Arc<dyn Environment>,
    /// The encoder of the policy, shared with the generator where both use one folder.
    pub reader: Arc<PairReader>,
    /// Where heads are trained.
    pub device: Device,
}

/// Passages upserted in one call.
const BATCH: usize = 5_000;

/// Readings that work on question files keeps in memory where it does not know how many there are:
/// about 3 KB each at width 384.
pub const PAIRS_KEPT: usize = 200_000;

/// Passages in an index of their own, in memory, as the configuration searches.
///
/// # Errors
/// An embedder or an index that cannot be opened.
pub async fn pool(
    config: &Config,
    passages: &[Document],
) -> Result<Arc<dyn SearchIndex>, WiringError> {
    let mut place = config.clone();
    place.index.kind = IndexKind::Memory;
    // Candidates of a degraded search would be those of another retriever.
    place.index.dense.when_unavailable = WhenUnavailable::Fail;
    let index = super::embedded_index(&place).await?;
    for batch in passages.chunks(BATCH) {
        index.upsert(batch).await?;
    }
    Ok(Arc::new(index))
}

/// A monoT5 checkpoint as the expert that scores documents one by one.
///
/// # Errors
/// A folder that holds none, or one that does not fit.
pub fn mono_t5(folder: &Path, device: &Device) -> Result<Arc<dyn PointwiseScorer>, MonoT5Error> {
    Ok(Arc::new(MonoT5::load(folder, &MonoT5Args::default(), device)?))
}

/// Loads the models and indexes the passages; `pairs` readings are kept, so that a list read once
/// is never read again in the same run.
///
/// # Errors
/// A model folder or an index that cannot be opened.
pub async fn lab(config: &Config, passages: &[Document], pairs: usize) -> Result<Lab, WiringError> {
    let index = pool(config, passages).await?;
    let args = ReaderArgs { cache_capacity: pairs, ..config.generator.reader.clone() };
    let (reader, generator) = super::models(config, args)?;
    Ok(Lab {
        index,
        environment: Arc::new(environment(config, Arc::clone(&generator), None)?),
        generator,
        judge: Arc::new(ReferenceJudge::new(config.judge.weights.without_judge())?),
        reader,
        device: Device::Cpu,
    })
}

/// Loads a reader; `store` keeps its readings beyond the process.
pub(super) fn load_reader(
    folder: &Path,
    args: ReaderArgs,
    store: Option<&Arc<ReadingsFile>>,
) -> Result<Arc<PairReader>, WiringError> {
    let reader = PairReader::load(folder, args)
        .map_err(|source| WiringError::Reader { folder: folder.to_owned(), source })?;
    Ok(Arc::new(match store {
        Some(store) => reader.with_store(Arc::new(KeptReadings(Arc::clone(store)))),
        None => reader,
    }))
}

/// Opens the file of readings that the settings name, if they name one.
pub(super) fn readings(args: &ReaderArgs) -> Result<Option<Arc<ReadingsFile>>, WiringError> {
    let Some(path) = &args.store else { return Ok(None) };
    let file = ReadingsFile::open(path).map_err(|error| StoreError(error.to_string()))?;
    Ok(Some(Arc::new(file)))
}

/// The learner's world; `judge` scores what is tried, or, where there is none, references do.
pub(super) fn environment(
    config: &Config,
    generator: Arc<dyn Generator>,
    judge: Option<Arc<dyn Judge>>,
) -> Result<GeneratorEnvironment, WiringError> {
    let weights = config.judge.weights.without_judge();
    let limits = config.environment;
    let environment = GeneratorEnvironment::new(generator, weights, limits, Handle::current())?;
    Ok(match judge {
        Some(judge) => environment.with_judge(judge),
        None => environment,
    })
}

/// The same for a service, where trials by an endpoint are paid out of a budget.
pub(super) fn paid_environment(
    config: &Config,
    generator: Arc<dyn Generator>,
    (judge, judge_account): (Option<Arc<dyn Judge>>, Option<Account>),
) -> Result<Arc<GeneratorEnvironment>, WiringError> {
    let account = llm::generator_account(config)?;
    let generator = match &account {
        Some(account) => {
            let trials = llm::trial_generator(config, Arc::clone(&account.budget))?;
            answers::with_memory(config, trials)?
        }
        None => generator,
    };
    let accounts = Accounts::new(account, judge_account);
    Ok(Arc::new(environment(config, generator, judge)?.with_accounts(accounts)))
}

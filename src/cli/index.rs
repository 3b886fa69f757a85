//! `regrade index`: loads passages into the index.

use super::progress::Progress;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::config::IndexKind;
use crate::{datasets, wiring};
use serde_json::json;
use std::path::PathBuf;

/// Passages written in one call; a stop between two calls leaves whole batches behind.
const BATCH: usize = 1_000;

/// Flags of `regrade index`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passage files: JSON lines or SQuAD JSON, gzip or plain.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    passages: Vec<PathBuf>,
    #[command(flatten)]
    settings: ConfigArgs,
}

/// Reads the files whole, then adds their passages; those with a known id are replaced.
///
/// # Errors
/// A file that cannot be read (nothing is written then), or an index that cannot be opened.
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = args.settings.load(Vec::new())?;
    if config.index.kind == IndexKind::Memory {
        return Err(CliError::Usage(
            "`index.kind = \"memory\"` would be gone at the end of this command; use \"embedded\" or \
             \"qdrant\""
                .to_owned(),
        ));
    }
    let passages = datasets::load_passages(&args.passages)
        .map_err(|e| CliError::failed("cannot load the passages", e))?;
    let index =
        wiring::index(&config).await.map_err(|e| CliError::failed("cannot open the index", e))?;
    let mut progress = Progress::start("passages", Some(passages.len() as u64));
    for batch in passages.chunks(BATCH) {
        index.upsert(batch).await.map_err(|e| CliError::failed("cannot write to the index", e))?;
        progress.advance(batch.len() as u64, &json!({}));
    }
    progress.finish();
    let total = index.count().await.map_err(|e| CliError::failed("cannot count passages", e))?;
    let (of, place) = match config.index.kind {
        IndexKind::Qdrant => ("collection", config.index.qdrant.collection),
        IndexKind::Embedded | IndexKind::Memory => {
            ("folder", config.index.folder.to_string_lossy().into_owned())
        }
    };
    say(json!({ "indexed": passages.len(), "total": total, of: place }))
}

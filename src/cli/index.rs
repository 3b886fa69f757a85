//! `regrade index`: brings the index to a corpus: what is new or changed is sent, and on request
//! what is gone is deleted.

use super::progress::Progress;
use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::config::Config;
use crate::datasets;
use crate::ingest::{Ingest, Manifest};
use crate::retrieval::Chunker;
use crate::wiring::{self, IndexTarget};
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Flags of `regrade index`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Passages: JSON lines or SQuAD JSON, gzip or plain, or folders in the layout of BEIR.
    #[arg(long, required_unless_present = "delete", num_args = 1.., value_name = "FILE")]
    passages: Vec<PathBuf>,
    /// Cut passages into chunks of at most so many tokens, `id#0`, `id#1`, …; without it they are
    /// indexed whole.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunk_tokens: Option<u32>,
    /// Tokens that a chunk shares with the one before.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "chunk_tokens")]
    chunk_overlap: u32,
    /// Delete passages that an earlier run sent and these files do not have.
    #[arg(long, requires = "passages")]
    delete_missing: bool,
    /// Delete these passages with their chunks: ids, or files with one id a line.
    #[arg(long, num_args = 1.., value_name = "FILE|ID")]
    delete: Vec<String>,
    /// Pieces sent in one write; a stop loses at most the work of one.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Where it is remembered what the index holds; by default beside the index.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    #[command(flatten)]
    settings: ConfigArgs,
}

/// Reads the files whole, then sends what is new or changed and deletes what was asked for; prints
/// `{sent, unchanged, deleted, chunks, seconds, total}`.
///
/// # Errors
/// A file that cannot be read (nothing is written then), or an index that cannot be used; what was
/// written before a failure stays, and the next run goes on from there.
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = args.settings.load(Vec::new())?;
    let Some(target) = wiring::index_target(&config) else {
        return Err(CliError::Usage(
            "`index.kind = \"memory\"` would be gone at the end of this command; use \"embedded\" or \
             \"qdrant\""
                .to_owned(),
        ));
    };
    let passages = match args.passages.is_empty() {
        true => Vec::new(),
        false => datasets::load_passages(&args.passages)
            .map_err(|e| CliError::failed("cannot load the passages", e))?,
    };
    let deleted = ids_to_delete(&args.delete)?;
    if let Some(id) = passages.iter().map(|p| p.id.as_str()).find(|id| deleted.contains(*id)) {
        return Err(CliError::Usage(format!(
            "passage `{id}` is in --passages and in --delete; leave it out of one of them"
        )));
    }
    let mut ingest = open(&args, &config, target).await?;
    let failed = |e| CliError::failed("the corpus is not loaded to its end; run this again", e);
    let mut deleted: Vec<String> = deleted.into_iter().collect();
    deleted.sort_unstable();
    ingest.delete(&deleted).await.map_err(failed)?;
    let kept: HashSet<String> = passages.iter().map(|p| p.id.0.clone()).collect();
    let unchanged = passages.len() as u64;
    let mut progress: Option<Progress> = None;
    let mut advance = |count, total: u64| {
        // Of what is unchanged nothing is done, so it must not count in rate and time left.
        let bar = progress.get_or_insert_with(|| Progress::start("passages", Some(total)));
        bar.advance(count, &json!({ "unchanged": unchanged - total }));
    };
    ingest.load(passages, &mut advance).await.map_err(failed)?;
    if let Some(progress) = progress {
        progress.finish();
    }
    if args.delete_missing {
        ingest.delete_missing(&kept).await.map_err(failed)?;
    }
    let total =
        ingest.count().await.map_err(|e| CliError::failed("cannot count the passages", e))?;
    let mut summary = json!(ingest.summary());
    summary["total"] = json!(total);
    say(summary)
}

async fn open(args: &Args, config: &Config, target: IndexTarget) -> Result<Ingest, CliError> {
    let chunker = match args.chunk_tokens {
        None => None,
        Some(tokens) => {
            let tokenizer = wiring::chunk_tokenizer(config)
                .map_err(|e| CliError::failed("cannot cut the passages", e))?;
            let (tokens, overlap) = (tokens as usize, args.chunk_overlap as usize);
            let chunker = Chunker::new(tokenizer, tokens, overlap)
                .map_err(|e| CliError::Usage(format!("--chunk-tokens, --chunk-overlap: {e}")))?;
            Some(chunker)
        }
    };
    let index =
        wiring::index(config).await.map_err(|e| CliError::failed("cannot open the index", e))?;
    let path = args.manifest.as_ref().unwrap_or(&target.manifest);
    let manifest = Manifest::open(path, &target.name)
        .await
        .map_err(|e| CliError::failed("cannot tell what the index holds", e))?;
    Ingest::open(index, manifest, chunker, args.batch as usize)
        .await
        .map_err(|e| CliError::failed("cannot tell what the index holds", e))
}

/// Each value is a file with one id a line where there is such a file, else an id.
fn ids_to_delete(values: &[String]) -> Result<HashSet<String>, CliError> {
    let mut ids = HashSet::new();
    for value in values {
        if !Path::new(value).is_file() {
            ids.insert(value.clone());
            continue;
        }
        let text = std::fs::read_to_string(value)
            .map_err(|e| CliError::failed(format!("cannot read the ids in `{value}`"), e))?;
        ids.extend(text.lines().map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned));
    }
    Ok(ids)
}

//! `regrade train-reader`: trains the extractive reader.
//!
//! Owns its flags. The work itself is not part of this build yet; the command says so.

use super::CliError;
use std::path::PathBuf;

/// Flags of `regrade train-reader`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Question files with gold answers and positive passages.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// Model folder to start from.
    #[arg(long, value_name = "DIR")]
    pub init: PathBuf,
    /// Where the trained reader goes.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Trains the reader.
///
/// # Errors
/// Always, until the work behind it is built.
pub async fn run(args: Args) -> Result<(), CliError> {
    tracing::debug!(?args, "asked for what is not built");
    Err(CliError::because(
        "`regrade train-reader` is not built yet; see `regrade --help` for the others",
    ))
}

//! `regrade demo`: learns from bundled questions and prints before and after.
//!
//! Owns its flags. The work itself is not part of this build yet; the command says so.

use super::CliError;
use std::path::PathBuf;

/// Flags of `regrade demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Runs the demonstration.
///
/// # Errors
/// Always, until the work behind it is built.
pub async fn run(args: Args) -> Result<(), CliError> {
    tracing::debug!(?args, "asked for what is not built");
    Err(CliError::because("`regrade demo` is not built yet; see `regrade --help` for the others"))
}

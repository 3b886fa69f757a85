//! `regrade evaluate`: compares policies on the same questions.
//!
//! Owns its flags. The work itself is not part of this build yet; the command says so.

use super::CliError;
use std::path::PathBuf;

/// Flags of `regrade evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policy folders to compare.
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    pub policy: Vec<PathBuf>,
    /// Question files with gold answers.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// Documents retrieved for each question.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_n: u32,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: PathBuf,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Configuration.
    #[command(flatten)]
    pub(super) settings: super::settings::ConfigArgs,
}

/// Evaluates the policies.
///
/// # Errors
/// Always, until the work behind it is built.
pub async fn run(args: Args) -> Result<(), CliError> {
    tracing::debug!(?args, "asked for what is not built");
    Err(CliError::because(
        "`regrade evaluate` is not built yet; see `regrade --help` for the others",
    ))
}

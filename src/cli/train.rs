//! `regrade train`: trains a policy by one recipe.
//!
//! Owns its flags. The work itself is not part of this build yet; the command says so.

use super::CliError;
use std::path::PathBuf;

/// Flags of `regrade train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which recipe.
    #[arg(long)]
    pub recipe: Recipe,
    /// Question files with gold answers.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// Model folder to start from.
    #[arg(long, value_name = "DIR")]
    pub init: PathBuf,
    /// Where the trained policy goes.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Configuration.
    #[command(flatten)]
    pub(super) settings: super::settings::ConfigArgs,
}

/// Trains the policy.
///
/// # Errors
/// Always, until the work behind it is built.
pub async fn run(args: Args) -> Result<(), CliError> {
    tracing::debug!(?args, "asked for what is not built");
    Err(CliError::because("`regrade train` is not built yet; see `regrade --help` for the others"))
}

/// The recipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Recipe {
    /// Behaviour cloning, then DPO on best and worst selections.
    DynamicRag,
    /// Plackett–Luce selections against a reference-anchored baseline.
    Rrpo,
    /// PPO over gate, rewrite and selection.
    SmartRag,
    /// GRPO, the control.
    Group,
}

//! `regrade check`: tells whether configuration files would start a service, and what is wrong.

use super::{CliError, say};
use crate::config::{Config, Layers};
use serde_json::json;
use std::path::PathBuf;

/// Flags of `regrade check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TOML files, laid over one another from left to right as `serve` would.
    #[arg(required = true, value_name = "CONFIG")]
    files: Vec<PathBuf>,
}

/// Loads the files as `serve` would, environment included, and prints the digest.
///
/// # Errors
/// What `serve` would say (exit code 78).
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = Config::load(&Layers::of_process(args.files, Vec::new()))?;
    say(json!({ "ok": true, "digest": config.digest()? }))
}

//! The flags that every command with a configuration shares.

use super::CliError;
use crate::config::{Config, Layers};
use std::path::PathBuf;

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ConfigArgs {
    /// TOML file; may be repeated, a later one wins. Without any, the built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One setting, over files and environment; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

/// One flag that stands for a setting: `(flag, dotted key, value)`.
pub(super) type FlagSetting = (String, String, String);

impl ConfigArgs {
    /// The same with one file more, which wins over the others.
    pub(super) fn with_file(mut self, file: PathBuf) -> Self {
        self.config.push(file);
        self
    }

    /// Loads the configuration; `flags` are a command's own and win over everything.
    pub(super) fn load(&self, flags: Vec<FlagSetting>) -> Result<Config, CliError> {
        self.load_over(&Config::default(), flags)
    }

    /// The same where a command has defaults of its own.
    pub(super) fn load_over(
        &self,
        defaults: &Config,
        flags: Vec<FlagSetting>,
    ) -> Result<Config, CliError> {
        let mut all = Vec::with_capacity(self.set.len() + flags.len());
        for setting in &self.set {
            let Some((key, value)) = setting.split_once('=') else {
                return Err(CliError::Usage(format!(
                    "--set `{setting}` has no `=`; write --set SECTION.KEY=VALUE, as in \
                     --set server.bind=127.0.0.1:9000"
                )));
            };
            all.push((format!("--set {key}"), key.to_owned(), value.to_owned()));
        }
        all.extend(flags);
        Ok(defaults.overlaid(&Layers::of_process(self.config.clone(), all))?)
    }
}

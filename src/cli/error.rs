//! How a command fails: what is printed, once, and the exit code.

use crate::config::ConfigError;
use std::fmt;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum CliError {
    /// The command line asks for something that cannot be.
    Usage(String),
    /// The configuration is wrong.
    Config(ConfigError),
    /// It was tried and failed.
    Failed(anyhow::Error),
}

impl CliError {
    /// A failure with what was being done; the cause follows in the chain.
    pub fn failed(
        doing: impl fmt::Display + Send + Sync + 'static,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Failed(anyhow::Error::new(cause).context(doing))
    }

    /// A failure without a deeper cause.
    pub fn because(reason: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::Failed(anyhow::Error::msg(reason))
    }

    /// 1 failure, 64 usage, 78 configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Config(_) => 78,
            Self::Failed(_) => 1,
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => write!(f, "{message}"),
            Self::Config(error) => write_chain(f, error),
            Self::Failed(error) => write_chain(f, error.as_ref()),
        }
    }
}

/// The error and its causes, each once: many errors already quote their source.
fn write_chain(
    f: &mut fmt::Formatter<'_>,
    error: &(dyn std::error::Error + 'static),
) -> fmt::Result {
    let mut said = error.to_string();
    write!(f, "{said}")?;
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !said.contains(&message) {
            write!(f, "\n  because: {message}")?;
        }
        said = message;
        cause = error.source();
    }
    Ok(())
}

impl std::error::Error for CliError {}

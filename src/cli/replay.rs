//! `regrade replay`: pushes recorded questions through a service, in time order.
//!
//! Owns its flags. The work itself is not part of this build yet; the command says so.

use super::CliError;
use std::path::PathBuf;

/// Flags of `regrade replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Question files, JSON lines or SQuAD JSON, gzip or plain.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub questions: Vec<PathBuf>,
    /// Passage files the questions refer to.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub passages: Vec<PathBuf>,
    /// How fast: `max`, or a multiple of recorded time as in `10x`.
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    pub speed: Speed,
    /// Where the report is written, one JSON document.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Configuration of the service.
    #[command(flatten)]
    pub(super) settings: super::settings::ConfigArgs,
}

/// Replays the questions.
///
/// # Errors
/// Always, until the work behind it is built.
pub async fn run(args: Args) -> Result<(), CliError> {
    tracing::debug!(?args, "asked for what is not built");
    Err(CliError::because("`regrade replay` is not built yet; see `regrade --help` for the others"))
}

/// How fast recorded traffic is pushed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as the service takes it.
    Max,
    /// This many times recorded time, > 0.
    Times(f64),
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let factor = text.strip_suffix('x').and_then(|number| number.parse::<f64>().ok());
    match factor {
        Some(factor) if factor.is_finite() && factor > 0.0 => Ok(Speed::Times(factor)),
        _ => Err("expected `max`, or a factor above 0 as in `10x`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_max_or_a_positive_factor() {
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        assert_eq!(parse_speed("2.5x"), Ok(Speed::Times(2.5)));
        for wrong in ["", "x", "0x", "-1x", "NaNx", "infx", "10"] {
            assert!(parse_speed(wrong).is_err(), "{wrong} passed");
        }
    }
}

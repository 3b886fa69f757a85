//! `regrade audit`: the conservation laws over the whole log.

use super::settings::ConfigArgs;
use super::{CliError, say};
use crate::config::LogKind;
use crate::evaluate::audit::Ledger;
use crate::wiring::OperatorLog;
use actors::ports::Stream;

/// Flags of `regrade audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: ConfigArgs,
    /// Fail while anything is under way, too: a query without an answer, an episode without a
    /// verdict.
    #[arg(long)]
    settled: bool,
}

/// Reads every stream and prints the balance as one JSON line.
///
/// # Errors
/// A log that cannot be read, or a law that does not hold.
pub async fn run(args: Args) -> Result<(), CliError> {
    let config = args.settings.load(Vec::new())?;
    if config.log.kind == LogKind::Memory {
        return Err(CliError::Usage(
            "`log.kind = \"memory\"` has nothing to audit; give the --config of the service"
                .to_owned(),
        ));
    }
    let failed = |e| CliError::failed("cannot read the event log", e);
    let log = OperatorLog::open(&config)
        .await
        .map_err(|e| CliError::failed("cannot open the event log", e))?;
    let mut ledger = Ledger::default();
    for stream in Stream::ALL {
        for record in log.read(stream).await.map_err(failed)? {
            ledger.take(&record);
        }
    }
    let audit = ledger.balance();
    let line = serde_json::to_string(&audit)
        .map_err(|e| CliError::failed("cannot write the balance", e))?;
    say(line)?;
    let breaches = audit.breaches();
    if !breaches.is_empty() {
        return Err(CliError::because(format!(
            "the log does not balance: {}",
            breaches.join("; ")
        )));
    }
    if args.settled && !audit.is_settled() {
        return Err(CliError::because(format!(
            "{} queries have no answer and {} episodes no verdict yet",
            audit.queries_pending, audit.episodes_pending
        )));
    }
    Ok(())
}

//! Runs a world for some seeds and prints one JSON line each.

use clap::Parser;
use simulations::worlds::gate;
use simulations::worlds::planted::{Planted, Run, run};
use std::io::Write as _;

/// Worlds with a known best answer.
#[derive(Debug, Parser)]
enum World {
    /// Puzzles whose good documents are planted.
    Planted {
        /// Seeds, one run each.
        #[arg(long, value_delimiter = ',', default_value = "0,1,2,3")]
        seeds: Vec<u64>,
        /// What one document costs, in (0, 0.1].
        #[arg(long, default_value_t = 0.05)]
        price: f64,
    },
    /// Riddles of which some need no search and some cannot be helped.
    Gate {
        /// Seeds, one run each.
        #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
        seeds: Vec<u64>,
    },
}

fn main() -> anyhow::Result<()> {
    // On a paused clock waiting costs nothing, and a seed repeats its outcome.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    match World::parse() {
        World::Planted { seeds, price } => {
            for seed in seeds {
                let outcome = runtime.block_on(run(Planted { seed, price }, Run::default()))?;
                tell(serde_json::to_value(&outcome)?, outcome.closed())?;
            }
        }
        World::Gate { seeds } => {
            for seed in seeds {
                let run = gate::Run::default();
                let outcome = runtime.block_on(gate::run(seed, &run, &mut |_| {}))?;
                tell(serde_json::to_value(&outcome)?, outcome.closed())?;
            }
        }
    }
    Ok(())
}

fn tell(mut line: serde_json::Value, closed: f64) -> anyhow::Result<()> {
    line["gap_closed"] = closed.into();
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

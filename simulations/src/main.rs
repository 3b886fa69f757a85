//! Runs a world for some seeds and prints one JSON line each.

use clap::Parser;
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
}

fn main() -> anyhow::Result<()> {
    let World::Planted { seeds, price } = World::parse();
    // On a paused clock waiting costs nothing, and a seed repeats its outcome.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    for seed in seeds {
        let outcome = runtime.block_on(run(Planted { seed, price }, Run::default()))?;
        let mut line = serde_json::to_value(&outcome)?;
        line["gap_closed"] = outcome.closed().into();
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(())
}

//! Runs a world for some seeds and prints one JSON line each, or prints the tables of the
//! statistics behind promotion.

use anyhow::Context as _;
use clap::Parser;
use simulations::statistics::{self, Options};
use simulations::worlds::gate;
use simulations::worlds::planted::{Planted, Run, run};
use std::io::Write as _;
use std::path::PathBuf;

/// Worlds with a known best answer, and what the statistics of promotion do in simulation.
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
    /// Error rates and power of the tests that promote, as tables.
    Promotion {
        /// Experiments behind every error rate, at least 100.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
        experiments: u64,
        /// Every figure is a function of it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only these tables, by name; all by default.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Also write the tables to this file, as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
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
        World::Promotion { experiments, seed, only, json } => {
            let tables = statistics::tables(&Options { experiments, seed }, &only)?;
            for table in &tables {
                writeln!(std::io::stdout(), "{table}")?;
            }
            if let Some(path) = json {
                let text = serde_json::to_string_pretty(&tables)?;
                std::fs::write(&path, text)
                    .with_context(|| format!("writing the tables to {}", path.display()))?;
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

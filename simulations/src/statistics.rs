//! What the statistics of promotion do in simulation: error rates, power, and the queries they
//! need.
//!
//! Every table is a function of [`Options`]: the same seed prints the same figures. The rules and
//! bounds are those of [`actors::sequential`] and [`actors::interleaving`], none is written again.

pub mod binomial;
pub mod coverage;
pub mod documents;
pub mod effects;
pub mod guards;
pub mod interleaved;
pub mod judge_swap;
pub mod nulls;
pub mod rewards;
pub mod rollbacks;
pub mod table;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rayon::prelude::*;
use table::Table;

/// How much is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Experiments behind every error rate, ≥ 1. Powers that take long runs use fewer and say so.
    pub experiments: u64,
    /// Every figure is a function of it.
    pub seed: u64,
}

impl Options {
    /// The generator of experiment `at` of the part `name`: no two share a stream.
    pub fn rng(&self, name: &str, at: u64) -> SmallRng {
        // FNV-1a of the name; `seed_from_u64` spreads what is left.
        let start = 0xcbf2_9ce4_8422_2325 ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hashed = name
            .bytes()
            .chain(at.to_le_bytes())
            .fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        SmallRng::seed_from_u64(hashed)
    }

    /// Runs `experiments` experiments of the part `name` on all cores, in order of their number.
    pub fn run<T: Send>(
        &self,
        name: &str,
        experiments: u64,
        experiment: impl Fn(&mut SmallRng) -> T + Sync,
    ) -> Vec<T> {
        (0..experiments).into_par_iter().map(|at| experiment(&mut self.rng(name, at))).collect()
    }
}

/// Computes some tables.
pub type Part = fn(&Options) -> anyhow::Result<Vec<Table>>;

/// The tables that `simulations promotion` prints, by the name that `--only` takes.
pub const PARTS: [(&str, Part); 7] = [
    ("aa", nulls::tables),
    ("effects", effects::tables),
    ("guards", guards::tables),
    ("interleaving", interleaved::tables),
    ("coverage", coverage::tables),
    ("judge_swap", judge_swap::tables),
    ("rollbacks", rollbacks::tables),
];

/// The tables of the parts named, all if none is.
///
/// # Errors
/// A name that is not in [`PARTS`], or a part that fails.
pub fn tables(options: &Options, only: &[String]) -> anyhow::Result<Vec<Table>> {
    let known = PARTS.map(|(name, _)| name);
    if let Some(name) = only.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("--only: no table named `{name}`, expected some of {}", known.join(", "));
    }
    let mut all = Vec::new();
    for (name, part) in PARTS {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            all.extend(part(options)?);
        }
    }
    Ok(all)
}

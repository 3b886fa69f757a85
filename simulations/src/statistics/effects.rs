//! A/B with a planted effect: how often a worse policy is promoted, how soon it is found harmful,
//! and how soon a better one wins.

use super::Options;
use super::rewards::{MEAN, Rewards};
use super::table::{Cell, Table};
use actors::sequential::Moments;
use actors::sequential::bernstein::EmpiricalBernstein;
use actors::sequential::msprt::Msprt;
use actors::sequential::rule::{Finding, Rule};
use rand::rngs::SmallRng;

/// Observations of each arm between two looks.
const BETWEEN: u64 = 100;
/// Sample sizes at which power is printed, observations an arm.
const SIZES: [u64; 6] = [5_000, 10_000, 20_000, 50_000, 100_000, 200_000];
/// Sum of the 95% and 80% quantiles of the normal distribution.
const POWER: f64 = 1.644_853_626_951_472_2 + 0.841_621_233_572_914_3;

/// A planted effect and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// Relative: -0.02 is 2% worse.
    pub effect: f64,
    /// The rule that decides.
    pub rule: Rule,
    /// Observations an arm at which an experiment ends undecided.
    pub horizon: u64,
}

impl Planted {
    fn worse(percent: f64, horizon: u64) -> Self {
        Self { effect: -percent / 100.0, rule: Rule::default(), horizon }
    }

    fn non_inferior(percent: f64, margin_percent: f64, horizon: u64) -> Self {
        let rule = Rule { margin: margin_percent / 100.0 * MEAN, ..Rule::default() };
        Self { rule, ..Self::worse(percent, horizon) }
    }

    /// Runs until the first finding.
    pub fn run(&self, rng: &mut SmallRng) -> Ended {
        let (better, usual) = (Rewards::with_effect(self.effect), Rewards::with_effect(0.0));
        let (mut treatment, mut control) = (Moments::default(), Moments::default());
        while control.count < self.horizon {
            treatment.merge(&better.batch(BETWEEN, rng));
            control.merge(&usual.batch(BETWEEN, rng));
            let finding = self.rule.look(&treatment, &control).finding;
            if finding != Finding::Undecided {
                return Ended { finding, count: control.count };
            }
        }
        Ended { finding: Finding::Undecided, count: self.horizon }
    }

    /// Observations an arm until the mSPRT rejects.
    fn run_msprt(&self, rng: &mut SmallRng) -> Option<u64> {
        let (better, usual) = (Rewards::with_effect(self.effect), Rewards::with_effect(0.0));
        let (mut treatment, mut control) = (Moments::default(), Moments::default());
        let mut test = Msprt::new(0.0, self.effect * MEAN);
        while control.count < self.horizon {
            treatment.merge(&better.batch(BETWEEN, rng));
            control.merge(&usual.batch(BETWEEN, rng));
            let enough = control.count >= self.rule.minimum;
            if enough && test.look_difference(&treatment, &control) <= self.rule.alpha_harm {
                return Some(control.count);
            }
        }
        None
    }

    /// Observations an arm until the empirical-Bernstein bounds of the arms lie apart.
    fn run_bernstein(&self, rng: &mut SmallRng) -> Option<u64> {
        let (better, usual) = (Rewards::with_effect(self.effect), Rewards::with_effect(0.0));
        let alpha = self.rule.alpha_harm / 2.0;
        let mut treatment = EmpiricalBernstein::one_sided((0.0, 1.0), alpha)?;
        let mut control = treatment;
        (1..=self.horizon).find(|_| {
            let _in_range = (treatment.push(better.draw(rng)), control.push(usual.draw(rng)));
            treatment.interval().high < control.interval().low
        })
    }

    /// Observations an arm that a fixed-sample one-sided z-test needs for 80% power.
    fn fixed(&self) -> u64 {
        let control = Rewards::with_effect(0.0);
        // Exact moments of the mixture at an even grid of luck.
        let grid = 1u32 << 16;
        let variance = |rewards: Rewards| {
            Moments::of((0..grid).map(|at| rewards.at(at << 16 | 1 << 15))).variance()
        };
        let both = variance(control) + variance(Rewards::with_effect(self.effect));
        let distance = (self.effect * MEAN).abs();
        (both * (POWER / distance).powi(2)).ceil() as u64
    }
}

/// How an experiment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Undecided at the horizon, or the first finding.
    pub finding: Finding,
    /// Observations an arm until then.
    pub count: u64,
}

/// The `level` quantile of the counts at which experiments ended in a finding, where the others are
/// larger than all; `None` if it lies among them.
pub fn quantile(mut counts: Vec<u64>, experiments: usize, level: f64) -> Option<u64> {
    counts.sort_unstable();
    counts.get((level * experiments as f64).ceil() as usize - 1).copied()
}

/// Harm by effect, non-inferiority, power by sample size.
///
/// # Errors
/// None in practice: an interval of more hits than experiments.
pub fn tables(options: &Options) -> anyhow::Result<Vec<Table>> {
    Ok(vec![harms(options)?, wins(options)?])
}

fn harms(options: &Options) -> anyhow::Result<Table> {
    let runs = options.experiments;
    let few = (runs / 5).max(1);
    let title = format!(
        "A worse policy: share of {runs} experiments in which it is promoted, and observations an \
         arm until it is found harmful"
    );
    let columns = [
        "planted",
        "promoted",
        "found harmful",
        "median",
        "p90",
        "mSPRT median",
        "Bernstein median",
        "fixed z-test, power 80%",
    ];
    let mut table = Table::new(&title, &columns);
    let rows = [
        ("1% worse", Planted::worse(1.0, 800_000)),
        ("2% worse", Planted::worse(2.0, 300_000)),
        ("5% worse", Planted::worse(5.0, 100_000)),
        ("10% worse", Planted::worse(10.0, 50_000)),
        ("1% worse, margin 1%", Planted::non_inferior(1.0, 1.0, 100_000)),
        ("2% worse, margin 1%", Planted::non_inferior(2.0, 1.0, 300_000)),
    ];
    for (name, planted) in rows {
        let ended = options.run(name, runs, |rng| planted.run(rng));
        let counts = |wanted: Finding| -> Vec<u64> {
            ended.iter().filter(|ended| ended.finding == wanted).map(|ended| ended.count).collect()
        };
        let harms = counts(Finding::Harm);
        let compared = planted.rule.margin == 0.0;
        let msprt: Vec<u64> = match compared {
            true => options.run(name, few, |rng| planted.run_msprt(rng)),
            false => Vec::new(),
        }
        .into_iter()
        .flatten()
        .collect();
        // Its bounds are pushed one by one, so only short experiments are run with it.
        let bernstein: Vec<u64> = match compared && planted.horizon <= 100_000 {
            true => options.run(name, few, |rng| planted.run_bernstein(rng)),
            false => Vec::new(),
        }
        .into_iter()
        .flatten()
        .collect();
        table.rows.push(vec![
            name.into(),
            Cell::share(counts(Finding::Win).len() as u64, runs)?,
            Cell::share(harms.len() as u64, runs)?,
            Cell::count(quantile(harms.clone(), ended.len(), 0.5)),
            Cell::count(quantile(harms, ended.len(), 0.9)),
            Cell::count(quantile(msprt, few as usize, 0.5)),
            Cell::count(quantile(bernstein, few as usize, 0.5)),
            Cell::Count(planted.fixed()),
        ]);
    }
    table.notes = vec![
        format!(
            "Effects and margins are shares of the mean reward {MEAN}; equal arms, a look every \
             {BETWEEN} observations of each, until the first finding or the horizon."
        ),
        format!("mSPRT (prior as wide as the effect, two-sided) and Bernstein: {few} experiments."),
    ];
    Ok(table)
}

fn wins(options: &Options) -> anyhow::Result<Table> {
    let runs = (options.experiments / 5).max(1);
    let title = format!("A better policy: share of {runs} experiments promoted within N an arm");
    let sizes: Vec<String> = SIZES.iter().map(|size| format!("N = {size}")).collect();
    let columns: Vec<&str> = ["planted"]
        .into_iter()
        .chain(sizes.iter().map(String::as_str))
        .chain(["harm alarm", "fixed z-test, power 80%"])
        .collect();
    let mut table = Table::new(&title, &columns);
    for (name, effect) in [("1% better", 0.01), ("2% better", 0.02), ("5% better", 0.05)] {
        let planted = Planted { effect, rule: Rule::default(), horizon: SIZES[SIZES.len() - 1] };
        let ended = options.run(name, runs, |rng| planted.run(rng));
        let mut row = vec![name.into()];
        for size in SIZES {
            let won = |ended: &&Ended| ended.finding == Finding::Win && ended.count <= size;
            row.push(Cell::share(ended.iter().filter(won).count() as u64, runs)?);
        }
        let harms = ended.iter().filter(|ended| ended.finding == Finding::Harm).count();
        row.push(Cell::share(harms as u64, runs)?);
        row.push(Cell::Count(planted.fixed()));
        table.rows.push(row);
    }
    Ok(table)
}

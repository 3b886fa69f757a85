//! What stands beside the reward: the tail of the latency, the size of the arms, and several
//! candidates at once.

use super::Options;
use super::effects::quantile;
use super::rewards::{MEAN, Rewards};
use super::table::{Cell, Table};
use actors::sequential::Moments;
use actors::sequential::discovery::e_benjamini_hochberg;
use actors::sequential::quantile::{Exceedance, excess_low};
use actors::sequential::ratio::mismatch;
use actors::sequential::rule::Rule;
use rand::Rng as _;
use rand::rngs::SmallRng;
use statrs::distribution::{ContinuousCDF as _, Normal};

/// Observations of both arms together after which a guard is given up.
const HORIZON: u64 = 100_000;
/// Error of every guard.
const ALPHA: f64 = 0.05;
/// Pairs at which the bound of the tail is tightest.
const TUNED_FOR: f64 = 2_000.0;
/// Observations of each arm before its tail is judged.
const MINIMUM: u64 = 100;
/// Standard deviation of the logarithm of a latency.
const SPREAD: f64 = 0.5;
/// Candidates that share a control, observations of each between two looks, and looks.
const CANDIDATES: usize = 10;
const BETWEEN: u64 = 500;
const LOOKS: usize = 40;

/// Observations until the tail is found heavier where all latencies are `factor` times as long.
fn tail(factor: f64, share: f64, rng: &mut SmallRng) -> Option<u64> {
    let normal = Normal::standard();
    // Control's share above its own p95 is 5%.
    let slow = normal.sf(normal.inverse_cdf(0.95) - factor.ln() / SPREAD);
    let (mut treatment, mut control) = (Exceedance::default(), Exceedance::default());
    (1..=HORIZON).find(|at| {
        let treated = rng.random_bool(share);
        let (arm, above) = if treated { (&mut treatment, slow) } else { (&mut control, 0.05) };
        // A latency above the threshold of 1, or below.
        arm.push(if rng.random_bool(above) { 2.0 } else { 0.0 }, 1.0);
        at % 10 == 0
            && treatment.total.min(control.total) >= MINIMUM
            && treatment.share() > control.share()
            && excess_low(&treatment, &control, ALPHA, TUNED_FOR).is_some_and(|low| low > 0.0)
    })
}

/// Units until the arms are found to be of the wrong size where treatment loses `lost` of its
/// units.
fn sizes(lost: f64, share: f64, rng: &mut SmallRng) -> Option<u64> {
    let (mut treated, mut held) = (0, 0);
    (1..=HORIZON).find(|at| {
        match rng.random_bool(share) {
            true if rng.random_bool(lost) => {}
            true => treated += 1,
            false => held += 1,
        }
        at % 10 == 0 && mismatch((treated, held), share) >= 1.0 / ALPHA
    })
}

/// What is found among candidates at the first look that finds anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discovered {
    /// Share of findings that are false, 0 without findings.
    pub false_share: f64,
    /// Findings that are true.
    pub found: usize,
}

/// Candidates of which the first `better` are 5% better than the control they share; with e-BH over
/// their evidence, or each tested by itself.
pub fn candidates(better: usize, together: bool, rng: &mut SmallRng) -> Discovered {
    let rule = Rule::default();
    let mut control = Moments::default();
    let mut arms = [Moments::default(); CANDIDATES];
    for _ in 0..LOOKS {
        control.merge(&Rewards::with_effect(0.0).batch(BETWEEN, rng));
        for (at, arm) in arms.iter_mut().enumerate() {
            let effect = if at < better { 0.05 } else { 0.0 };
            arm.merge(&Rewards::with_effect(effect).batch(BETWEEN, rng));
        }
        let evidence = arms.map(|arm| rule.look(&arm, &control).evidence_win);
        let found = match together {
            true => e_benjamini_hochberg(&evidence, ALPHA),
            false => evidence.iter().map(|e| *e >= 1.0 / ALPHA).collect(),
        };
        let all = found.iter().filter(|found| **found).count();
        let right = found[..better].iter().filter(|found| **found).count();
        if all > 0 {
            return Discovered { false_share: (all - right) as f64 / all as f64, found: right };
        }
    }
    Discovered::default()
}

/// Guard-rails, sizes of the arms, several candidates.
///
/// # Errors
/// None in practice: an interval of more hits than experiments.
pub fn tables(options: &Options) -> anyhow::Result<Vec<Table>> {
    Ok(vec![alarms(options)?, discoveries(options)])
}

fn alarms(options: &Options) -> anyhow::Result<Table> {
    let runs = (options.experiments / 5).max(1);
    let title = format!(
        "Guards: share of {runs} experiments with an alarm within {HORIZON} observations of both \
         arms, and how many until it"
    );
    let mut table = Table::new(&title, &["guard", "shares", "alarm", "median", "p90"]);
    let mut row = |name: &str, shares: &str, found: Vec<Option<u64>>| -> anyhow::Result<()> {
        let hits: Vec<u64> = found.into_iter().flatten().collect();
        table.rows.push(vec![
            name.into(),
            shares.into(),
            Cell::share(hits.len() as u64, runs)?,
            Cell::count(quantile(hits.clone(), runs as usize, 0.5)),
            Cell::count(quantile(hits, runs as usize, 0.9)),
        ]);
        Ok(())
    };
    for (shares, share) in [("50/50", 0.5), ("5/95", 0.05)] {
        for (name, factor) in
            [("p95 unchanged", 1.0), ("p95 10% longer", 1.1), ("p95 30% longer", 1.3)]
        {
            row(name, shares, options.run(name, runs, |rng| tail(factor, share, rng)))?;
        }
        for (name, lost) in
            [("units all there", 0.0), ("2% of units lost", 0.02), ("10% of units lost", 0.1)]
        {
            row(name, shares, options.run(name, runs, |rng| sizes(lost, share, rng)))?;
        }
    }
    table.notes = vec![format!(
        "p95: share above control's p95, log-normal latencies with spread {SPREAD}; one-sided at \
         5%. Units: Beta-Binomial mixture at 5%. A look every 10 observations."
    )];
    Ok(table)
}

fn discoveries(options: &Options) -> Table {
    let runs = (options.experiments / 5).max(1);
    let title = format!(
        "{CANDIDATES} candidates that share a control, stopped at the first look that finds any: \
         {runs} experiments"
    );
    let columns = ["better ones", "e-BH: false share", "e-BH: true found", "alone: false share"];
    let mut table = Table::new(&title, &columns);
    for better in [0, 3] {
        let run = |together: bool| {
            let ended = options.run(&format!("candidates {better}"), runs, |rng| {
                candidates(better, together, rng)
            });
            let mean = |of: fn(&Discovered) -> f64| {
                100.0 * ended.iter().map(of).sum::<f64>() / runs as f64
            };
            (mean(|ended| ended.false_share), mean(|ended| f64::from(u8::from(ended.found > 0))))
        };
        let ((together, found), (alone, _)) = (run(true), run(false));
        let percent = |value: f64| Cell::Text(format!("{value:.2}%"));
        let found = if better == 0 { Cell::Missing } else { percent(found) };
        table.rows.push(vec![
            better.to_string().as_str().into(),
            percent(together),
            found,
            percent(alone),
        ]);
    }
    table.notes = vec![format!(
        "Better ones by 5% of the mean {MEAN}; a look every {BETWEEN} observations an arm, {LOOKS} \
         looks; rate asked for 5%. True found: experiments that found one."
    )];
    table
}

//! Interleaving against A/B: queries needed for the same power, and what happens between equals.

use super::Options;
use super::documents::{Citing, Query, Rankers};
use super::effects::quantile;
use super::table::{Cell, Table};
use actors::interleaving::{Outcome, Preference};
use actors::sequential::Moments;
use actors::sequential::confidence::asymptotic_low;
use actors::sequential::rule::{Finding, Rule};
use rand::Rng as _;
use rand::rngs::SmallRng;
use rayon::prelude::*;

/// Queries of the population that experiments draw from.
const POPULATION: u64 = 100_000;
/// Queries of an A/A experiment.
const LOOKED_AT: u64 = 500;
/// Power at which sample sizes are compared.
const AT_POWER: f64 = 0.8;
/// Error of every test.
const ALPHA: f64 = 0.05;
/// Queries after which an experiment is given up.
const HORIZON: u64 = 2_000_000;
const SHARP: Citing = Citing { useful: 0.7, useless: 0.05 };
const BLURRED: Citing = Citing { useful: 0.5, useless: 0.25 };
const INDIFFERENT: Citing = Citing { useful: 0.4, useless: 0.4 };
/// Skill of A.
const SKILL: f64 = 2.0;

/// The queries that a method needs at 80% power, and how large the difference is that it finds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needed {
    /// A/B, both arms together.
    pub split: Option<u64>,
    /// Both answers to every query.
    pub paired: Option<u64>,
    /// Interleaving, credit by sharp citations.
    pub cited: Option<u64>,
    /// Interleaving, credit by citations that are hardly better than chance.
    pub blurred: Option<u64>,
    /// Interleaving, credit by ablation.
    pub ablated: Option<u64>,
    /// How much better B's mean reward is than A's.
    pub lift: f64,
}

impl Needed {
    /// Measures it with a B of this skill in so many experiments a method.
    pub fn measure(options: &Options, skill: f64, experiments: u64) -> Self {
        let rankers = Rankers { skill: [SKILL, skill], shown: [5, 5] };
        let name = |part: &str| format!("interleaving {skill} {part}");
        let population: Vec<Query> =
            options.run(&name("world"), POPULATION, |rng| Query::draw(&rankers, rng));
        let worth = |ranker: usize| -> f64 {
            population.par_iter().map(|query| query.worth(ranker)).collect::<Vec<_>>().iter().sum()
        };
        let power = |part: &str, test: &(dyn Fn(&mut SmallRng) -> Option<u64> + Sync)| {
            let found = options.run(&name(part), experiments, test);
            quantile(found.into_iter().flatten().collect(), experiments as usize, AT_POWER)
        };
        let credit = |judge: &(dyn Fn(&Query, &mut SmallRng) -> Outcome + Sync),
                      rng: &mut SmallRng| preferred(&population, judge, rng);
        Self {
            lift: worth(1) / worth(0) - 1.0,
            split: power("split", &|rng| split(&population, rng)),
            paired: power("paired", &|rng| paired(&population, rng)),
            cited: power("cited", &|rng| credit(&|query, rng| query.by_citation(&SHARP, rng), rng)),
            blurred: power("blurred", &|rng| {
                credit(&|query, rng| query.by_citation(&BLURRED, rng), rng)
            }),
            ablated: power("ablated", &|rng| credit(&|query, rng| query.by_ablation(rng), rng)),
        }
    }
}

fn any<'a>(population: &'a [Query], rng: &mut SmallRng) -> &'a Query {
    &population[rng.random_range(0..population.len())]
}

/// Queries until A/B finds the better policy to win.
fn split(population: &[Query], rng: &mut SmallRng) -> Option<u64> {
    let rule = Rule { alpha_win: ALPHA, ..Rule::default() };
    let mut arms = [Moments::default(); 2];
    (1..=HORIZON).find(|count| {
        let arm = usize::from(rng.random::<bool>());
        arms[arm].push(any(population, rng).reward(arm, rng), 0.0);
        count % 50 == 0 && rule.look(&arms[1], &arms[0]).finding == Finding::Win
    })
}

/// Queries until the mean difference of two answers to the same query is above 0.
fn paired(population: &[Query], rng: &mut SmallRng) -> Option<u64> {
    let rule = Rule { alpha_win: ALPHA, ..Rule::default() };
    let mut apart = Moments::default();
    (1..=HORIZON).find(|count| {
        let query = any(population, rng);
        apart.push(query.reward(1, rng) - query.reward(0, rng), 0.0);
        let low = || asymptotic_low(&apart, rule.alpha_win, rule.tuned_for);
        *count >= rule.minimum && count % 10 == 0 && low().is_some_and(|low| low > 0.0)
    })
}

/// Queries until interleaving names B.
fn preferred(
    population: &[Query],
    judge: &(dyn Fn(&Query, &mut SmallRng) -> Outcome + Sync),
    rng: &mut SmallRng,
) -> Option<u64> {
    let mut preference = Preference::default();
    (1..=HORIZON / 10).find(|_| {
        preference.push(judge(any(population, rng), rng));
        preference.winner(ALPHA) == Outcome::BWins
    })
}

/// Experiments between rankers that are equal, or that an answer does not tell apart.
#[derive(Clone, Copy, Debug)]
pub struct Equals {
    rankers: Rankers,
    citing: Option<Citing>,
}

impl Equals {
    /// The preference over [`LOOKED_AT`] queries, each drawn anew, and whether a winner was named
    /// at any look.
    fn run(&self, rng: &mut SmallRng) -> (Preference, bool) {
        let mut preference = Preference::default();
        let mut named = false;
        for _ in 0..LOOKED_AT {
            let query = Query::draw(&self.rankers, rng);
            preference.push(match &self.citing {
                Some(citing) => query.by_citation(citing, rng),
                None => query.by_ablation(rng),
            });
            named |= preference.winner(ALPHA) != Outcome::Tie;
        }
        (preference, named)
    }

    /// Wins of A and of B over all experiments, and experiments in which a winner was named.
    pub fn measure(&self, options: &Options, name: &str, experiments: u64) -> [u64; 3] {
        let ended = options.run(name, experiments, |rng| self.run(rng));
        ended.iter().fold([0; 3], |[a, b, named], (preference, is_named)| {
            [a + preference.wins_a, b + preference.wins_b, named + u64::from(*is_named)]
        })
    }

    /// The cases that are printed, by name.
    pub fn cases() -> [(&'static str, Self); 4] {
        let equal = Rankers { skill: [SKILL; 2], shown: [5, 5] };
        let apart = Rankers { skill: [SKILL, 3.0 * SKILL], shown: [5, 5] };
        let longer = Rankers { skill: [SKILL; 2], shown: [3, 8] };
        [
            ("equal rankers, citations", Self { rankers: equal, citing: Some(SHARP) }),
            ("equal rankers, ablation", Self { rankers: equal, citing: None }),
            ("other ranker, random citing", Self { rankers: apart, citing: Some(INDIFFERENT) }),
            (
                "3 against 8 shown, random citing",
                Self { rankers: longer, citing: Some(INDIFFERENT) },
            ),
        ]
    }
}

/// Queries needed by method, and the draft between equals.
///
/// # Errors
/// None in practice: an interval of more hits than experiments.
pub fn tables(options: &Options) -> anyhow::Result<Vec<Table>> {
    Ok(vec![needed(options), equals(options)?])
}

fn needed(options: &Options) -> Table {
    let runs = (options.experiments / 20).max(20);
    let title = format!(
        "Interleaving against A/B: queries at 80% power, error 5% over all looks ({runs} \
         experiments each)"
    );
    let columns = [
        "B's reward above A's",
        "A/B",
        "both answers",
        "citations",
        "ratio to A/B",
        "blurred citations",
        "ratio to A/B",
        "ablation",
        "ratio to A/B",
    ];
    let mut table = Table::new(&title, &columns);
    for skill in [2.1, 2.25, 2.5] {
        let found = Needed::measure(options, skill, runs);
        let ratio = |needed: Option<u64>| match (found.split, needed) {
            (Some(split), Some(needed)) => Cell::Number(needed as f64 / split as f64, 4),
            _ => Cell::Missing,
        };
        table.rows.push(vec![
            Cell::Text(format!("{:.2}%", 100.0 * found.lift)),
            Cell::count(found.split),
            Cell::count(found.paired),
            Cell::count(found.cited),
            ratio(found.cited),
            Cell::count(found.blurred),
            ratio(found.blurred),
            Cell::count(found.ablated),
            ratio(found.ablated),
        ]);
    }
    table.notes = vec![
        "A/B counts both arms; its rule is one-sided, interleaving's sign test two-sided. Both \
         answers: two a query. Ablation: six."
            .to_owned(),
        format!(
            "20 candidates, 15% useful, 5 shown; score = skill x useful + logistic noise (shared \
             1, own 0.5), A's skill {SKILL}; right with probability answerable x (1 - 0.5^useful \
             shown)."
        ),
        format!(
            "A useful document shown is cited with probability {} (blurred {}), a useless one {} \
             ({}).",
            SHARP.useful, BLURRED.useful, SHARP.useless, BLURRED.useless
        ),
    ];
    table
}

fn equals(options: &Options) -> anyhow::Result<Table> {
    let runs = (options.experiments / 5).max(1);
    let title = format!(
        "Interleaving between equals: {runs} experiments of {LOOKED_AT} queries, a look after each"
    );
    let columns = ["rankers", "B's share of decided queries", "winner named"];
    let mut table = Table::new(&title, &columns);
    for (name, case) in Equals::cases() {
        let [wins_a, wins_b, named] = case.measure(options, name, runs);
        table.rows.push(vec![
            name.into(),
            Cell::share(wins_b, wins_a + wins_b)?,
            Cell::share(named, runs)?,
        ]);
    }
    Ok(table)
}

//! The claims of the tables of promotion, with fewer experiments: no figure here is looser than the
//! claim by more than chance allows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use actors::sequential::rule::{Finding, Rule};
use simulations::statistics::effects::{Ended, Planted, quantile};
use simulations::statistics::guards;
use simulations::statistics::interleaved::{Equals, Needed};
use simulations::statistics::nulls::{self, Found};
use simulations::statistics::rewards::MEAN;
use simulations::statistics::table::{Cell, Table};
use simulations::statistics::{Options, tables};

const OPTIONS: Options = Options { experiments: 400, seed: 7 };

/// The most hits that 400 experiments have at 5% each but for once in a thousand times
/// (scipy: `binom.ppf(0.999, 400, 0.05)`).
const MOST: usize = 35;

fn ended(name: &str, planted: Planted) -> Vec<Ended> {
    OPTIONS.run(name, OPTIONS.experiments, |rng| planted.run(rng))
}

fn counts(ended: &[Ended], wanted: Finding) -> Vec<u64> {
    ended.iter().filter(|ended| ended.finding == wanted).map(|ended| ended.count).collect()
}

#[test]
fn equal_policies_are_promoted_or_alarmed_about_no_more_often_than_alpha() {
    for share in [0.5, 0.05] {
        let found: Vec<Found> =
            OPTIONS.run("test aa", 400, |rng| nulls::constant(Rule::default(), share, false, rng));
        let hits = |is: fn(&Found) -> bool| found.iter().filter(|found| is(found)).count();
        assert!(hits(|found| found.win) <= MOST, "{share}: {} wins", hits(|found| found.win));
        assert!(hits(|found| found.harm) <= MOST, "{share}: {} harms", hits(|found| found.harm));
        assert!(hits(|found| found.msprt) <= MOST);
        // What all this is for: the test for one look is wrong about once in three.
        assert!(hits(|found| found.fixed) > 80);
    }
}

#[test]
fn a_worse_policy_is_not_promoted_and_soon_found_harmful() {
    let rule = Rule::default();
    let ended = ended("test harm", Planted { effect: -0.05, rule, horizon: 50_000 });
    assert!(counts(&ended, Finding::Win).len() <= MOST);
    let harms = counts(&ended, Finding::Harm);
    assert!(harms.len() >= 380, "{} found", harms.len());
    // A fixed sample of known size needs 4,169 an arm for 80% power.
    let median = quantile(harms, ended.len(), 0.5).unwrap();
    assert!(median <= 6_000, "median {median}");
}

#[test]
fn a_policy_as_much_worse_as_the_margin_allows_is_promoted_no_more_often_than_alpha() {
    let rule = Rule { margin: 0.02 * MEAN, ..Rule::default() };
    let ended = ended("test margin", Planted { effect: -0.02, rule, horizon: 20_000 });
    let wins = counts(&ended, Finding::Win).len();
    assert!(wins <= MOST, "{wins} promoted");
}

#[test]
fn a_better_policy_is_promoted() {
    let rule = Rule::default();
    let ended = ended("test win", Planted { effect: 0.05, rule, horizon: 20_000 });
    let wins = counts(&ended, Finding::Win).len();
    assert!(wins >= 380, "{wins} promoted");
}

#[test]
fn candidates_that_share_a_control_are_found_with_few_false_ones() {
    let run = |together: bool| {
        OPTIONS.run("test candidates", 200, |rng| guards::candidates(0, together, rng))
    };
    let wrong = |together: bool| run(together).iter().filter(|d| d.false_share > 0.0).count();
    // With none better every finding is false. binom.ppf(0.999, 200, 0.05).
    assert!(wrong(true) <= 21, "{} of 200", wrong(true));
    assert!(wrong(false) > wrong(true), "{} of 200 without control", wrong(false));
}

#[test]
fn interleaving_needs_at_most_a_tenth_of_the_queries_of_a_split() {
    let found = Needed::measure(&OPTIONS, 2.5, 60);
    assert!(found.lift > 0.04 && found.lift < 0.08, "{found:?}");
    let (split, cited) = (found.split.unwrap(), found.cited.unwrap());
    assert!(cited * 10 <= split, "{found:?}");
}

#[test]
fn interleaving_prefers_neither_of_two_equals() {
    for (name, case) in Equals::cases() {
        let [wins_a, wins_b, named] = case.measure(&OPTIONS, name, 200);
        let (decided, apart) = ((wins_a + wins_b) as f64, wins_a as f64 - wins_b as f64);
        // Four standard deviations.
        assert!(apart.abs() < 4.0 * decided.sqrt(), "{name}: {wins_a} and {wins_b}");
        // binom.ppf(0.999, 200, 0.05).
        assert!(named <= 21, "{name}: {named} named");
    }
}

#[test]
fn a_seed_repeats_its_figures_and_an_unknown_table_is_refused() {
    let options = Options { experiments: 20, seed: 3 };
    let text = || {
        let found =
            options.run("again", 20, |rng| nulls::constant(Rule::default(), 0.5, true, rng));
        format!("{found:?}")
    };
    assert_eq!(text(), text());
    let refused = tables(&options, &["nothing".to_owned()]).unwrap_err().to_string();
    assert!(refused.contains("`nothing`") && refused.contains("effects"), "{refused}");
}

#[test]
fn a_table_lines_its_columns_up() {
    let mut table = Table::new("Title", &["name", "share"]);
    table.rows.push(vec!["first".into(), Cell::share(0, 100).unwrap()]);
    table.rows.push(vec!["b".into(), Cell::Missing]);
    table.notes.push("Note.".to_owned());
    let shown = table.to_string();
    let expected = "Title\n  name                share\n  first  0.00% [0.00, 3.62]\n\
                    \x20 b                       -\n  Note.\n";
    assert_eq!(shown, expected);
    let json = serde_json::to_value(&table).unwrap();
    assert_eq!(json["rows"][0][1]["share"]["share"], 0.0);
    assert_eq!(json["rows"][1][1], "missing");
}

//! Off-policy estimates on the Open Bandit logs: real clicks on recommended garments under two
//! policies, uniform chance and Bernoulli Thompson sampling (BTS), 10,000 rows each of one week.
//!
//! What can be known from the columns: the propensity is the logging policy's. BTS without context
//! shows an item at a position with a probability that is the same for everybody, and its own log
//! counts it; so the clicks of BTS can be estimated from the uniform log (its mean over the week).
//! The uniform policy is 1/46 for every item, so it can be written down exactly on the log of BTS,
//! where most of its weight falls on what BTS hardly ever tried: that is refused.
//!
//! What is not shown: 46 clicks a log leave both means wide, so agreement here excludes gross
//! errors and no more; and frequencies of a policy that learned all week are its average, not its
//! history.

use flate2::read::GzDecoder;
use regrade::evaluate::off_policy::{
    Diagnostics, Estimator, OffPolicyConfig, Refusal, Row, Spread, evaluate,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

const ITEMS: f64 = 46.0;

/// One impression.
struct Shown {
    item: u32,
    position: u32,
    click: f64,
    propensity: f64,
}

fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("REGRADE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let folder = shared.join("data/raw/bandit-obp");
    folder.is_dir().then_some(folder)
}

fn read(path: &Path) -> Vec<Shown> {
    let mut table = csv::Reader::from_reader(GzDecoder::new(File::open(path).unwrap()));
    let header = table.headers().unwrap().clone();
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    let columns = ["item_id", "position", "click", "propensity_score"].map(at);
    let shown = |record: csv::StringRecord| Shown {
        item: record[columns[0]].parse().unwrap(),
        position: record[columns[1]].parse().unwrap(),
        click: record[columns[2]].parse().unwrap(),
        propensity: record[columns[3]].parse().unwrap(),
    };
    table.records().map(|record| shown(record.unwrap())).collect()
}

/// The share of impressions at each position that each item has.
fn frequencies(log: &[Shown]) -> BTreeMap<(u32, u32), f64> {
    let (mut counts, mut positions) = (BTreeMap::new(), BTreeMap::new());
    for shown in log {
        *counts.entry((shown.position, shown.item)).or_insert(0.0) += 1.0;
        *positions.entry(shown.position).or_insert(0.0) += 1.0;
    }
    counts.into_iter().map(|(key, count): (_, f64)| (key, count / positions[&key.0])).collect()
}

/// Each impression weighed for a policy; every one is a query of its own.
fn rows(log: &[Shown], target: impl Fn(&Shown) -> f64) -> Vec<Row> {
    let row = |(n, shown): (usize, &Shown)| {
        let (behaviour, target) = (shown.propensity.ln(), target(shown).ln());
        let name = n.to_string();
        Row::new(name.as_str(), name.as_str(), &[behaviour], &[target], shown.click).unwrap()
    };
    log.iter().enumerate().map(row).collect()
}

fn spread(rows: &[Row], estimator: Estimator, config: &OffPolicyConfig) -> Spread {
    evaluate(rows, config).unwrap().estimate(estimator).unwrap().reward
}

#[test]
fn clicks_of_one_campaign_are_estimated_from_the_other_or_refused() {
    let Some(folder) = folder() else {
        println!("skipped: there is no data/raw/bandit-obp in REGRADE_SHARED (../shared)");
        return;
    };
    let uniform = read(&folder.join("obd__random__women__women.csv.gz"));
    let bts = read(&folder.join("obd__bts__women__women.csv.gz"));
    assert_eq!((uniform.len(), bts.len()), (10_000, 10_000));
    let config = OffPolicyConfig { reward_range: [0.0, 1.0], ..OffPolicyConfig::default() };

    let share = frequencies(&bts);
    let of_bts = |shown: &Shown| share.get(&(shown.position, shown.item)).copied().unwrap_or(0.0);
    let weighed = rows(&uniform, of_bts);
    let own = spread(&rows(&bts, |shown| shown.propensity), Estimator::Logged, &config);
    let d = Diagnostics::of(&weighed, config.clip);
    println!("BTS on its own log: {:.5} [{:.5}, {:.5}]", own.value, own.low, own.high);
    println!("from the uniform log, ess {:.0}, mean weight {:.3}:", d.ess, d.weight_mean);
    // What is drawn from the uniform log and what is drawn from the other's are independent.
    assert!((d.weight_mean - 1.0).abs() < 4.0 * d.weight_mean_error, "{d:?}");
    assert!(d.ess > 3_000.0, "{d:?}");
    for estimator in [Estimator::Ips, Estimator::Snips, Estimator::ClippedIps] {
        let found = spread(&weighed, estimator, &config);
        let (name, gap) = (estimator.name(), found.value - own.value);
        let error = found.standard_error.hypot(own.standard_error);
        println!(
            "  {name}: {:.5} [{:.5}, {:.5}], differs by {gap:+.5} ± {:.5}",
            found.value,
            found.low,
            found.high,
            1.96 * error
        );
        assert!(gap.abs() < 2.5 * error, "{name} {found:?} against {own:?}");
        assert!(found.low < own.high && own.low < found.high, "{name}");
    }

    let back = rows(&bts, |_| 1.0 / ITEMS);
    let d = Diagnostics::of(&back, config.clip);
    let refusal = evaluate(&back, &config).unwrap_err();
    println!("uniform from the log of BTS: {refusal} (mean weight {:.3})", d.weight_mean);
    assert!(matches!(refusal, Refusal::Ess { .. }), "{refusal}");
    // The logged policy itself is always estimated, by weights of 1.
    let itself = spread(&rows(&uniform, |s| s.propensity), Estimator::Snips, &config);
    let clicks: f64 = uniform.iter().map(|shown| shown.click).sum();
    assert!((itself.value - clicks / 10_000.0).abs() < 1e-12);
}

//! Intervals, differences and refusals over made-up logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::super::row::Prediction;
use super::*;
use rand::Rng;

/// A log of a coin: action 1 with probability 0.5 worth 0.7, else worth 0.2; the target takes
/// action 1 with probability `p`.
fn coins(n: usize, p: f64, seed: u64) -> Vec<Row> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n)
        .map(|at| {
            let first = rng.random_bool(0.5);
            let (target, mean) = if first { (p, 0.7) } else { (1.0 - p, 0.2) };
            let reward = f64::from(u8::from(rng.random_bool(mean)));
            let steps = ([0.5_f64.ln()], [target.ln()]);
            let mut row =
                Row::new(format!("d{at}"), format!("q{at}"), &steps.0, &steps.1, reward).unwrap();
            let target = 0.7 * p + 0.2 * (1.0 - p);
            row.prediction = Some(Prediction { logged: mean, target, steps: Vec::new() });
            row
        })
        .collect()
}

#[test]
fn the_truth_lies_in_the_intervals_of_a_supported_policy() {
    let rows = coins(2_000, 0.8, 1);
    let found = evaluate(&rows, &OffPolicyConfig::default()).unwrap();
    assert_eq!(found.estimator, Estimator::Sndr);
    // The model is right, and says the same of every row.
    let dm = found.estimate(Estimator::Dm).unwrap().reward;
    assert!((dm.value - 0.6).abs() < 1e-9 && dm.high - dm.low < 1e-9, "{dm:?}");
    for name in ["ips", "snips", "dr", "sndr", "clipped_ips"] {
        let Figure::Estimated(estimate) = &found.estimates[name] else { panic!("{name}") };
        let (reward, difference) = (estimate.reward, estimate.difference);
        assert!(reward.low <= 0.6 && 0.6 <= reward.high, "{name}: {reward:?}");
        assert!(reward.low <= reward.value && reward.value <= reward.high);
        assert!((difference.low..=difference.high).contains(&0.15), "{name}: {difference:?}");
    }
    let (low, high) = found.sequence.unwrap();
    assert!(low <= 0.6 && 0.6 <= high && high - low < 0.7, "{low} {high}");
    let Figure::Refused { refused } = &found.estimates["rips"] else { panic!("rips") };
    assert_eq!(refused, "the log has no rewards of single steps");
    assert!((found.diagnostics.weight_mean - 1.0).abs() < 0.06);
}

#[test]
fn without_support_there_is_a_reason_and_no_interval() {
    let few = coins(40, 0.8, 1);
    let refusal = evaluate(&few, &OffPolicyConfig::default()).unwrap_err();
    assert_eq!(refusal, Refusal::Rows { rows: 40, needed: 100 });
    let finding = compare(&few, None, &OffPolicyConfig::default());
    assert!(!finding.supported && finding.difference.is_none() && finding.estimates.is_empty());
    assert!(finding.reason.contains("40 usable decisions"), "{}", finding.reason);
    let never = coins(500, 0.0, 1);
    let strict = OffPolicyConfig { ess_min: 400.0, ..OffPolicyConfig::default() };
    let finding = compare(&never, None, &strict);
    assert!(!finding.supported && finding.reason.contains("effective ones"), "{finding:?}");
}

#[test]
fn a_policy_compared_with_itself_differs_by_nothing_at_all() {
    let rows = coins(500, 0.7, 2);
    let mut shuffled = rows.clone();
    shuffled.reverse();
    let finding = compare(&rows, Some(&shuffled), &OffPolicyConfig::default());
    assert_eq!(finding.difference, Some((0.0, 0.0, 0.0)));
    let fewer = compare(&rows, Some(&rows[100..]), &OffPolicyConfig::default());
    assert_eq!((fewer.rows, fewer.difference), (400, Some((0.0, 0.0, 0.0))));
    let other = compare(&rows, Some(&coins(0, 0.7, 2)), &OffPolicyConfig::default());
    assert!(!other.supported && other.reason.contains("0 usable decisions"), "{other:?}");
}

#[test]
fn a_better_policy_is_better_than_a_worse_one_and_than_the_log() {
    let (good, bad) = (coins(2_000, 0.9, 3), coins(2_000, 0.1, 3));
    let config = OffPolicyConfig::default();
    let finding = compare(&good, Some(&bad), &config);
    let (low, value, high) = finding.difference.unwrap();
    assert!(finding.supported && low > 0.3 && high < 0.5 && low < value, "{finding:?}");
    let logged = compare(&good, None, &config);
    let (low, _, high) = logged.difference.unwrap();
    assert!((low..=high).contains(&0.2), "{logged:?}");
    assert_eq!(compare(&good, None, &config), logged, "seeded");
}

#[test]
fn queries_are_drawn_whole() {
    // Every query ten times over: as many rows, but a tenth of the evidence.
    let single = coins(200, 0.8, 4);
    let tenfold: Vec<Row> = (0..10)
        .flat_map(|copy| {
            single.iter().cloned().map(move |mut row| {
                row.decision = format!("{}-{copy}", row.decision);
                row
            })
        })
        .collect();
    let width = |rows: &[Row]| {
        let found = evaluate(rows, &OffPolicyConfig::default()).unwrap();
        let spread = found.estimate(Estimator::Snips).unwrap().reward;
        spread.high - spread.low
    };
    let (one, ten) = (width(&single), width(&tenfold));
    assert!((one / ten - 1.0).abs() < 0.15, "{one} {ten}");
}

#[test]
fn rewards_that_are_all_the_same_give_no_interval() {
    let mut rows = coins(300, 0.8, 6);
    rows.iter_mut().filter(|row| row.weight() > 1.0).for_each(|row| row.reward = 1.0);
    rows.iter_mut().filter(|row| row.weight() < 1.0).for_each(|row| row.weights = vec![0.0]);
    rows.iter_mut().for_each(|row| row.prediction = None);
    let found = evaluate(&rows, &OffPolicyConfig::default()).unwrap();
    let Figure::Refused { refused } = &found.estimates["snips"] else { panic!("{found:?}") };
    assert!(refused.contains("every reward behind the estimate is the same"), "{refused}");
    let finding = compare(&rows, None, &OffPolicyConfig::default());
    assert!(!finding.supported && finding.difference.is_none(), "{finding:?}");
    assert_eq!(&finding.reason, refused);
}

#[test]
fn the_estimator_of_a_verdict_is_the_configured_one_or_refused() {
    let rows = coins(300, 0.6, 7);
    let config = |estimator| OffPolicyConfig { estimator, ..OffPolicyConfig::default() };
    let snips = config(Some(Estimator::Snips));
    assert_eq!(evaluate(&rows, &snips).unwrap().estimator, Estimator::Snips);
    let finding = compare(&rows, None, &snips);
    assert_eq!(finding.estimator, Estimator::Snips);
    let (low, value, high) = finding.difference.unwrap();
    let expected = finding.estimates["snips"];
    assert_eq!((low, value, high), (expected.low, expected.value, expected.high));
    let rips = config(Some(Estimator::Rips));
    assert_eq!(evaluate(&rows, &rips), Err(Refusal::Missing { what: "rewards of single steps" }));
    assert_eq!(compare(&rows, None, &rips).reason, "the log has no rewards of single steps");
}

#[test]
fn an_evaluation_is_plain_json() {
    let found = evaluate(&coins(300, 0.6, 5), &OffPolicyConfig::default()).unwrap();
    let json = serde_json::to_value(&found).unwrap();
    assert!(json["ess"].as_f64().unwrap() > 200.0);
    assert!(json["estimates"]["snips"]["reward"]["low"].is_number());
    assert!(json["estimates"]["iips"]["refused"].is_string());
    assert_eq!(json["estimator"], "sndr");
}

//! The estimators against numbers worked by hand and against `vw-estimators` 0.2.2 on fixed rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;

/// Probability under the logging policy, reward, probability under the target.
const LOGGED: [(f64, f64, f64); 5] =
    [(0.5, 1.0, 0.25), (0.25, 0.0, 0.5), (0.8, 0.5, 0.4), (0.1, 1.0, 0.3), (0.4, 0.25, 0.1)];

fn rows(times: usize) -> Vec<Weighted> {
    let once = LOGGED.iter().map(|(p, r, q)| (q / p, *r));
    std::iter::repeat_n(once, times).flatten().collect()
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
}

fn both(found: Option<(f64, f64)>, (low, high): (f64, f64)) {
    let (l, h) = found.unwrap();
    near(l, low);
    near(h, high);
}

#[test]
fn points_worked_by_hand() {
    // Weights 0.5, 2, 0.5, 3, 0.25.
    let rows = rows(1);
    near(ips(&rows).unwrap(), (0.5 + 0.25 + 3.0 + 0.0625) / 5.0);
    near(snips(&rows).unwrap(), 3.8125 / 6.25);
    assert_eq!((ips(&[]), snips(&[]), snips(&[(0.0, 1.0)])), (None, None, None));
    // Two rows of weight 1: the missing row of infinite weight changes nothing, and the mean is
    // kept.
    near(cressie_read(&[(1.0, 0.25), (1.0, 0.75)], WeightRange::default()).unwrap(), 0.5);
}

#[test]
fn numbers_of_vw_estimators_on_fixed_rows() {
    let (once, often) = (rows(1), rows(40));
    let (all, unit) = (WeightRange::default(), [0.0, 1.0]);
    near(cressie_read(&once, all).unwrap(), 0.603_397_341_211_225_9);
    let ten = WeightRange { min: 0.0, max: 10.0 };
    near(cressie_read(&once, ten).unwrap(), 0.603_397_341_211_225_9);
    both(cressie_read_interval(&once, all, unit, 0.05), (0.0, 1.0));
    both(
        cressie_read_interval(&often, all, unit, 0.05),
        (0.461_162_090_682_662_56, 0.707_880_529_865_186_9),
    );
    both(gaussian(&once, 0.05), (-0.347_034_815_336_733_97, 1.872_034_815_336_733_9));
    both(clopper_pearson(&once, unit, 0.05), (0.040_633_114_737_695_27, 0.999_966_597_465_303_4));
    both(clopper_pearson(&often, unit, 0.1), (0.661_290_370_197_920_1, 0.845_397_767_760_744_8));
    both(confidence_sequence(&once, unit, 0.05), (0.0, 1.0));
    both(
        confidence_sequence(&often, unit, 0.05),
        (0.458_381_176_203_357_94, 0.717_740_887_052_663_6),
    );
}

#[test]
fn nothing_gives_nothing() {
    assert_eq!(gaussian(&[(1.0, 1.0)], 0.05), None);
    assert_eq!(clopper_pearson(&[(0.0, 1.0)], [0.0, 1.0], 0.05), None);
    assert_eq!(clopper_pearson(&[(1.0, 2.0)], [0.0, 1.0], 0.05), None);
    assert_eq!(confidence_sequence(&[], [0.0, 1.0], 0.05), None);
    assert_eq!(cressie_read(&[], WeightRange::default()), None);
    assert_eq!(cressie_read_interval(&[], WeightRange::default(), [0.0, 1.0], 0.05), None);
}

#[test]
fn every_interval_holds_its_point() {
    let rows = rows(20);
    let point = cressie_read(&rows, WeightRange::default()).unwrap();
    let all = WeightRange::default();
    let (low, high) = cressie_read_interval(&rows, all, [0.0, 1.0], 0.05).unwrap();
    assert!(low < point && point < high);
    let (wide_low, wide_high) = cressie_read_interval(&rows, all, [0.0, 1.0], 0.01).unwrap();
    assert!(wide_low < low && high < wide_high);
    let (low, high) = gaussian(&rows, 0.05).unwrap();
    assert!(low < ips(&rows).unwrap() && ips(&rows).unwrap() < high);
}

//! The bandit estimators beside the package `vw-estimators`, on random logs.

use crate::services::{python, require_or_skip};
use regrade::evaluate::off_policy::bandit::{
    self, WeightRange, Weighted, clopper_pearson, confidence_sequence, cressie_read,
    cressie_read_interval, gaussian,
};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// The pinned programs.
const PACKAGES: [&str; 2] = ["vw-estimators==0.2.2", "scipy==1.17.1"];
const CASES: usize = 300;
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Case {
    /// Probability when logged, reward, probability under the target.
    rows: Vec<(f64, f64, f64)>,
    alpha: f64,
    weight_max: f64,
    ips: Option<f64>,
    snips: Option<f64>,
    cressie_read: Option<f64>,
    cressie_read_bounded: Option<f64>,
    cressie_read_interval: Option<(f64, f64)>,
    cressie_read_interval_bounded: Option<(f64, f64)>,
    gaussian: Option<(f64, f64)>,
    clopper_pearson: Option<(f64, f64)>,
    sequence: Option<(f64, f64)>,
}

/// The largest difference seen of one figure, and of how many.
#[derive(Default)]
struct Agreement {
    gap: f64,
    compared: usize,
}

impl Agreement {
    fn take(&mut self, what: &str, found: Option<f64>, expected: Option<f64>) {
        // The package has no number where an assertion of its own fails; neither is one asked here.
        let Some(expected) = expected.filter(|v| v.is_finite()) else { return };
        let found = found.unwrap_or_else(|| panic!("{what}: nothing, not {expected}"));
        let gap = (found - expected).abs() / expected.abs().max(1.0);
        assert!(gap < TOLERANCE, "{what}: {found}, not {expected}");
        self.gap = self.gap.max(gap);
        self.compared += 1;
    }

    fn both(&mut self, what: &str, found: Option<(f64, f64)>, expected: Option<(f64, f64)>) {
        self.take(what, found.map(|f| f.0), expected.map(|e| e.0));
        self.take(what, found.map(|f| f.1), expected.map(|e| e.1));
    }
}

#[test]
fn bandit_estimators_agree_with_vw_estimators_on_random_logs() {
    let python = match python("vw-estimators-0.2.2", &PACKAGES) {
        Ok(python) => python,
        Err(reason) => return require_or_skip("vw-estimators for Python", &reason),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/bandit.py");
    let output =
        Command::new(python).arg(script).args(["11", &CASES.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cases: Vec<Case> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(cases.len(), CASES);
    let mut agreement = Agreement::default();
    for case in &cases {
        let rows: Vec<Weighted> = case.rows.iter().map(|(p, r, q)| (q / p, *r)).collect();
        let (unit, alpha) = ([0.0, 1.0], case.alpha);
        let all = WeightRange::default();
        let bounded = WeightRange { min: 0.0, max: case.weight_max };
        agreement.take("ips", bandit::ips(&rows), case.ips);
        agreement.take("snips", bandit::snips(&rows), case.snips);
        agreement.take("cressie_read", cressie_read(&rows, all), case.cressie_read);
        let found = cressie_read(&rows, bounded);
        agreement.take("cressie_read, bounded", found, case.cressie_read_bounded);
        let found = cressie_read_interval(&rows, all, unit, alpha);
        agreement.both("interval of cressie_read", found, case.cressie_read_interval);
        let found = cressie_read_interval(&rows, bounded, unit, alpha);
        let expected = case.cressie_read_interval_bounded;
        agreement.both("interval of cressie_read, bounded", found, expected);
        agreement.both("gaussian", gaussian(&rows, alpha), case.gaussian);
        let found = clopper_pearson(&rows, unit, alpha);
        agreement.both("clopper_pearson", found, case.clopper_pearson);
        let found = confidence_sequence(&rows, unit, alpha);
        agreement.both("confidence sequence", found, case.sequence);
    }
    assert!(agreement.compared > 13 * CASES, "only {} numbers", agreement.compared);
    println!("{} numbers agree to {:.1e}", agreement.compared, agreement.gap);
}

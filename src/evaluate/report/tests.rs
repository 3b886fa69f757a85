//! Rows and comparisons of scores made up for the purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::evaluate::metrics::Scored;
use crate::evaluate::scores::columns;

fn scored(f1: f64, k: f64) -> Scored {
    Scored {
        f1: Some(f1),
        em: Some(f1.floor()),
        k,
        context_tokens: 100.0 * k,
        retrievals: k.min(1.0),
        reader_calls: k,
        decide_ms: k,
        ..Scored::default()
    }
}

/// Questions of data set `a` (as many as given) and one of `b`.
fn scores(contenders: &[(&str, Vec<Scored>)]) -> ScoreTable {
    let n = contenders[0].1.len();
    let mut table = ScoreTable {
        questions: (0..n).map(|at| format!("q{at}")).collect(),
        datasets: (0..n).map(|at| if at + 1 < n { "a" } else { "b" }.to_owned()).collect(),
        ..ScoreTable::default()
    };
    for (name, scored) in contenders {
        table.add(name, columns(scored));
    }
    table
}

fn row<'a>(report: &'a Report, name: &str, dataset: &str) -> &'a PolicyRow {
    report.rows_of(dataset).find(|row| row.name == name).unwrap()
}

#[test]
fn rows_are_over_all_questions_over_data_sets_and_of_each() {
    let ours = vec![scored(1.0, 1.0), scored(0.0, 0.0), scored(0.5, 2.0), scored(0.0, 3.0)];
    let report = Report::new(0, scores(&[("ours", ours)]), None).unwrap();
    let labels: Vec<&str> = report.policies.iter().map(|row| row.dataset.as_str()).collect();
    assert_eq!(labels, ["all", "macro", "a", "b"]);
    assert_eq!(report.overall(), "all");
    let of = |dataset| row(&report, "ours", dataset);
    assert!((of("all").f1.unwrap() - 0.375).abs() < 1e-12);
    assert!((of("a").f1.unwrap() - 0.5).abs() < 1e-12);
    assert!((of("macro").f1.unwrap() - 0.25).abs() < 1e-12, "mean of 0.5 and 0");
    assert!((of("macro").k_mean - 2.0).abs() < 1e-12, "mean of 1 and 3");
    assert_eq!(of("all").k_histogram, [1, 1, 1, 1]);
    assert!((of("all").without_retrieval - 0.25).abs() < 1e-12);
    assert!((of("all").retrievals_mean - 0.75).abs() < 1e-12);
    assert!((of("all").context_tokens_mean - 150.0).abs() < 1e-12);
    assert_eq!((of("all").latency_ms.decide_p50, of("all").latency_ms.decide_p95), (1.0, 3.0));
    assert!(report.comparisons.is_empty(), "there is no baseline");
    assert_eq!(of("all").recall_at_5, None);
}

#[test]
fn several_seeds_are_one_contender() {
    let runs = [vec![scored(0.0, 1.0); 4], vec![scored(1.0, 3.0); 4]];
    let [first, second] = runs;
    let report = Report::new(0, scores(&[("ours", first), ("ours", second)]), None).unwrap();
    let row = row(&report, "ours", "all");
    assert_eq!((row.runs, row.questions), (2, 4));
    assert_eq!(row.f1_by_run, [0.0, 1.0]);
    assert!((row.f1.unwrap() - 0.5).abs() < 1e-12 && (row.k_sd - 1.0).abs() < 1e-12);
    assert_eq!(row.f1_interval, Some((0.0, 1.0)), "with two seeds anything may be");
}

#[test]
fn the_default_baseline_is_the_best_fixed_cut_of_each_data_set() {
    let fixed = |name, a: f64, b: f64| {
        (name, vec![scored(a, 1.0), scored(a, 1.0), scored(a, 1.0), scored(b, 1.0)])
    };
    let table = scores(&[
        fixed("retrieval_k1", 0.2, 0.9),
        fixed("retrieval_k3", 0.4, 0.1),
        fixed("ours", 0.5, 0.5),
        fixed("theirs", 0.4, 0.1),
    ]);
    let report = Report::new(0, table.clone(), None).unwrap();
    let against = |dataset: &str| {
        let found = report.comparisons.iter().find(|c| c.dataset == dataset).unwrap();
        (found.name.as_str(), found.against.as_str())
    };
    assert_eq!(against("a"), ("ours", "retrieval_k3"));
    assert_eq!(against("b"), ("ours", "retrieval_k1"));
    assert_eq!(report.comparisons.len(), 8, "two contenders, four parts");
    let theirs = report.comparisons.iter().find(|c| c.name == "theirs" && c.dataset == "a");
    let theirs = theirs.unwrap().differences["f1"];
    assert_eq!((theirs.mean, theirs.interval, theirs.p), (0.0, (0.0, 0.0), 1.0));
    let named = Report::new(0, table.clone(), Some("theirs")).unwrap();
    assert_eq!(named.comparisons.len(), 12, "the cuts are compared too");
    assert!(named.comparisons.iter().all(|c| c.against == "theirs"));
    for c in &named.comparisons {
        assert!(c.differences.values().all(|d| d.p_holm >= d.p && d.p_holm <= 1.0));
    }
    let error = Report::new(0, table, Some("nobody")).unwrap_err().to_string();
    assert!(error.contains("`nobody`") && error.contains("retrieval_k1, retrieval_k3"), "{error}");
}

#[test]
fn a_report_reads_back_as_it_was_written() {
    let mut table = scores(&[
        ("retrieval_k1", vec![scored(0.1, 1.0), scored(1.0 / 3.0, 1.0)]),
        ("ours", vec![scored(0.7, 2.0), scored(0.9, 0.0)]),
    ]);
    table.left_out.push(crate::evaluate::scores::LeftOut { questions: 3, ..Default::default() });
    let mut report = Report::new(7, table, None).unwrap();
    report.extra.insert("top_n".to_owned(), serde_json::json!(20));
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert!(super::table(&report).contains("ours against retrieval_k1 on all: F1 +"));
    assert!(super::table(&report).contains("left out"));
}

#[test]
fn nothing_evaluated_is_a_report_of_nothing() {
    let report = Report::new(0, ScoreTable::default(), None).unwrap();
    assert_eq!((report.questions, report.policies.len()), (0, 0));
    super::table(&report);
}

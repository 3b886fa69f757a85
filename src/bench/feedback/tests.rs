//! When is learned, and how the figures come about.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::datasets::Question;

fn plan() -> Plan {
    Plan {
        datasets: vec!["a".to_owned()],
        limit: 10,
        top_n: 3,
        decisions: vec![100, 1_000],
        growth: 2.0,
        share: 0.3,
        flips: 0.1,
        delay: 20,
        concurrency: 1,
        rounds: 1,
        arms: vec!["frozen".to_owned(), "rrpo".to_owned(), "oracle".to_owned()],
        users: vec![Temper::Honest],
        seeds: vec![0],
    }
}

fn questions(count: usize) -> Vec<Question> {
    let question = |at: usize| Question {
        id: format!("q{at}"),
        dataset: if at.is_multiple_of(2) { "a" } else { "b" }.to_owned(),
        question: format!("question {at}"),
        answers: vec!["right".to_owned()],
        ..Question::default()
    };
    (0..count).map(question).collect()
}

#[test]
fn updates_grow_and_those_measured_are_among_them() {
    assert_eq!(plan().updates(), [50, 100, 200, 400, 1_000]);
    let all = Plan { decisions: vec![1_000, 3_000, 10_000, 30_000], growth: 1.5, ..plan() };
    let updates = all.updates();
    assert!(all.decisions.iter().all(|at| updates.contains(at)), "{updates:?}");
    assert!(updates.is_sorted() && updates.len() < 16, "{updates:?}");
}

#[test]
fn a_folder_takes_more_arms_and_no_other_users() {
    let folder = tempfile::tempdir().unwrap();
    Folder::take(folder.path(), &plan()).unwrap();
    let more = Plan { seeds: vec![0, 1], arms: vec!["dpo".to_owned()], ..plan() };
    assert!(Folder::take(folder.path(), &more).is_ok());
    let other = Folder::take(folder.path(), &Plan { flips: 0.2, ..plan() }).unwrap_err();
    assert!(other.to_string().contains("(flips differs)"), "{other}");
}

fn course(arm: &str, points: &[(usize, [f64; 4])]) -> Course {
    let checkpoint = |(decisions, f1): &(usize, [f64; 4])| Checkpoint {
        decisions: *decisions,
        version: 0,
        f1: f1.to_vec(),
        k: 1.0,
        tokens: 100.0,
        served_f1: 0.5,
        swaps: 1,
        failed: 0,
        said: (3, 0),
        bought: Bought { generator_calls: 2, ..Bought::default() },
        seconds: 10.0,
    };
    let checkpoints = points.iter().map(checkpoint).collect();
    let update = |(decisions, _): &(usize, [f64; 4])| course::Update {
        decisions: *decisions,
        outcome: "rejected".to_owned(),
        reason: "too little".to_owned(),
        report: serde_json::Value::Null,
        seconds: 1.0,
    };
    let updates = points.iter().map(update).collect();
    Course { arm: arm.to_owned(), users: Temper::Honest, seed: 0, checkpoints, updates }
}

#[tokio::test]
async fn the_share_of_the_gap_is_that_of_means_over_data_sets() {
    let questions = questions(4);
    let material = Material {
        train: questions.clone(),
        test: ["a", "b", "b", "b"]
            .iter()
            .zip(questions)
            .map(|(name, q)| Question { dataset: (*name).to_owned(), ..q })
            .collect(),
        index: crate::wiring::pool(&crate::config::Config::default(), &[]).await.unwrap(),
    };
    let courses = [
        course("frozen", &[(0, [0.0, 0.0, 0.0, 0.0])]),
        course("rrpo", &[(100, [0.0; 4]), (1_000, [0.5, 0.0, 0.0, 0.3])]),
        course("oracle", &[(0, [1.0, 0.5, 0.5, 0.5])]),
    ];
    let report = report::build(&courses, &[], &material, 0);
    assert_eq!(report.rows.len(), 4);
    // Means over data sets: (0.5 + 0.1) / 2 of (1 + 0.5) / 2.
    let row = &report.rows[2];
    assert_eq!((row.arm.as_str(), row.decisions, row.seeds_below), ("rrpo", 1_000, 0));
    assert!((row.f1 - 30.0).abs() < 1e-9 && (row.closed.unwrap() - 0.4).abs() < 1e-9);
    assert!((row.gain.unwrap().points - 30.0).abs() < 1e-9);
    assert_eq!((row.outcomes["rejected"], row.bought.generator_calls), (2, 2));
    assert_eq!(report.rows[0].gain, None);
    // Without the oracle nobody knows how much there was to gain.
    assert_eq!(report::build(&courses[..2], &[], &material, 0).rows[2].closed, None);
    let table = table(&report);
    assert!(table.contains("40%") && table.contains("rejected: too little"), "{table}");
}

#[test]
fn arms_are_objectives_and_two_more() {
    assert_eq!(Arm::named("frozen").unwrap(), Arm::Frozen);
    assert!(Arm::named("rrpo").unwrap().is_told() && !Arm::named("oracle").unwrap().is_told());
    let error = Arm::named("ppo").unwrap_err().to_string();
    assert!(error.contains("no entrant `ppo`") && error.contains("oracle"), "{error}");
}

//! What a run keeps, refuses and puts together.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::evaluate::scores::Columns;

fn plan() -> Plan {
    Plan {
        limit: Some(3),
        top_n: 5,
        seeds: vec![0],
        entrants: vec!["rrpo_k3".to_owned()],
        quick: false,
    }
}

fn table(name: &str, questions: &[&str], f1: &[f64]) -> ScoreTable {
    let column: Vec<Option<f64>> = f1.iter().map(|v| Some(*v)).collect();
    let mut table = ScoreTable {
        questions: questions.iter().map(|q| (*q).to_owned()).collect(),
        datasets: vec!["d".to_owned(); questions.len()],
        ..ScoreTable::default()
    };
    table.add(name, Columns::from([("f1".to_owned(), column)]));
    table
}

#[test]
fn a_folder_takes_more_seeds_but_no_other_questions() {
    let folder = tempfile::tempdir().unwrap();
    Folder::take(folder.path(), &plan()).unwrap();
    let more = Plan { seeds: vec![0, 1], entrants: vec!["grpo".to_owned()], ..plan() };
    assert!(Folder::take(folder.path(), &more).is_ok());
    let other = Folder::take(folder.path(), &Plan { limit: None, ..plan() }).unwrap_err();
    assert!(other.to_string().contains("(limit differs)"), "{other}");
    std::fs::write(folder.path().join("plan.json"), "{").unwrap();
    let broken = Folder::take(folder.path(), &plan()).unwrap_err().to_string();
    assert!(broken.contains("plan.json") && broken.contains("remove it"), "{broken}");
}

#[test]
fn benchmarks_stand_below_each_other_and_entrants_beside() {
    let mut one = table("a", &["q1"], &[0.1]);
    below(&mut one, table("a", &["q2", "q3"], &[0.2, 0.3]));
    assert_eq!(one, table("a", &["q1", "q2", "q3"], &[0.1, 0.2, 0.3]));
    let mut all = ScoreTable::default();
    add(&mut all, one.clone()).unwrap();
    // A second seed is another run of the same contender.
    add(&mut all, one).unwrap();
    add(&mut all, table("b", &["q1", "q2", "q3"], &[1.0; 3])).unwrap();
    assert_eq!(all.names(), ["a", "b"]);
    assert_eq!(all.contenders[0].runs.len(), 2);
    assert!(all.check("the table").is_ok());
    let other = add(&mut all, table("c", &["q1"], &[0.5])).unwrap_err().to_string();
    assert!(other.contains("other questions"), "{other}");
}

#[test]
fn an_unknown_entrant_is_told_who_there_is() {
    let error = Entrant::named("rrpo_k7").unwrap_err().to_string();
    assert!(error.contains("rrpo_k7") && error.contains("rrpo_k5, "), "{error}");
    for name in Entrant::names() {
        assert_eq!(Entrant::named(name).unwrap().name(), name);
    }
    let noisy = Entrant::names().len() - Entrant::defaults().len();
    assert_eq!(noisy, 3, "what learns under noise enters only when asked for");
}

#[test]
fn a_fixed_k_serves_with_its_k() {
    let config = Config::default();
    let limits = Entrant::named("rrpo_k5").unwrap().limits(&config);
    assert_eq!((limits.k_min, limits.k_max), (5, 5));
    let free = Entrant::named("dynamic_rag").unwrap().limits(&config);
    assert_eq!((free.k_min, free.k_max), (0, 15));
}

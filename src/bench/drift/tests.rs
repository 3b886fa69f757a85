//! What a run keeps, and how its figures come about.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

fn plan() -> Plan {
    Plan { limit: 4, blocks: 2, top_n: 3, window: 2, watched: 10, seeds: vec![0] }
}

fn course(learning: Learning, seed: u64, rewards: &[Option<f64>], held_out: &[f64]) -> Course {
    Course {
        stream: "s".to_owned(),
        learning,
        seed,
        blocks: rewards.chunks(2).map(|part| ("b".to_owned(), part.to_vec())).collect(),
        held_out: held_out.to_vec(),
        documents: vec![1.0; rewards.len().div_ceil(2)],
        updates: Vec::new(),
    }
}

#[test]
fn a_folder_takes_more_seeds_and_no_other_sizes() {
    let folder = tempfile::tempdir().unwrap();
    Folder::take(folder.path(), &plan()).unwrap();
    assert!(Folder::take(folder.path(), &Plan { seeds: vec![0, 1], ..plan() }).is_ok());
    let other = Folder::take(folder.path(), &Plan { window: 3, ..plan() }).unwrap_err();
    assert!(other.to_string().contains("(window differs)"), "{other}");
}

#[test]
fn rewards_are_summed_over_questions_that_all_could_be_scored_on() {
    let courses: Vec<Course> = Learning::ALL
        .into_iter()
        .flat_map(|learning| {
            let last = if learning == Learning::Continual { 1.0 } else { 0.0 };
            [0, 1].map(|seed| {
                let first = if learning == Learning::Nightly { None } else { Some(1.0) };
                let rewards = [first, Some(0.5), Some(0.5), Some(last)];
                course(learning, seed, &rewards, &[0.5, 0.75, 0.25])
            })
        })
        .collect();
    let report = report::build(&courses, Vec::new(), 0);
    let stream = &report.streams[0];
    assert_eq!((report.streams.len(), stream.questions, stream.blocks.len()), (1, 3, 2));
    let frozen = &stream.rows[0];
    assert!((frozen.cumulative - 1.0).abs() < 1e-9 && frozen.seeds == 2);
    assert!((frozen.blocks[1] - 0.25).abs() < 1e-9);
    // The best was 0.75, the last 0.25.
    assert!((frozen.forgotten.last - 0.5).abs() < 1e-9);
    assert!((frozen.forgotten.deepest - 0.5).abs() < 1e-9);
    assert!((stream.gains[0].cumulative - 1.0).abs() < 1e-9);
    let table = table(&report);
    assert!(table.contains("continual less frozen: +1.0"), "{table}");
}

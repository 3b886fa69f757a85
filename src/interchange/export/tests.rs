//! Folders of training data, whole and refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::interchange::limits::Limits;
use crate::interchange::records::{Preference, Tried};
use crate::interchange::wording::Role;
use actors::types::{Candidate, Document, PolicyStamp};

fn record(question: usize, gap: f64) -> TrainingRecord {
    let candidate = |rank: u32| Candidate {
        document: Document { text: format!("passage {rank}"), ..Document::default() },
        score: 1.0,
        rank,
    };
    let tried = |order: &[u32], reward| Tried {
        order: order.to_vec(),
        answer: None,
        reward,
        log_prob: Some(-2.0),
    };
    TrainingRecord::Preference(Preference {
        query: Query {
            id: format!("q{question}").as_str().into(),
            text: format!("question {question}?"),
            ..Query::default()
        },
        candidates: (0..3).map(candidate).collect(),
        chosen: tried(&[1], 0.5 + gap),
        rejected: tried(&[2, 0], 0.5),
        policy: PolicyStamp { version: PolicyVersion(4), ..PolicyStamp::default() },
    })
}

fn settings(shape: Shape) -> Settings {
    let limits = Limits::default();
    let (task, role) = (Task::Preferences, Role::Reranker);
    Settings {
        rules: Rules { task, role, min_reward: 0.0, min_gap: 0.1, limits },
        shape,
        holdout_fraction: 0.3,
        holdout_key: "cluster".to_owned(),
        max_examples: 1_000,
    }
}

fn clock() -> Clock {
    Clock::simulated(1_700_000_000_000)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_export_accounts_for_every_record() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("data");
    let mut records: Vec<TrainingRecord> = (0..40).map(|n| record(n, 0.3)).collect();
    records.extend([record(0, 0.3), record(41, 0.05)]);
    let settings = settings(Shape::LlamaFactory);
    let source = json!({ "records": "test" });
    let report = export(&records, &settings, &Tokens::Words, (source, clock()), &out).unwrap();
    let [train, holdout] = &report.files[..] else { panic!("{report:?}") };
    assert_eq!(train.examples + holdout.examples, 40);
    assert!(train.examples > holdout.examples && holdout.examples > 0, "{report:?}");
    let refused = BTreeMap::from([(Refused::Duplicate, 1), (Refused::SmallGap, 1)]);
    assert_eq!(report.refused, refused);
    let rows = lines(&out.join("train.jsonl"));
    assert_eq!(rows.len() as u64, train.examples);
    assert_eq!((&rows[0]["chosen"], &rows[0]["rejected"]), (&json!("[2]"), &json!("[3], [1]")));
    let meta = lines(&out.join("train.meta.jsonl"));
    assert_eq!(meta.len(), rows.len());
    assert_eq!((&meta[0]["policy"], &meta[0]["rewards"]), (&json!(4), &json!([0.8, 0.5])));
    let manifest = lines_of_document(&out.join("manifest.json"));
    assert_eq!(manifest["made_ms"], 1_700_000_000_000_u64);
    assert_eq!(manifest["refused"], json!({ "duplicate": 1, "small_gap": 1 }));
    assert_eq!(manifest["policies"], json!([4]));
    assert_eq!(manifest["files"][0]["digest"], train.digest);
    let info = lines_of_document(&out.join("dataset_info.json"));
    assert_eq!(info["regrade_reranker_preferences_train"]["ranking"], true);
    assert_eq!(info["regrade_reranker_preferences_holdout"]["file_name"], "holdout.jsonl");
}

fn lines_of_document(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn phrasings_never_straddle_the_split_and_both_sides_are_used() {
    let settings = settings(Shape::Trl);
    let side = |text: &str, cluster: Option<&str>| {
        let metadata = cluster.map(|name| ("cluster".to_owned(), name.to_owned()));
        let metadata = metadata.into_iter().collect();
        is_held_out(&Query { text: text.to_owned(), metadata, ..Query::default() }, &settings)
    };
    let mut held = 0;
    for n in 0..1_000 {
        let cluster = format!("c{n}");
        assert_eq!(side("who", Some(&cluster)), side("which one", Some(&cluster)));
        assert_eq!(side(&format!("Who is {n}?"), None), side(&format!("who  is {n}"), None));
        held += usize::from(side("who", Some(&cluster)));
    }
    assert!((250..350).contains(&held), "{held} of 1000 are held out, 3 in 10 were asked for");
}

#[tokio::test(start_paused = true)]
async fn only_llama_factory_wants_a_list_of_data_sets() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("data");
    let records: Vec<TrainingRecord> = (0..30).map(|n| record(n, 0.3)).collect();
    let settings = settings(Shape::Trl);
    export(&records, &settings, &Tokens::Words, (Value::Null, clock()), &out).unwrap();
    assert!(!out.join("dataset_info.json").exists(), "TRL needs none");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_where_nothing_can_be_exported() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("data");
    let refused = export(
        &[record(0, 0.0)],
        &settings(Shape::Trl),
        &Tokens::Words,
        (Value::Null, clock()),
        &out,
    );
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("\"small_gap\":1"), "{error}");
    let wrong = Settings { holdout_fraction: 1.0, ..settings(Shape::Trl) };
    let error = export(&[record(0, 0.3)], &wrong, &Tokens::Words, (Value::Null, clock()), &out);
    assert!(error.unwrap_err().to_string().contains("holdout_fraction: 1 must lie in [0, 1)"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    std::fs::create_dir(&out).unwrap();
    let taken = export(
        &[record(0, 0.3)],
        &settings(Shape::Trl),
        &Tokens::Words,
        (Value::Null, clock()),
        &out,
    );
    assert!(taken.unwrap_err().to_string().contains("exists; give another --out"));
}

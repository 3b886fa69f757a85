//! Versions listed, compared and moved on a store and a log in a folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::config::{LogConfig, PolicyConfig, SnapshotsConfig};
use crate::policy::fixture::write_tiny_model;
use crate::policy::reader::{PairReader, ReaderArgs};
use crate::policy::serving;
use candle_core::Device;

struct Place {
    _folder: tempfile::TempDir,
    config: Config,
    width: usize,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_tiny_model(&at("model"), 1).unwrap();
        let config = Config {
            log: LogConfig { folder: at("log"), ..LogConfig::default() },
            snapshots: SnapshotsConfig {
                url: at("policies").display().to_string(),
                ..SnapshotsConfig::default()
            },
            policy: PolicyConfig { model: at("model"), ..PolicyConfig::default() },
            ..Config::default()
        };
        let width = PairReader::load(&at("model"), ReaderArgs::default()).unwrap().width();
        Self { _folder: folder, config, width }
    }

    fn policy(&self, version: u64) -> PolicySnapshot {
        let seeded = serving::first_snapshot(self.width, version, &Device::Cpu).unwrap();
        let parent = version.checked_sub(1).map(PolicyVersion);
        PolicySnapshot::new(PolicyVersion(version), parent, "test", seeded.weights.to_vec())
    }

    async fn put(&self, version: u64) {
        store(&self.config).unwrap().put(&self.policy(version)).await.unwrap();
    }

    async fn champion(&self) -> Option<PolicyVersion> {
        Board::of(&history(&self.config).await.unwrap()).champion()
    }
}

#[tokio::test]
async fn a_promotion_is_on_record_and_a_rollback_returns_along_the_line() {
    let place = Place::new();
    for version in 1..=3 {
        place.put(version).await;
        let line =
            change::promote(&place.config, PolicyVersion(version), Some("a test")).await.unwrap();
        assert_eq!((&line["champion"], &line["changed"]), (&json!(version), &json!(true)));
    }
    let again = change::promote(&place.config, PolicyVersion(3), Some("a test")).await.unwrap();
    assert_eq!(again["changed"], false);
    for expected in [2, 1, 0] {
        let line = change::rollback(&place.config, None).await.unwrap();
        assert_eq!(line["champion"], expected, "never back to what was rolled back");
        assert_eq!(place.champion().await, Some(PolicyVersion(expected)));
    }
    let first = store(&place.config).unwrap().get(PolicyVersion(0)).await.unwrap();
    assert_eq!(first, wiring::first_policy(&place.config).unwrap(), "the untrained policy");
    let error = change::rollback(&place.config, None).await.unwrap_err().to_string();
    assert!(error.contains("nothing before it"), "{error}");
    let lines = list(&place.config).await.unwrap();
    let states: Vec<&Value> = lines.iter().map(|line| &line["state"]).collect();
    assert_eq!(states, ["champion", "retired", "retired", "retired"]);
    assert_eq!((&lines[0]["serves"], &lines[3]["serves"]), (&json!(true), &json!(false)));
    let shown = show(&place.config, PolicyVersion(2)).await.unwrap();
    let history: Vec<&str> =
        shown["history"].as_array().unwrap().iter().map(|r| r["state"].as_str().unwrap()).collect();
    assert_eq!(history, ["champion", "retired", "champion", "retired"]);
}

#[tokio::test]
async fn what_cannot_serve_is_not_promoted() {
    let place = Place::new();
    let error = change::promote(&place.config, PolicyVersion(9), Some("a test"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("v9") && error.contains("policy list"), "{error}");
    let garbage = PolicySnapshot::new(PolicyVersion(4), None, "test", b"no weights".to_vec());
    store(&place.config).unwrap().put(&garbage).await.unwrap();
    let error = change::promote(&place.config, PolicyVersion(4), Some("a test"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("v4 cannot serve"), "{error}");
    let error = change::rollback(&place.config, None).await.unwrap_err().to_string();
    assert!(error.contains("no version was ever made champion"), "{error}");
    assert_eq!(place.champion().await, None);
}

#[tokio::test]
async fn a_log_in_use_is_left_alone_and_the_error_says_what_to_do() {
    let place = Place::new();
    place.put(1).await;
    change::promote(&place.config, PolicyVersion(1), Some("a test")).await.unwrap();
    let service = wiring::log(&place.config).await.unwrap();
    let error = change::promote(&place.config, PolicyVersion(1), Some("a test"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("stop it") && error.contains("rollback --url"), "{error}");
    assert!(change::rollback(&place.config, None).await.is_err());
    let lines = list(&place.config).await.unwrap();
    assert_eq!((lines.len(), &lines[0]["state"]), (1, &Value::Null), "listed without its state");
    drop(service);
    assert_eq!(list(&place.config).await.unwrap()[0]["state"], "champion");
}

#[tokio::test]
async fn a_diff_names_every_tensor_and_how_much_it_changed() {
    let place = Place::new();
    let (one, two) = (place.policy(1), place.policy(2));
    let lines = diff::of(&one, &two).unwrap();
    let tensor = |name: &str| lines.iter().find(|line| line["tensor"] == name).unwrap();
    let changed = tensor("head.input.weight");
    assert_eq!(changed["shape"].as_array().unwrap().len(), 2);
    assert!(changed["max_abs_diff"].as_f64().unwrap() > 0.0);
    assert!(changed["relative_change"].as_f64().unwrap() > 0.5, "two seeds are far apart");
    assert_eq!(tensor("head.norm.weight")["relative_change"], 0.0, "both start at 1");
    assert_eq!(lines.last().unwrap()["same"], false);
    let same = diff::of(&one, &one).unwrap();
    assert_eq!(same.last().unwrap()["max_abs_diff"], 0.0);
    let wider = serving::first_snapshot(place.width + 1, 1, &Device::Cpu).unwrap();
    let lines = diff::of(&one, &wider).unwrap();
    let shapes = lines.iter().find(|line| line["tensor"] == "head.norm.weight").unwrap();
    assert_eq!(shapes["shapes"], json!([[place.width], [place.width + 1]]));
}

#[tokio::test]
async fn an_export_is_a_new_file_or_a_folder_that_evaluation_reads() {
    let place = Place::new();
    place.put(1).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, dir) = (folder.path().join("w.safetensors"), folder.path().join("policy"));
    for out in [&file, &dir] {
        export(&place.config, PolicyVersion(1), out).await.unwrap();
        assert!(export(&place.config, PolicyVersion(1), out).await.is_err(), "never over a file");
    }
    assert_eq!(std::fs::read(file).unwrap(), place.policy(1).weights.to_vec());
    let read = policy(&place.config, dir.to_str().unwrap()).await.unwrap();
    assert_eq!(read, policy(&place.config, "v1").await.unwrap());
    assert!(policy(&place.config, "nothing").await.is_err());
    assert_eq!(read.version, PolicyVersion(1));
}

//! The command on a tiny model and files of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;
use clap::Parser as _;

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        write_tiny_model(&place.0.path().join("model"), 3).unwrap();
        let question = |n: usize| {
            format!(
                "{{\"id\":\"q{n}\",\"question\":\"who is in room {n}?\",\"answers\":[\"bob {n}\"]}}\n\
                 {{\"id\":\"c{n}\",\"question\":\"bob {n} is in\",\"answers\":[\"SUPPORTS\"],\
                 \"answer_type\":\"label\",\"dataset\":\"claims\"}}\n"
            )
        };
        let passage =
            |n: usize| format!("{{\"pid\":\"{n}\",\"text\":\"bob {n} is in room {n}\"}}\n");
        let write = |name: &str, text: String| std::fs::write(place.0.path().join(name), text);
        write("q.jsonl", (0..12).map(question).collect()).unwrap();
        write("p.jsonl", (0..12).map(passage).collect()).unwrap();
        place
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn args(&self, out: &str, more: &[&str]) -> Args {
        let (questions, passages, out) = (self.at("q.jsonl"), self.at("p.jsonl"), self.at(out));
        let models = ["generator", "policy"].map(|at| format!("{at}.model={}", self.at("model")));
        let flags = [
            "train-generator",
            "--questions",
            &questions,
            "--passages",
            &passages,
            "--out",
            &out,
            "--top-n",
            "4",
            "--sft-steps",
            "4",
            "--set",
            &models[0],
            "--set",
            &models[1],
        ];
        Command::try_parse_from(flags.iter().chain(more).copied()).unwrap().args
    }
}

#[tokio::test]
async fn a_run_writes_both_heads_a_report_and_no_checkpoint() {
    let place = Place::new();
    let report = place.at("report.json");
    let more = ["--dpo-steps", "0", "--split", "train", "--evaluate", "--report", &report];
    run(place.args("out", &more)).await.unwrap();
    let reader = crate::policy::reader::PairReader::load(
        Path::new(&place.at("model")),
        crate::policy::reader::ReaderArgs::default(),
    )
    .unwrap();
    for folder in ["out", "out/sft"] {
        let folder = place.at(folder);
        let head =
            answer_head::read(Path::new(&folder), reader.digest(), &candle_core::Device::Cpu);
        assert_eq!(head.unwrap().labels(), ["SUPPORTS", "REFUTES"]);
    }
    let left = std::fs::read_dir(place.at("out")).unwrap().map(|e| e.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_str().unwrap().contains("checkpoint")));
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let rows = written["evaluation"].as_array().unwrap();
    // Margin rule and three heads, at k = 1 and 3, over all and each of two data sets.
    assert_eq!(rows.len(), 4 * 2 * 3);
    assert!(rows.iter().all(|row| row["questions"].as_u64().unwrap() > 0));
}

#[tokio::test]
async fn with_a_frozen_policy_it_lies_beside_the_head_as_it_was() {
    let place = Place::new();
    let policy = serving::first_snapshot(16, 2, &candle_core::Device::Cpu).unwrap();
    policy_folder::write(Path::new(&place.at("policy")), &policy).unwrap();
    let from = place.at("policy");
    let frozen = ["--policy", &from, "--freeze-policy", "--dpo-steps", "0"];
    run(place.args("frozen", &frozen)).await.unwrap();
    let kept = policy_folder::read(Path::new(&place.at("frozen"))).unwrap();
    assert_eq!((&kept.digest, kept.version), (&policy.digest, policy.version));
    run(place.args("moved", &["--policy", &from, "--dpo-steps", "0"])).await.unwrap();
    let moved = policy_folder::read(Path::new(&place.at("moved"))).unwrap();
    assert_ne!(moved.digest, policy.digest);
    assert_eq!((moved.parent, moved.version), (Some(PolicyVersion(0)), PolicyVersion(1)));
}

#[tokio::test]
async fn evaluating_on_what_was_trained_on_is_a_usage_error() {
    let place = Place::new();
    let error = run(place.args("out", &["--evaluate"])).await.unwrap_err();
    assert_eq!(error.exit_code(), 64);
}

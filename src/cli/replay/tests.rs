//! Flags, and a whole replay on a tiny model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;
use clap::Parser as _;

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

#[test]
fn a_speed_is_max_or_a_positive_factor() {
    assert_eq!(parse_speed("max"), Ok(Speed::Max));
    assert_eq!(parse_speed("2.5x"), Ok(Speed::Times(2.5)));
    for wrong in ["", "x", "0x", "-1x", "NaNx", "infx", "10"] {
        assert!(parse_speed(wrong).is_err(), "{wrong} passed");
    }
    assert!(parse_share("1.5").is_err() && parse_share("NaN").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_asks_everything_feeds_back_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write_tiny_model(&folder.path().join("model"), 2).unwrap();
    let questions: String = (0..12)
        .map(|n| format!("{{\"question\":\"who is in room {n}?\",\"answer\":[\"x{n}\"]}}\n"))
        .collect();
    std::fs::write(at("q.jsonl"), questions).unwrap();
    let passages: String = (0..12)
        .map(|n| format!("{{\"pid\":\"p{n}\",\"text\":\"in room {n} sits x{n}\"}}\n"))
        .collect();
    std::fs::write(at("p.jsonl"), passages).unwrap();
    let (questions, passages, report) = (at("q.jsonl"), at("p.jsonl"), at("report.json"));
    let (reader, policy) =
        (format!("generator.model={}", at("model")), format!("policy.model={}", at("model")));
    let flags = [
        "replay",
        "--questions",
        &questions,
        "--passages",
        &passages,
        "--report",
        &report,
        "--set",
        &reader,
        "--set",
        &policy,
        "--feedback-delay-ms",
        "5",
        "--feedback-share",
        "1",
    ];
    run(Command::try_parse_from(flags).unwrap().args).await.unwrap();
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!((&report["questions"], &report["failed_requests"]), (&json!(12), &json!(0)));
    assert_eq!(report["f1_by_hundredth"].as_array().unwrap().len(), 12);
    assert_eq!(report["conservation"]["holds"], true);
    assert_eq!(report["conservation"]["judge"]["joined"], 12);
    assert_eq!(report["conservation"]["judge"]["judged"], 12);
    assert_eq!(report["feedback"], json!({ "given": 12, "refused": 0 }));
    assert!(report["k_mean"].as_f64().unwrap() >= 1.0);
    assert!(!folder.path().join(".regrade").exists());
}

//! Clients that nobody here wrote: kcat asks and reads answers, a Python program sends feedback.

use super::{audit, config, namespace, open, until};
use crate::services::{kafka, python, require_or_skip};
use crate::tiny::{Tiny, passages};
use actors::types::AnswerRecord;
use regrade::config::LogKind;
use regrade::wiring;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The pinned client.
const PACKAGES: [&str; 1] = ["confluent-kafka==2.12.1"];

fn kcat(bootstrap: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        .args(["-b", bootstrap])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "kcat {args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kcat_asks_and_reads_answers_and_python_says_what_they_were_worth() {
    let Some(bootstrap) = kafka() else { return };
    if let Err(error) = Command::new("kcat").arg("-V").output() {
        return require_or_skip("kcat", &error.to_string());
    }
    let packages = ("confluent-kafka-2.12.1", &PACKAGES);
    let python = match tokio::task::block_in_place(|| python(packages.0, packages.1)) {
        Ok(python) => python,
        Err(reason) => return require_or_skip("confluent-kafka for Python", &reason),
    };
    let tiny = Tiny::new();
    let name = namespace("clients");
    let mut settings = tiny.config();
    settings.log.kind = LogKind::Kafka;
    settings.log.kafka = config(bootstrap, &name, 4);
    settings.service.intake.enabled = true;
    wiring::index(&settings).await.unwrap().upsert(&passages()).await.unwrap();
    let service = wiring::service(&settings).await.unwrap();
    let log = open(&tiny.at("test-log"), settings.log.kafka.clone()).await;

    let queries = (0..8)
        .map(|n| format!(r#"k{n}:{{"id": "k{n}", "query": "who has the key of room {n}?"}}"#))
        .collect::<Vec<_>>()
        .join("\n");
    let topic = format!("{name}.queries");
    tokio::task::block_in_place(|| {
        kcat(bootstrap, &["-P", "-t", &topic, "-K", ":", "-H", "ce_source=kcat"], &queries)
    });
    until("answered", async || audit(&log).await.queries_answered == 8).await;
    let topic = format!("{name}.answers");
    let text = tokio::task::block_in_place(|| {
        kcat(bootstrap, &["-C", "-e", "-q", "-o", "beginning", "-t", &topic], "")
    });
    let answers: Vec<AnswerRecord> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 8);

    let decisions: Vec<String> =
        answers.into_iter().map(|answer| answer.served.unwrap().decision_id.0).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kafka/feedback.py");
    let status = tokio::task::block_in_place(|| {
        let topic = format!("{name}.feedback");
        Command::new(python).arg(script).args([bootstrap, &topic]).args(&decisions).status()
    });
    assert!(status.unwrap().success());
    until("judged", async || audit(&log).await.episodes_judged == 8).await;
    let balance = audit(&log).await;
    println!("{}", serde_json::to_string(&balance).unwrap());
    assert_eq!((balance.feedback, balance.feedback_known), (8, 8));
    let judge = service.observe().await.judge.unwrap();
    assert!(judge.is_conserved() && judge.judged == 8, "{judge:?}");
    assert!(service.drain(super::PATIENCE).await.clean);
}

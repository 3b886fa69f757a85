//! `regrade index` and `regrade evaluate-retrieval` as a user runs them: files in, an index in a
//! folder, and a kill in the middle.

use crate::tiny::{PATIENCE, Tiny, command};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

fn words(tiny: &Tiny, words: &[&str]) -> Vec<String> {
    let own = words.iter().map(|word| (*word).to_owned());
    own.chain(tiny.flags()).collect()
}

/// The program itself, with its folder.
fn regrade(tiny: &Tiny, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regrade"));
    command.args(words(tiny, arguments)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json(output: &Output) -> serde_json::Value {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn counts(summary: &serde_json::Value) -> [u64; 5] {
    ["sent", "unchanged", "deleted", "chunks", "total"].map(|key| summary[key].as_u64().unwrap())
}

fn corpus(n: usize) -> String {
    let line =
        |n| format!("{{\"pid\":\"p{n}\",\"title\":\"room {n}\",\"text\":\"the key {n}\"}}\n");
    (0..n).map(line).collect()
}

#[test]
fn the_summary_says_what_was_sent_and_a_second_run_sends_nothing() {
    let tiny = Tiny::new();
    let file = tiny.file("p.jsonl", &corpus(5));
    let index = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["index"].iter().chain(arguments).copied().collect();
        counts(&json(&regrade(&tiny, &arguments).output().unwrap()))
    };
    assert_eq!(index(&["--passages", &file]), [5, 0, 0, 5, 5]);
    assert_eq!(index(&["--passages", &file]), [0, 5, 0, 0, 5]);
    tiny.file("p.jsonl", &corpus(4));
    assert_eq!(index(&["--passages", &file]), [0, 4, 0, 0, 5]);
    assert_eq!(index(&["--passages", &file, "--delete-missing"]), [0, 4, 1, 0, 4]);
    let ids = tiny.file("ids.txt", "p1\n\np2\n");
    assert_eq!(index(&["--delete", &ids, "p0"]), [0, 0, 3, 0, 1]);
    let cut = ["--passages", &file, "--chunk-tokens", "4", "--chunk-overlap", "1"];
    assert_eq!(index(&cut), [4, 0, 0, 8, 8]);
    assert_eq!(index(&cut), [0, 4, 0, 0, 8]);
}

#[test]
fn a_killed_run_is_taken_up_where_it_stopped() {
    let tiny = Tiny::new();
    let file = tiny.file("p.jsonl", &corpus(400));
    let arguments = ["index", "--passages", &file, "--batch", "5"];
    let mut child = regrade(&tiny, &arguments).spawn().unwrap();
    // One JSON line a step: kill it in the middle of the work.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let reached = lines.find(|line| {
        let step: serde_json::Value =
            serde_json::from_str(line.as_ref().unwrap()).unwrap_or_default();
        step["done"].as_u64().is_some_and(|done| done >= 20)
    });
    assert!(reached.is_some(), "the command ended before it was killed");
    child.kill().unwrap();
    child.wait().unwrap();
    let [sent, unchanged, deleted, chunks, total] =
        counts(&json(&regrade(&tiny, &arguments).output().unwrap()));
    assert_eq!((sent + unchanged, deleted, chunks, total), (400, 0, sent, 400));
    assert!(unchanged >= 20, "{unchanged} were done before the kill");
    assert!(sent > 0, "the kill came in the middle");
    let again = counts(&json(&regrade(&tiny, &arguments).output().unwrap()));
    assert_eq!(again, [0, 400, 0, 0, 400]);
}

#[tokio::test]
async fn a_folder_in_the_layout_of_beir_is_indexed_and_evaluated() {
    let tiny = Tiny::new();
    std::fs::create_dir_all(tiny.at("beir/qrels")).unwrap();
    tiny.file(
        "beir/corpus.jsonl",
        "{\"_id\":\"d1\",\"title\":\"\",\"text\":\"the nile\"}\n\
                                    {\"_id\":\"d2\",\"text\":\"everest\",\"metadata\":{}}\n",
    );
    tiny.file(
        "beir/queries.jsonl",
        "{\"_id\":\"1\",\"text\":\"nile\"}\n\
                                     {\"_id\":\"2\",\"text\":\"everest\"}\n",
    );
    let qrels =
        tiny.file("beir/qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\td1\t1\n2\td1\t1\n");
    let (folder, report) = (tiny.text("beir"), tiny.text("report.json"));
    command(&words(&tiny, &["index", "--passages", &folder])).await.unwrap();
    let evaluate = ["evaluate-retrieval", "--questions", &folder, "--qrels", &qrels];
    let evaluate: Vec<&str> = evaluate.into_iter().chain(["--report", &report]).collect();
    command(&words(&tiny, &evaluate)).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let row = &told["retrievers"][0];
    assert_eq!((row["name"].as_str(), row["questions"].as_u64()), (Some("bm25"), Some(2)));
    assert_eq!((row["hit_at_1"].as_f64(), row["ndcg_at_10"].as_f64()), (Some(0.5), Some(0.5)));
}

#[tokio::test]
async fn with_an_embedder_the_three_ways_to_search_are_compared() {
    let tiny = Tiny::new();
    let passages = tiny.file("p.jsonl", &corpus(6));
    let questions = tiny.file(
        "q.jsonl",
        "{\"id\":\"1\",\"question\":\"the key 3\",\"answers\":[\"x\"],\"positives\":[\"p3\"]}\n\
         {\"id\":\"2\",\"question\":\"nobody knows\",\"answers\":[\"x\"],\"positives\":[]}\n",
    );
    let (report, model) = (tiny.text("report.json"), tiny.text("model"));
    let embedder = format!("index.embedder.local.model={model}");
    let arguments = [
        "evaluate-retrieval",
        "--questions",
        &questions,
        "--passages",
        &passages,
        "--report",
        &report,
        "--set",
        "index.embedder.kind=local",
        "--set",
        &embedder,
    ];
    command(&words(&tiny, &arguments)).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(told["without_relevant"], 1);
    let rows = told["retrievers"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bm25", "dense", "hybrid"]);
    assert!(rows.iter().all(|row| row["hit_at_20"] == 1.0), "{rows:?}");
    let wrong = ["evaluate-retrieval", "--questions", &questions, "--retriever", "dense"];
    let (code, told) = command(&words(&tiny, &wrong)).await.unwrap_err();
    assert_eq!(code, 64);
    assert!(told.contains("dense and hybrid need `[index.embedder]`"), "{told}");
}

#[tokio::test]
async fn runs_of_other_systems_are_scored_by_judgements() {
    let tiny = Tiny::new();
    let qrels = tiny.file("qrels.txt", "1 0 a 3\n1 0 b 1\n2 0 c 2\n");
    let run = tiny.file("mine.txt", "1 Q0 b 1 9.5 x\n1 Q0 a 2 9.0 x\n");
    let report = tiny.text("report.json");
    let arguments = ["evaluate-retrieval", "--run", &run, "--qrels", &qrels, "--report", &report];
    tokio::time::timeout(PATIENCE, command(&arguments)).await.unwrap().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    // (1 + 3 / log2 3) / (3 + 1 / log2 3) for the first query, nothing for the second.
    let expected = (1.0 + 3.0 / 3.0_f64.log2()) / (3.0 + 1.0 / 3.0_f64.log2()) / 2.0;
    let row = &told["retrievers"][0];
    assert_eq!(row["name"], "mine");
    assert!((row["ndcg_at_10"].as_f64().unwrap() - expected).abs() < 1e-12, "{row}");
}

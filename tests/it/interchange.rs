//! The round trip by its commands: data out of a real log, weights in, each held against what
//! transformers or the head itself computes.

use crate::tiny::{PATIENCE, Tiny, command, query, start, until};
use actors::service::Overrides;
use candle_core::Device;
use regrade::interchange::selection::{Reading, parse_selection};
use regrade::policy::model_folder::{ModelFolder, Precision, write_folder};
use regrade::policy::{policy_folder, serving};
use regrade::wiring;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// A BERT of random weights as transformers saves it, with the logits that transformers computes;
/// written by `tests/oracles/parity.py fixtures`.
fn tiny_bert() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert")
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn words<'a>(fixed: &[&'a str], flags: &'a [String]) -> Vec<&'a str> {
    fixed.iter().copied().chain(flags.iter().map(String::as_str)).collect()
}

async fn import_encoder(model: &Path, out: &Path) -> Result<(), (u8, String)> {
    let parity = tiny_bert().join("parity.jsonl");
    let (model, out, parity) = (
        model.to_str().unwrap().to_owned(),
        out.to_str().unwrap().to_owned(),
        parity.to_str().unwrap().to_owned(),
    );
    let flags = ["import", "encoder", "--model", &model, "--name", "tiny-bert", "--out", &out];
    command(&words(&flags, &["--parity".to_owned(), parity])).await
}

#[tokio::test]
async fn a_bert_of_transformers_computes_here_what_it_computes_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    import_encoder(&tiny_bert(), &out).await.unwrap();
    let told: Value =
        serde_json::from_slice(&std::fs::read(out.join("import.json")).unwrap()).unwrap();
    assert_eq!(told["lineage"], "imported/tiny-bert");
    assert_eq!((&told["parity"]["cases"], &told["parity"]["logits"]), (&json!(6), &json!(30)));
    assert!(told["parity"]["max_difference"].as_f64().unwrap() < 1e-5, "{told}");
    assert_eq!(told["parity"]["kendall_tau"], 1.0);
    // What was imported is a model folder like any other.
    ModelFolder::load(&out, &Device::Cpu).unwrap();
    let (code, error) = import_encoder(&tiny_bert(), &out).await.unwrap_err();
    assert_eq!(code, 1);
    assert!(error.contains("exists; give another --out"), "{error}");
}

#[tokio::test]
async fn one_perturbed_weight_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (theirs, out) = (folder.path().join("theirs"), folder.path().join("model"));
    let ModelFolder { config, tokenizer, mut tensors, .. } =
        ModelFolder::load(&tiny_bert(), &Device::Cpu).unwrap();
    let name = "encoder.layer.1.output.dense.weight";
    let mut numbers = tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    numbers[5] += 0.5;
    let shape = tensors[name].shape().clone();
    let changed = candle_core::Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
    tensors.insert(name.to_owned(), changed);
    write_folder(&theirs, &config, &tokenizer, &tensors, Precision::F32).unwrap();
    let (code, error) = import_encoder(&theirs, &out).await.unwrap_err();
    assert_eq!(code, 1);
    for part in
        ["parity failed: ", "of 30 logits", "the worst at", "parity.jsonl:", "1e-4 is allowed"]
    {
        assert!(error.contains(part), "{part} not in: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only theirs is there");
}

/// A log of judged episodes: every question is asked twice, with sampled selections.
async fn logged() -> Tiny {
    let tiny = Tiny::new();
    let service = start(&tiny.config()).await;
    let holders = ["ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal"];
    for round in 0..2 {
        for (n, holder) in holders.iter().enumerate() {
            let mut query = query(n, &[*holder]);
            query.id = format!("q{n}-{round}").as_str().into();
            service.answer(query, Overrides::default()).await.unwrap();
        }
    }
    until("judged", async || service.observe().await.judge.is_some_and(|j| j.judged == 16)).await;
    assert!(service.drain(PATIENCE).await.clean);
    tiny
}

#[test]
fn a_log_goes_out_as_training_data_and_as_cases_and_a_policy_comes_back() {
    // The service lets go of its log with its runtime.
    let tiny = Runtime::new().unwrap().block_on(logged());
    Runtime::new().unwrap().block_on(round_trip(&tiny));
}

async fn round_trip(tiny: &Tiny) {
    let flags = tiny.flags();
    let at = |name: &str| tiny.text(name);

    let out = at("sft");
    let asked = ["export", "sft", "--format", "trl", "--min-reward", "-1", "--out", &out];
    command(&words(&asked, &flags)).await.unwrap();
    let (mut train, holdout) =
        (lines(&tiny.at("sft/train.jsonl")), lines(&tiny.at("sft/holdout.jsonl")));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(tiny.at("sft/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["source"]["log"]["judged"], 16);
    let refused: u64 =
        manifest["refused"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(train.len() as u64 + holdout.len() as u64 + refused, 16);
    train.extend(holdout);
    for row in &train {
        let text = row["completion"][0]["content"].as_str().unwrap();
        let user = row["prompt"][1]["content"].as_str().unwrap();
        let n = user.lines().filter(|line| line.contains(". Topic: ")).count();
        assert!(parse_selection(text, n, Reading::Strict).is_ok(), "{text} of {n}: {user}");
    }

    let out = at("pairs");
    let asked = ["export", "preferences", "--format", "llama-factory", "--role", "generator"];
    let asked = [&asked[..], &["--out", &out]].concat();
    command(&words(&asked, &flags)).await.unwrap();
    let info: Value =
        serde_json::from_slice(&std::fs::read(tiny.at("pairs/dataset_info.json")).unwrap())
            .unwrap();
    assert!(info.as_object().unwrap().values().all(|entry| entry["ranking"] == true), "{info}");
    for row in lines(&tiny.at("pairs/train.jsonl")) {
        assert_ne!(row["chosen"], row["rejected"]);
    }

    let cases = at("cases.jsonl");
    let asked =
        ["export", "parity-inputs", "--quantity", "scores", "--count", "5", "--out", &cases];
    command(&words(&asked, &flags)).await.unwrap();
    import_policy(tiny, &flags).await;
}

/// The service's own first weights as if they came from elsewhere, with the scores that were logged.
async fn import_policy(tiny: &Tiny, flags: &[String]) {
    let first = wiring::first_policy(&tiny.config()).unwrap();
    let (file, cases, out) =
        (tiny.text("theirs.safetensors"), tiny.text("cases.jsonl"), tiny.text("imported"));
    std::fs::write(&file, &first.weights).unwrap();
    let asked = ["import", "policy", "--weights", &file, "--name", "lab", "--out", &out];
    let asked = [&asked[..], &["--parity", &cases]].concat();
    let (_, error) = command(&words(&asked, flags)).await.unwrap_err();
    assert!(error.contains("cases.jsonl:1: ") && error.contains("`logits` is missing"), "{error}");

    let head = serving::from_snapshot(&first, &Device::Cpu).unwrap().head;
    let fill = |off: f64| {
        let filled = lines(Path::new(&cases)).into_iter().map(|mut line| {
            let case = serde_json::from_value(line.clone()).unwrap();
            let mut logits = regrade::interchange::parity::of_head(&head, &case).unwrap();
            logits[0] += off;
            line["logits"] = json!(logits);
            format!("{line}\n")
        });
        filled.collect::<String>()
    };
    let (wrong, right) = (fill(0.01), fill(1e-5));
    std::fs::write(&cases, wrong).unwrap();
    let (_, error) = command(&words(&asked, flags)).await.unwrap_err();
    assert!(error.contains("parity failed: 5 of ") && error.contains("document 0"), "{error}");
    assert!(!tiny.at("imported").exists());
    std::fs::write(&cases, right).unwrap();
    command(&words(&asked, flags)).await.unwrap();
    let imported = policy_folder::read(&tiny.at("imported")).unwrap();
    assert_eq!(imported.recipe, "imported/lab");
    assert_eq!((imported.version.0, &imported.digest), (1, &first.digest));
}

#[tokio::test]
async fn records_of_a_recipe_are_refused_with_file_and_line() {
    let tiny = Tiny::new();
    let record = json!({
        "kind": "preference",
        "query": { "query": "who?" },
        "candidates": [{ "document": { "id": "a", "text": "x" }, "score": 1.0, "rank": 0 }],
        "chosen": { "order": [0], "reward": 1.0 },
        "rejected": { "order": [], "reward": 0.0 },
    });
    let mut wrong = record.clone();
    wrong["rejected"]["order"] = json!([7]);
    let records = tiny.file("records.jsonl", &format!("{record}\n\n{wrong}\n"));
    let out = tiny.text("data");
    let asked = ["export", "preferences", "--format", "trl", "--records", &records, "--out", &out];
    let (code, error) = command(&asked).await.unwrap_err();
    assert_eq!(code, 1);
    assert!(error.contains("records.jsonl:3: ") && error.contains("holds 7"), "{error}");
    tiny.file("records.jsonl", &format!("{record}\n"));
    command(&asked).await.unwrap();
    let both = [lines(&tiny.at("data/train.jsonl")), lines(&tiny.at("data/holdout.jsonl"))];
    let row = both.concat().remove(0);
    assert_eq!(row["chosen"][0]["content"], "[1]");
    assert_eq!(row["rejected"][0]["content"], "None");
    let (code, error) =
        command(&["export", "sft", "--format", "trl", "--out", "x", "--holdout-fraction", "1"])
            .await
            .unwrap_err();
    assert_eq!(code, 64);
    assert!(error.contains("holdout_fraction: 1 must lie in [0, 1)"), "{error}");
}

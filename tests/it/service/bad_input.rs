//! Files, folders and settings that are wrong: each is named, and nothing is half done.

use crate::tiny::{Tiny, chain, command, is_empty};
use candle_core::{DType, Device, Tensor};
use regrade::policy::model_folder::{ModelFolder, Precision, write_folder};
use regrade::wiring;

fn with_flags(tiny: &Tiny, words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).chain(tiny.flags()).collect()
}

#[tokio::test]
async fn a_broken_passage_file_is_named_by_line_and_field_and_nothing_of_it_is_indexed() {
    let tiny = Tiny::new();
    let good = tiny.file("good.jsonl", "{\"pid\":\"a\",\"text\":\"one\"}\n");
    for (text, expected) in [
        ("{\"pid\":\"b\",\"text\":\"two\"}\n{\"pid\":\"c\"}\n", "bad.jsonl:2: field `text`"),
        ("{\"pid\":\"b\",\"text\":\"two\"}\n{\"pid\":\n", "bad.jsonl:2: expected a JSON object"),
        ("{\"pid\":\"b\",\"text\":7.5}\n{\"pid\":[]}", "bad.jsonl:2: field `pid`"),
        ("{\"pid\":\"a\",\"text\":\"again\"}", "stands twice"),
    ] {
        let bad = tiny.file("bad.jsonl", text);
        let words = with_flags(&tiny, &["index", "--passages", &good, &bad]);
        let (code, message) = command(&words).await.unwrap_err();
        assert_eq!(code, 1);
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(is_empty(&tiny.at("index")), "nothing was written");
    }
    let words = with_flags(&tiny, &["index", "--passages", &good]);
    command(&words).await.unwrap();
    let index = wiring::index(&tiny.config()).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_broken_question_file_is_named_by_line_and_field() {
    let tiny = Tiny::new();
    let passages = tiny.file("p.jsonl", "{\"pid\":\"a\",\"text\":\"one\"}\n");
    let first = "{\"question\":\"who?\",\"answer\":[\"ada\"]}";
    for (line, expected) in [
        ("{\"question\":\"\"}", "q.jsonl:2: field `question`: expected a non-empty string"),
        ("{\"answers\":[\"x\"]}", "q.jsonl:2: field `question`: expected a non-empty string"),
        ("{\"question\":\"q\",\"answers\":[3,{}]}", "q.jsonl:2: field `answers[1]`"),
        ("not json", "q.jsonl:2: expected a JSON object"),
    ] {
        let questions = tiny.file("q.jsonl", &format!("{first}\n{line}\n"));
        let words = ["replay", "--questions", &questions, "--passages", &passages];
        let (code, message) = command(&words).await.unwrap_err();
        assert_eq!(code, 1);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[tokio::test]
async fn an_empty_corpus_is_an_error() {
    let tiny = Tiny::new();
    let empty = tiny.file("empty.jsonl", "\n\n");
    let words = with_flags(&tiny, &["index", "--passages", &empty]);
    let (code, message) = command(&words).await.unwrap_err();
    assert_eq!(code, 1);
    assert!(
        message.contains("no passage found in") && message.contains("empty.jsonl"),
        "{message}"
    );
}

#[tokio::test]
async fn a_model_folder_with_a_missing_or_misshapen_tensor_is_named_by_it() {
    let tiny = Tiny::new();
    let name = "encoder.layer.1.output.dense.weight";
    let whole = ModelFolder::load(&tiny.at("model"), &Device::Cpu).unwrap();
    let wrong = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    for (replaced, expected) in [(None, "missing"), (Some(wrong), "[2, 3]")] {
        let mut tensors = whole.tensors.clone();
        tensors.remove(name);
        tensors.extend(replaced.map(|tensor| (name.to_owned(), tensor)));
        let folder = tiny.at("model");
        write_folder(&folder, &whole.config, &whole.tokenizer, &tensors, Precision::F32).unwrap();
        let error = wiring::parts(&tiny.config()).await.map(drop).unwrap_err();
        let message = chain(&error);
        for part in [name, expected, "model.safetensors"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

#[tokio::test]
async fn a_typo_and_an_impossible_bound_end_every_command_with_78() {
    let tiny = Tiny::new();
    for (text, expected) in [
        ("[service]\ntop_nn = 3\n", "did you mean `top_n`?"),
        ("[service.limits]\nk_min = 40\n", "40 is above k_max 10"),
        ("[service]\ntop_n = \"many\"\n", "a value of the expected type"),
    ] {
        let config = tiny.file("c.toml", text);
        for words in [
            vec!["check", &config],
            vec!["serve", "--config", &config],
            vec!["policy", "list", "--config", &config],
        ] {
            let (code, message) = command(&words).await.unwrap_err();
            assert_eq!(code, 78, "{message}");
            assert!(message.contains("c.toml:2:") && message.contains(expected), "{message}");
        }
    }
}

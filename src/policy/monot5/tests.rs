//! Tiny models with the scores that transformers gives them; `tests/oracles/monot5.py` made both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Expected {
    query: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    document: String,
    ids: Vec<u32>,
    score: f64,
}

fn fixture(name: &str) -> (PathBuf, Expected, Vec<Document>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/monot5").join(name);
    let text = std::fs::read(folder.join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&text).unwrap();
    let documents = expected.cases.iter().enumerate().map(|(n, case)| document(n, &case.document));
    let documents = documents.collect();
    (folder, expected, documents)
}

fn document(n: usize, text: &str) -> Document {
    Document { id: format!("d{n}").as_str().into(), text: text.to_owned(), ..Document::default() }
}

/// Limits that the tiny models' documents fit in.
fn args() -> MonoT5Args {
    MonoT5Args { max_query_tokens: 40, ..MonoT5Args::default() }
}

fn load(name: &str, args: &MonoT5Args) -> Result<MonoT5, MonoT5Error> {
    MonoT5::load(&fixture(name).0, args, &Device::Cpu)
}

/// A copy of a fixture with its configuration changed.
fn changed(field: &str, value: serde_json::Value) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let (folder, ..) = fixture("tied");
    for file in [CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE] {
        std::fs::copy(folder.join(file), copy.path().join(file)).unwrap();
    }
    let path = copy.path().join(CONFIG_FILE);
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    std::fs::write(path, config.to_string()).unwrap();
    copy
}

#[test]
fn scores_are_those_of_transformers_and_of_the_document_they_stand_beside() {
    for name in ["tied", "gated"] {
        let (_, expected, documents) = fixture(name);
        let model = load(name, &args()).unwrap();
        let listed: Vec<&Document> = documents.iter().collect();
        let inputs = model.input.encode(&expected.query, &listed).unwrap();
        for (input, case) in inputs.iter().zip(&expected.cases) {
            assert_eq!(*input, case.ids, "{:?}", case.document);
        }
        let scores = model.score(&expected.query, &listed).unwrap();
        for (at, (score, case)) in scores.iter().zip(&expected.cases).enumerate() {
            let off = (f64::from(*score) - case.score).abs();
            assert!(off < 1e-4, "{name} {at}: {score} against {}", case.score);
            // Distinct documents have distinct scores: one written in another's place is noticed.
            for other in &scores[..at] {
                assert!((score - other).abs() > 1e-4, "{name} {at}: {scores:?}");
            }
        }
        // In other orders and alone: what is beside a document changes nothing.
        let turned: Vec<&Document> = listed.iter().rev().copied().collect();
        let turned = model.score(&expected.query, &turned).unwrap();
        for (at, document) in listed.iter().enumerate() {
            let alone = model.score(&expected.query, &[document]).unwrap()[0];
            assert!((alone - scores[at]).abs() < 1e-5);
            assert!((turned[listed.len() - 1 - at] - scores[at]).abs() < 1e-5);
        }
        assert!((model.probability(scores[0]) - scores[0].exp()).abs() < 1e-6);
    }
}

#[test]
fn the_document_is_cut_and_never_what_follows_it() {
    let (_, expected, documents) = fixture("tied");
    let whole = load("tied", &args()).unwrap();
    let input = |model: &MonoT5, query: &str, document: &Document| {
        model.input.encode(query, &[document]).unwrap().remove(0)
    };
    let suffix = whole.input.after.clone();
    assert_eq!(suffix.last(), Some(&1), "the end of the sequence");
    let long = document(9, &"the river . ".repeat(400));
    let cut = input(&whole, &expected.query, &long);
    assert_eq!(cut.len(), 512);
    assert!(cut.ends_with(&suffix));
    let uncut = input(&whole, &expected.query, &documents[3]);
    assert!(uncut.ends_with(&suffix) && uncut.len() < 512);
    // A long query is cut too, and leaves room for the document.
    let narrow = MonoT5Args { max_tokens: 40, max_query_tokens: 10, ..args() };
    let narrow = load("tied", &narrow).unwrap();
    let cut = input(&narrow, &"where is the town ".repeat(900), &long);
    assert_eq!(cut.len(), 40);
    assert!(cut.ends_with(&suffix));
    assert_ne!(
        narrow.score("where", &[&long]).unwrap(),
        narrow.score("where", &[&documents[1]]).unwrap()
    );
}

#[test]
fn small_batches_give_the_scores_of_large_ones() {
    let (_, expected, mut documents) = fixture("tied");
    documents.extend((0..9).map(|n| document(100 + n, &expected.cases[n % 6].document)));
    let listed: Vec<&Document> = documents.iter().collect();
    let large = load("tied", &args()).unwrap().score(&expected.query, &listed).unwrap();
    for batch_tokens in [1, 45, 100] {
        let small = load("tied", &MonoT5Args { batch_tokens, ..args() }).unwrap();
        let small = small.score(&expected.query, &listed).unwrap();
        for (a, b) in small.iter().zip(&large) {
            assert!((a - b).abs() < 1e-5);
        }
    }
    assert!(load("tied", &args()).unwrap().score("q", &[]).unwrap().is_empty());
}

#[test]
fn a_batch_holds_one_length_and_every_place_is_in_one() {
    assert_eq!(batches(&[5, 3, 5, 5, 3], 10), [vec![1, 4], vec![0, 2], vec![3]]);
    assert_eq!(batches(&[5, 3], 1), [vec![1], vec![0]], "one sequence is always taken");
    assert!(batches(&[], 10).is_empty());
}

#[test]
fn large_logits_neither_overflow_nor_lose_the_difference() {
    assert!((log_probability(0.0, 0.0) + 2.0_f32.ln()).abs() < 1e-6);
    // Odds of 4 to 1, far beyond where exp ends in f32.
    assert!((log_probability(200.0 + 4.0_f32.ln(), 200.0) - 0.8_f32.ln()).abs() < 1e-4);
    assert_eq!(log_probability(300.0, 0.0), 0.0);
    assert_eq!(log_probability(0.0, 300.0), -300.0);
    assert!((log_probability(-500.0, -500.0) + 2.0_f32.ln()).abs() < 1e-6);
}

#[test]
fn the_words_of_a_checkpoint_are_its_own() {
    let words = |name: &str| {
        let AnswerWords { relevant, irrelevant } = AnswerWords::of_checkpoint(name);
        (relevant, irrelevant)
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(words("castorini/monot5-base-msmarco"), pair("▁true", "▁false"));
    assert_eq!(words("unicamp-dl/mt5-base-mmarco-v2"), pair("▁yes", "▁no"));
    assert_eq!(words("unicamp-dl/ptt5-base-pt-msmarco-10k-v2"), pair("▁sim", "▁não"));
    assert_eq!(words("unicamp-dl/mt5-13b-mmarco-100k"), pair("▁true", "▁"));
    assert_eq!(words("somebody/else"), pair("▁true", "▁false"));
    // Other words give another score; swapped words give the probability of the opposite.
    let (_, expected, documents) = fixture("tied");
    let score = |words: AnswerWords| {
        let model = load("tied", &MonoT5Args { words, ..args() }).unwrap();
        model.score(&expected.query, &[&documents[0]]).unwrap()[0]
    };
    let (yes, no) = (score(AnswerWords::default()), score(AnswerWords::new("▁false", "▁true")));
    assert!((yes.exp() + no.exp() - 1.0).abs() < 1e-5);
    assert!((yes - score(AnswerWords::new("▁yes", "▁no"))).abs() > 1e-4);
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let told = |result: Result<MonoT5, MonoT5Error>| result.err().unwrap().to_string();
    let words = AnswerWords::new("▁sim", "▁não");
    assert!(told(load("tied", &MonoT5Args { words, ..args() })).contains("`▁sim`"));
    assert!(told(load("tied", &MonoT5Args { max_tokens: 20, ..args() })).contains("`max_tokens`"));
    let zero = MonoT5Args { max_query_tokens: 0, ..args() };
    assert!(told(load("tied", &zero)).contains("`max_query_tokens`"));
    assert!(
        told(load("tied", &MonoT5Args { batch_tokens: 0, ..args() })).contains("`batch_tokens`")
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(told(MonoT5::load(empty.path(), &args(), &Device::Cpu)).contains("config.json"));
    for (field, value, expected) in [
        ("is_encoder_decoder", serde_json::json!(false), "is_encoder_decoder"),
        ("feed_forward_proj", serde_json::json!("gelu"), "feed_forward_proj"),
        ("num_heads", serde_json::json!(0), "size is 0"),
        ("d_ff", serde_json::json!(33), "shape"),
        ("vocab_size", serde_json::json!(5), "no token"),
    ] {
        let copy = changed(field, value);
        let error = told(MonoT5::load(copy.path(), &args(), &Device::Cpu));
        assert!(error.contains(expected), "{field}: {error}");
    }
    let copy = changed("d_ff", serde_json::json!(32));
    std::fs::remove_file(copy.path().join(WEIGHTS_FILE)).unwrap();
    let error = told(MonoT5::load(copy.path(), &args(), &Device::Cpu));
    assert!(error.contains("model.safetensors"), "{error}");
    let model = load("tied", &args()).unwrap();
    assert!(matches!(model.log_probabilities("  ", &[]), Err(MonoT5Error::EmptyQuery)));
}

//! The reader's answers on real questions against the figures of its model card.
//!
//! `REGRADE_SHARED=DIR cargo test --release -p regrade --lib figures -- --ignored --nocapture`
//! measures 240 questions for the original and the compact weights; the plain test takes 40.
//! Without the data (`DIR/data`, default `../shared`) both skip.
#![allow(clippy::print_stdout, reason = "tells why it skips and what it measured")]

use super::*;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::io::Read as _;
use std::path::PathBuf;

struct Asked {
    question: String,
    answers: Vec<String>,
    gold: Document,
}

fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("REGRADE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    if path.join("data").is_dir() {
        return Some(path);
    }
    println!("skipped: no data folder in {}; set REGRADE_SHARED", path.display());
    None
}

fn lines(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The first `count` questions of `set` whose id hashes to an odd number: the reader never saw them.
fn asked(shared: &Path, set: &str, pool: &str, count: usize) -> Vec<Asked> {
    let data = shared.join("data");
    let documents: HashMap<String, Document> =
        lines(&data.join(format!("{pool}.passages.jsonl.gz")))
            .into_iter()
            .map(|line| serde_json::from_value::<Document>(line).unwrap())
            .map(|document| (document.id.to_string(), document))
            .collect();
    let odd = |id: &str| {
        use sha2::{Digest as _, Sha256};
        Sha256::digest(id).last().is_some_and(|byte| byte % 2 == 1)
    };
    lines(&data.join(format!("{set}.questions.jsonl.gz")))
        .into_iter()
        .filter(|line| odd(line["id"].as_str().unwrap()))
        .filter_map(|line| {
            let gold = documents.get(line["positives"][0].as_str()?)?.clone();
            let answers = line["answers"].as_array()?.iter();
            Some(Asked {
                question: line["question"].as_str()?.to_owned(),
                answers: answers.filter_map(|a| a.as_str().map(str::to_owned)).collect(),
                gold,
            })
        })
        .take(count)
        .collect()
}

/// SQuAD v1.1 normalisation.
fn words(text: &str) -> Vec<String> {
    let kept: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = kept.split_whitespace().filter(|w| !["a", "an", "the"].contains(w));
    words.map(str::to_owned).collect()
}

fn f1(answer: &str, gold: &str) -> f64 {
    let (answer, mut gold) = (words(answer), words(gold));
    let total = answer.len() + gold.len();
    let mut common = 0;
    for word in answer {
        if let Some(at) = gold.iter().position(|g| *g == word) {
            gold.swap_remove(at);
            common += 1;
        }
    }
    if total == 0 { 1.0 } else { 2.0 * f64::from(common) / total as f64 }
}

/// Mean F1 and exact match, in percent.
fn score(reader: &PairReader, asked: &[Asked]) -> (f64, f64) {
    let pairs: Vec<_> = asked.iter().map(|a| (a.question.as_str(), &a.gold)).collect();
    let (mut f1_sum, mut exact) = (0.0, 0.0);
    for (asked, reading) in asked.iter().zip(reader.read(&pairs).unwrap()) {
        let best = asked.answers.iter().map(|gold| f1(&reading.answer, gold)).fold(0.0, f64::max);
        f1_sum += best;
        let same = |gold: &String| words(gold) == words(&reading.answer);
        exact += f64::from(u8::from(asked.answers.iter().any(same)));
    }
    (100.0 * f1_sum / asked.len() as f64, 100.0 * exact / asked.len() as f64)
}

fn folders(shared: &Path) -> Vec<PathBuf> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/models/minilm-reader");
    let candidates = [shared.join("models/minilm-reader"), shipped];
    candidates.into_iter().filter(|folder| folder.join("config.json").is_file()).collect()
}

#[test]
fn the_reader_answers_gold_passages_as_well_as_its_card_says() {
    let Some(shared) = shared() else { return };
    let asked = asked(&shared, "nq-gold", "wiki", 40);
    for folder in folders(&shared) {
        let reader = PairReader::load(&folder, ReaderArgs::default()).unwrap();
        let (f1, em) = score(&reader, &asked);
        println!("{}: 40 questions of nq-gold: F1 {f1:.1}, EM {em:.1}", folder.display());
        // The card: F1 59.1 on 240 questions; 40 of them have a standard error of about 7.
        assert!(f1 > 44.0, "F1 {f1}");
    }
}

#[test]
#[ignore = "480 forward passes a folder: for a release build, with data"]
fn figures_of_the_original_and_the_compact_weights() {
    let Some(shared) = shared() else { return };
    let sets = [("nq-gold", "wiki"), ("squad-du-test", "squad-du-test")];
    let sets = sets.map(|(set, pool)| (set, asked(&shared, set, pool, 240)));
    for folder in folders(&shared) {
        let reader = PairReader::load(&folder, ReaderArgs::default()).unwrap();
        for (set, asked) in &sets {
            let (f1, em) = score(&reader, asked);
            let n = asked.len();
            println!("{}: {n} questions of {set}: F1 {f1:.1}, EM {em:.1}", folder.display());
        }
    }
}

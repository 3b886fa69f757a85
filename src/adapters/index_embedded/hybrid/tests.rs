//! The contract with vectors, completion, fingerprints, and what happens when the embedder fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::adapters::contract::check_search_index;
use crate::adapters::index_embedded::{EmbeddedIndex, EmbeddedIndexConfig};
use crate::retrieval::{to_unit_length, tokens};
use actors::ports::{Search, SearchIndex};
use async_trait::async_trait;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A bag of words: each term adds to one of 64 values, and its synonyms to the same.
#[derive(Default)]
struct Bag {
    name: &'static str,
    is_down: AtomicBool,
    embedded: AtomicUsize,
}

const WIDTH: usize = 64;

fn place(term: &str) -> usize {
    let term = match term {
        "car" | "automobile" => "vehicle",
        other => other,
    };
    term.bytes().fold(7_usize, |hash, byte| (hash * 31 + usize::from(byte)) % 65_521) % WIDTH
}

#[async_trait]
impl Embedder for Bag {
    async fn embed(&self, texts: &[String], _: Purpose) -> Result<Vec<Vec<f32>>, EmbedError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(EmbedError::Unavailable("down".to_owned()));
        }
        self.embedded.fetch_add(texts.len(), Ordering::SeqCst);
        let vector = |text: &String| {
            let mut vector = vec![0.0; WIDTH];
            for term in tokens(text) {
                vector[place(&term)] += 1.0;
            }
            to_unit_length(&mut vector);
            vector
        };
        Ok(texts.iter().map(vector).collect())
    }

    fn dimension(&self) -> usize {
        WIDTH
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }
}

fn bag(name: &'static str) -> Arc<Bag> {
    Arc::new(Bag { name, ..Bag::default() })
}

fn dense(embedder: &Arc<Bag>, when_unavailable: WhenUnavailable) -> Dense {
    let embedder = Arc::clone(embedder) as Arc<dyn Embedder>;
    Dense::new(embedder, DenseConfig { when_unavailable, ..DenseConfig::default() })
}

fn terms() -> EmbeddedIndexConfig {
    EmbeddedIndexConfig { writer_memory_bytes: 15_000_000, ..EmbeddedIndexConfig::default() }
}

async fn open(folder: &Path, embedder: &Arc<Bag>) -> Result<EmbeddedIndex, SearchError> {
    EmbeddedIndex::open_hybrid(folder, terms(), dense(embedder, WhenUnavailable::Fail)).await
}

fn passage(id: &str, text: &str) -> Document {
    Document { id: id.into(), text: text.to_owned(), ..Document::default() }
}

async fn found(index: &EmbeddedIndex, query: &str) -> Vec<String> {
    let found = index.search(&Search::new(query, 5)).await.unwrap();
    found.into_iter().map(|candidate| candidate.document.id.0).collect()
}

#[tokio::test]
async fn a_hybrid_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check_search_index(async |name: &str| {
        let path = folder.path().join(name);
        Arc::new(open(&path, &bag("bag")).await.unwrap()) as Arc<dyn SearchIndex>
    })
    .await;
}

#[tokio::test]
async fn hybrid_memory_keeps_the_contract() {
    let indexes = Mutex::new(HashMap::<String, EmbeddedIndex>::new());
    check_search_index(async |name: &str| {
        let mut indexes = indexes.lock().unwrap();
        let index = indexes.entry(name.to_owned()).or_insert_with(|| {
            let dense = dense(&bag("bag"), WhenUnavailable::Fail);
            EmbeddedIndex::in_memory_hybrid(terms(), dense).unwrap()
        });
        Arc::new(index.clone()) as Arc<dyn SearchIndex>
    })
    .await;
}

#[tokio::test]
async fn each_mode_ranks_by_its_own_and_fusion_by_the_formula() {
    let dense = dense(&bag("bag"), WhenUnavailable::Fail);
    let index = EmbeddedIndex::in_memory_hybrid(terms(), dense).unwrap();
    let passages = [
        passage("term", "the car of a man who sold it long ago in another town"),
        passage("meaning", "automobile"),
        passage("neither", "zebra"),
    ];
    index.upsert(&passages).await.unwrap();
    assert_eq!(found(&index.searching(SearchMode::Bm25), "car").await, ["term"]);
    assert_eq!(found(&index.searching(SearchMode::Dense), "car").await, ["meaning", "term"]);
    let fused = index.search(&Search::new("car", 5)).await.unwrap();
    let scores: Vec<(&str, f32)> =
        fused.iter().map(|c| (c.document.id.as_str(), c.score)).collect();
    let expected = [("term", 1.0 / 61.0 + 1.0 / 62.0), ("meaning", 1.0 / 61.0)];
    assert_eq!(scores.len(), 2);
    for ((id, score), (expected_id, expected)) in scores.iter().zip(expected) {
        assert_eq!(*id, expected_id);
        assert!((score - expected).abs() < 1e-7, "{id} {score}");
    }
}

#[tokio::test]
async fn an_index_written_without_an_embedder_is_completed_when_it_is_opened_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let plain = EmbeddedIndex::open(folder.path(), terms()).await.unwrap();
    plain.upsert(&[passage("a", "automobile"), passage("b", "boat")]).await.unwrap();
    drop(plain);
    let embedder = bag("bag");
    let index = open(folder.path(), &embedder).await.unwrap();
    assert_eq!(embedder.embedded.load(Ordering::SeqCst), 2);
    assert_eq!(found(&index, "car").await, ["a"]);
    drop(index);
    // A write without the embedder takes the passage's vector with it, and no other.
    let plain = EmbeddedIndex::open(folder.path(), terms()).await.unwrap();
    plain.upsert(&[passage("a", "zebra"), passage("c", "a car")]).await.unwrap();
    plain.delete(&[DocumentId::from("b")]).await.unwrap();
    drop(plain);
    let embedder = bag("bag");
    let index = open(folder.path(), &embedder).await.unwrap();
    assert_eq!(embedder.embedded.load(Ordering::SeqCst), 2, "a and c, and b is gone");
    assert_eq!(found(&index.searching(SearchMode::Dense), "automobile").await, ["c"]);
    drop(index);
    let embedder = bag("bag");
    let index = open(folder.path(), &embedder).await.unwrap();
    assert_eq!(embedder.embedded.load(Ordering::SeqCst), 0, "nothing is embedded twice");
    assert_eq!(found(&index, "automobile").await, ["c"]);
}

#[tokio::test]
async fn vectors_of_another_embedder_are_refused_and_both_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path(), &bag("first-model")).await.unwrap();
    index.upsert(&[passage("a", "car")]).await.unwrap();
    drop(index);
    let error = match open(folder.path(), &bag("second-model")).await {
        Ok(_) => panic!("vectors of two models were mixed"),
        Err(error) => error.to_string(),
    };
    for part in ["`first-model` with 64", "`second-model` with 64", "index again"] {
        assert!(error.contains(part), "{part} not in: {error}");
    }
    // A writer without an embedder keeps the mark.
    let plain = EmbeddedIndex::open(folder.path(), terms()).await.unwrap();
    plain.upsert(&[passage("b", "boat")]).await.unwrap();
    drop(plain);
    assert!(open(folder.path(), &bag("second-model")).await.is_err());
    open(folder.path(), &bag("first-model")).await.unwrap();
}

#[tokio::test]
async fn when_the_embedder_is_down_a_search_goes_on_by_terms_or_fails_as_configured() {
    for (when, is_answered) in [(WhenUnavailable::Bm25, true), (WhenUnavailable::Fail, false)] {
        let embedder = bag("bag");
        let index = EmbeddedIndex::in_memory_hybrid(terms(), dense(&embedder, when)).unwrap();
        index.upsert(&[passage("a", "car"), passage("b", "automobile")]).await.unwrap();
        assert_eq!(found(&index, "the car").await.len(), 2);
        embedder.is_down.store(true, Ordering::SeqCst);
        assert_eq!(found(&index, "the car").await.len(), 2, "its vector is kept");
        let result = index.search(&Search::new("car", 5)).await;
        match result {
            Ok(found) => assert!(is_answered && found.len() == 1, "{found:?}"),
            Err(error) => {
                assert!(!is_answered && matches!(error, SearchError::Unavailable(_)), "{error}");
            }
        }
        let written = index.upsert(&[passage("c", "car")]).await;
        assert!(matches!(written, Err(SearchError::Unavailable(_))), "{written:?}");
        assert_eq!(index.count().await.unwrap(), 2, "nothing is written without its vector");
    }
}

#[tokio::test]
async fn a_restart_finds_the_same_in_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["car", "boat", "zebra", "lion", "the", "of", "town"];
    let passages: Vec<Document> = (0..300_usize)
        .map(|n| {
            let text: Vec<&str> =
                (0..5).map(|w| words[(n * 7 + w * w * (n % 11) + w) % words.len()]).collect();
            passage(&format!("p{n:03}"), &text.join(" "))
        })
        .collect();
    let index = open(folder.path(), &bag("bag")).await.unwrap();
    index.upsert(&passages).await.unwrap();
    let search = async |index: &EmbeddedIndex| {
        let dense = index.searching(SearchMode::Dense);
        let found = dense.search(&Search::new("the automobile of a lion", 50)).await.unwrap();
        found.into_iter().map(|c| (c.document.id.0, c.score)).collect::<Vec<_>>()
    };
    let before = search(&index).await;
    assert_eq!(before.len(), 50);
    drop(index);
    assert_eq!(search(&open(folder.path(), &bag("bag")).await.unwrap()).await, before);
}

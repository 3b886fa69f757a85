//! The contract on disk and in memory, brute-force BM25, and the shared question sets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::adapters::contract::check_search_index;
use crate::datasets::{load_passages, load_questions};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

fn config() -> EmbeddedIndexConfig {
    EmbeddedIndexConfig { writer_memory_bytes: 15_000_000, ..EmbeddedIndexConfig::default() }
}

fn passage(id: &str, title: &str, text: &str) -> Document {
    Document {
        id: id.into(),
        title: title.to_owned(),
        text: text.to_owned(),
        ..Document::default()
    }
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check_search_index(async |name: &str| {
        let path = folder.path().join(name);
        Arc::new(EmbeddedIndex::open(&path, config()).await.unwrap()) as Arc<dyn SearchIndex>
    })
    .await;
}

#[tokio::test]
async fn memory_keeps_the_contract_as_long_as_it_is_held() {
    let indexes = Mutex::new(HashMap::<String, EmbeddedIndex>::new());
    check_search_index(async |name: &str| {
        let mut indexes = indexes.lock().unwrap();
        let index = indexes
            .entry(name.to_owned())
            .or_insert_with(|| EmbeddedIndex::in_memory(config()).unwrap());
        Arc::new(index.clone()) as Arc<dyn SearchIndex>
    })
    .await;
}

/// BM25 as the formula says it, over all passages: `(id, score)`, best first.
fn brute_force(
    passages: &BTreeMap<String, Document>,
    query: &str,
    config: &EmbeddedIndexConfig,
) -> Vec<(String, f32)> {
    let all: Vec<(&String, Vec<String>)> =
        passages.iter().map(|(id, p)| (id, tokens(&format!("{} {}", p.title, p.text)))).collect();
    let count = all.len() as f64;
    let average =
        (all.iter().map(|(_, t)| t.len()).sum::<usize>() as f64 / count.max(1.0)).max(1.0);
    let with = |term: &String| all.iter().filter(|(_, t)| t.contains(term)).count() as f64;
    let mut terms = query_terms(query, config.query_terms_max);
    terms.retain(|term| with(term) > 0.0);
    let rare = |term: &String| with(term) <= config.common_term_share * count;
    if count > config.common_term_pool_min as f64 && terms.iter().any(rare) {
        terms.retain(rare);
    }
    let mut scored = Vec::new();
    for (id, tokens) in &all {
        let mut score = 0.0;
        for term in &terms {
            let f = tokens.iter().filter(|t| *t == term).count() as f64;
            let idf = (1.0 + (count - with(term) + 0.5) / (with(term) + 0.5)).ln();
            let norm = 1.0 - config.b + config.b * tokens.len() as f64 / average;
            score += idf * f / (f + config.k1 * norm);
        }
        if score > 0.0 {
            scored.push(((*id).clone(), score as f32));
        }
    }
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    scored
}

#[derive(Debug, Clone)]
enum Change {
    Upsert(Vec<(u8, String, String)>),
    Delete(Vec<u8>),
}

fn words(max: usize) -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec!["a", "bb", "ccc", "d", "Éa", "ff", "g1", "the", "the"]);
    prop::collection::vec(word, 0..max).prop_map(|words| words.join(" "))
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let upsert = prop::collection::vec((0..30_u8, words(3), words(12)), 1..12);
    let delete = prop::collection::vec(0..30_u8, 1..4);
    let change =
        prop_oneof![3 => upsert.prop_map(Change::Upsert), 1 => delete.prop_map(Change::Delete)];
    prop::collection::vec(change, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn search_equals_brute_force_after_any_changes(
        changes in changes(),
        queries in prop::collection::vec(words(5), 1..6),
        k in 1..12_usize,
        k1 in 0.0..2.0_f64,
        b in 0.0..1.0_f64,
        common_term_pool_min in prop::sample::select(vec![0_u64, 2_000]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let config = EmbeddedIndexConfig { k1, b, common_term_pool_min, ..config() };
        let index = EmbeddedIndex::in_memory(config).unwrap();
        let mut model = BTreeMap::new();
        for change in changes {
            match change {
                Change::Upsert(documents) => {
                    let documents: Vec<Document> = documents
                        .iter()
                        .map(|(n, title, text)| passage(&format!("d{n:02}"), title, text))
                        .collect();
                    runtime.block_on(index.upsert(&documents)).unwrap();
                    model.extend(documents.into_iter().map(|d| (d.id.0.clone(), d)));
                }
                Change::Delete(numbers) => {
                    let ids: Vec<DocumentId> =
                        numbers.iter().map(|n| DocumentId(format!("d{n:02}"))).collect();
                    runtime.block_on(index.delete(&ids)).unwrap();
                    model.retain(|id, _| !ids.contains(&DocumentId(id.clone())));
                }
            }
        }
        prop_assert_eq!(runtime.block_on(index.count()).unwrap(), model.len() as u64);
        for query in queries {
            let expected = brute_force(&model, &query, &config);
            let found = runtime.block_on(index.search(&Search::new(query.as_str(), k))).unwrap();
            prop_assert_eq!(found.len(), expected.len().min(k));
            for (candidate, (id, score)) in found.iter().zip(&expected) {
                prop_assert_eq!(candidate.document.id.as_str(), id.as_str());
                prop_assert!((candidate.score - score).abs() < 1e-5);
                prop_assert_eq!(&candidate.document, &model[id]);
            }
        }
    }
}

#[tokio::test]
async fn very_common_terms_are_dropped_in_large_pools_unless_nothing_else_remains() {
    let config = EmbeddedIndexConfig { common_term_pool_min: 10, ..config() };
    let index = EmbeddedIndex::in_memory(config).unwrap();
    let mut passages: Vec<Document> =
        (0..20).map(|n| passage(&format!("d{n:02}"), "", "the usual words")).collect();
    passages.push(passage("rare", "", "a zebra"));
    index.upsert(&passages).await.unwrap();
    let found = index.search(&Search::new("the zebra", 30)).await.unwrap();
    assert_eq!(found.len(), 1, "`the` stands in 20 of 21 passages");
    assert_eq!(index.search(&Search::new("the", 30)).await.unwrap().len(), 20);
    assert_eq!(index.search(&Search::new("the unheard", 30)).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_second_writer_of_a_folder_is_refused_and_readers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = EmbeddedIndex::open(folder.path(), config()).await.unwrap();
    first.upsert(&[passage("a", "", "zebra")]).await.unwrap();
    let second = EmbeddedIndex::open(folder.path(), config()).await.unwrap();
    assert_eq!(second.search(&Search::new("zebra", 1)).await.unwrap().len(), 1);
    let error = second.upsert(&[passage("b", "", "lion")]).await.unwrap_err().to_string();
    assert!(error.contains("another process writes"), "{error}");
    drop(first);
    second.upsert(&[passage("b", "", "lion")]).await.unwrap();
}

#[tokio::test]
async fn settings_and_ids_out_of_range_are_refused() {
    let wrong = [
        EmbeddedIndexConfig { k1: -1.0, ..config() },
        EmbeddedIndexConfig { b: 1.5, ..config() },
        EmbeddedIndexConfig { common_term_share: 0.0, ..config() },
    ];
    for config in wrong {
        assert!(matches!(EmbeddedIndex::in_memory(config), Err(SearchError::Refused(_))));
    }
    let index = EmbeddedIndex::in_memory(config()).unwrap();
    let refused = index.upsert(&[passage(&"x".repeat(2_000), "", "y")]).await;
    assert!(matches!(refused, Err(SearchError::Refused(_))));
    let mut heavy = passage("a", "", "y");
    heavy.metadata.insert("note".to_owned(), "x".repeat(20_000));
    let refused = index.upsert(&[heavy]).await.unwrap_err().to_string();
    assert!(refused.contains("metadata `note` of document `a` is longer than"), "{refused}");
    assert_eq!(index.count().await.unwrap(), 0);
}

#[tokio::test]
async fn retrieval_on_a_shared_pool_is_no_worse_than_published() {
    let shared = std::env::var("REGRADE_SHARED").unwrap_or_else(|_| "../shared".into());
    let data = Path::new(&shared).join("data");
    let Ok(passages) = load_passages(&[data.join("wiki.passages.jsonl.gz")]) else {
        println!("skipped: no data in {shared}; set REGRADE_SHARED to the folder that holds it");
        return;
    };
    let questions = load_questions(&[data.join("nq-gold.questions.jsonl.gz")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let index = EmbeddedIndex::open(folder.path(), EmbeddedIndexConfig::default()).await.unwrap();
    let start = tokio::time::Instant::now();
    index.upsert(&passages).await.unwrap();
    println!("indexed {} passages in {:?}", passages.len(), start.elapsed());
    let start = tokio::time::Instant::now();
    let mut ranks = Vec::new();
    for question in &questions {
        let found = index.search(&Search::new(question.question.as_str(), 40)).await.unwrap();
        let positives: BTreeSet<&DocumentId> = question.positives.iter().collect();
        ranks.push(found.iter().position(|c| positives.contains(&c.document.id)));
    }
    println!("searched {} times in {:?}", questions.len(), start.elapsed());
    let expected = [(1, 0.29), (5, 0.68), (10, 0.79), (20, 0.88), (40, 0.91)];
    let hits = |k: usize| {
        let found = ranks.iter().filter(|rank| rank.is_some_and(|rank| rank < k)).count();
        found as f64 / ranks.len() as f64
    };
    println!("hit@k: {:?}", expected.map(|(k, _)| (k, hits(k))));
    for (k, published) in expected {
        assert!(hits(k) >= published - 0.01, "hit@{k} is {}, not {published}", hits(k));
    }
}

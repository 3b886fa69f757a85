//! The contract, and the same ranking as the embedded index, on the test server and on a real one.

use super::server::TestServer;
use super::{config, open, passages};
use actors::ports::{Search, SearchIndex};
use actors::types::Document;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{CountPointsBuilder, ScrollPointsBuilder};
use regrade::adapters::contract::check_search_index;
use regrade::adapters::index_embedded::{EmbeddedIndex, EmbeddedIndexConfig};
use regrade::adapters::index_qdrant::QdrantConfig;
use regrade::datasets::{load_passages, load_questions};
use regrade::retrieval::tokens;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

/// A real server, whose collections of this run begin with a name of their own and are dropped.
struct RealServer {
    url: String,
    prefix: String,
}

impl RealServer {
    fn find() -> Option<Self> {
        let Ok(url) = std::env::var("REGRADE_TEST_QDRANT_URL") else {
            println!("skipped: set REGRADE_TEST_QDRANT_URL to the gRPC address of a Qdrant server");
            return None;
        };
        let drawn = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Some(Self { url, prefix: format!("regrade-test-{drawn:016x}") })
    }

    fn config(&self, name: &str) -> QdrantConfig {
        QdrantConfig { collection: format!("{}-{name}", self.prefix), ..config(&self.url) }
    }

    async fn clear(&self) {
        let client = Qdrant::from_url(&self.url).skip_compatibility_check().build().unwrap();
        for collection in client.list_collections().await.unwrap().collections {
            if collection.name.starts_with(&self.prefix) {
                client.delete_collection(collection.name).await.unwrap();
            }
        }
    }
}

async fn contract(config: impl Fn(&str) -> QdrantConfig) {
    check_search_index(async |name: &str| {
        Arc::new(open(config(name)).await) as Arc<dyn SearchIndex>
    })
    .await;
}

#[tokio::test]
async fn the_index_on_a_test_server_keeps_the_contract() {
    let server = TestServer::start();
    contract(|name| QdrantConfig { collection: name.to_owned(), ..config(&server.url()) }).await;
}

#[tokio::test]
async fn the_index_on_a_real_server_keeps_the_contract() {
    let Some(server) = RealServer::find() else { return };
    contract(|name| server.config(name)).await;
    server.clear().await;
}

/// How often two indexes give the same ten.
#[derive(Debug, Default)]
struct Agreement {
    questions: usize,
    same_order: usize,
    same_set: usize,
    same_first: usize,
}

async fn agreement(config: QdrantConfig, passages: &[Document], texts: &[String]) -> Agreement {
    let settings = EmbeddedIndexConfig { writer_memory_bytes: 15_000_000, ..Default::default() };
    let embedded = EmbeddedIndex::in_memory(settings).unwrap();
    let server = open(config).await;
    embedded.upsert(passages).await.unwrap();
    server.upsert(passages).await.unwrap();
    let mut agreement = Agreement::default();
    for text in texts {
        let search = Search::new(text.as_str(), 10);
        let names = |found: Vec<actors::types::Candidate>| -> Vec<String> {
            found.into_iter().map(|c| c.document.id.0).collect()
        };
        let mut ours = names(embedded.search(&search).await.unwrap());
        let mut theirs = names(server.search(&search).await.unwrap());
        agreement.questions += 1;
        agreement.same_first += usize::from(ours.first() == theirs.first());
        agreement.same_order += usize::from(ours == theirs);
        ours.sort();
        theirs.sort();
        agreement.same_set += usize::from(ours == theirs);
    }
    agreement
}

fn bundled() -> (Vec<Document>, Vec<String>) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations/data");
    let passages = load_passages(&[data.join("passages.jsonl")]).unwrap();
    let questions = load_questions(&[data.join("questions.jsonl")]).unwrap();
    (passages, questions.into_iter().step_by(8).map(|question| question.question).collect())
}

fn average_length(passages: &[Document]) -> f64 {
    let length = |p: &Document| tokens(&p.title).len() + tokens(&p.text).len();
    passages.iter().map(length).sum::<usize>() as f64 / passages.len() as f64
}

/// With the pool's own average length the two formulas are one; with the one of the default
/// configuration, made for longer passages, only the weight of length differs.
async fn ranks_like_the_embedded_index(config: impl Fn(&str) -> QdrantConfig) {
    let (passages, texts) = bundled();
    let average_length = average_length(&passages);
    let exact = QdrantConfig { average_length, ..config("exact") };
    let exact = agreement(exact, &passages, &texts).await;
    println!("average length {average_length:.1}, the pool's: {exact:?}");
    assert_eq!(exact.questions, 321);
    assert!(exact.same_order >= 318, "{exact:?}");
    let fixed = config("fixed");
    let length = fixed.average_length;
    let fixed = agreement(fixed, &passages, &texts).await;
    println!("average length {length:.1}, the default: {fixed:?}");
    assert!(fixed.same_set * 10 >= fixed.questions * 8, "{fixed:?}");
    assert!(fixed.same_first * 100 >= fixed.questions * 97, "{fixed:?}");
}

#[tokio::test]
async fn sparse_vectors_rank_like_the_embedded_index() {
    let server = TestServer::start();
    let named = |name: &str| QdrantConfig { collection: name.to_owned(), ..config(&server.url()) };
    ranks_like_the_embedded_index(named).await;
}

#[tokio::test]
async fn sparse_vectors_on_a_real_server_rank_like_the_embedded_index() {
    let Some(server) = RealServer::find() else { return };
    ranks_like_the_embedded_index(|name| server.config(name)).await;
    server.clear().await;
}

/// Hits among the first k on a pool of 19,513 passages, by the default settings.
async fn finds_what_is_published(config: QdrantConfig) {
    let shared = std::env::var("REGRADE_SHARED").unwrap_or_else(|_| "../shared".into());
    let data = Path::new(&shared).join("data");
    let Ok(passages) = load_passages(&[data.join("wiki.passages.jsonl.gz")]) else {
        println!("skipped: no data in {shared}; set REGRADE_SHARED to the folder that holds it");
        return;
    };
    let questions = load_questions(&[data.join("nq-gold.questions.jsonl.gz")]).unwrap();
    let index = open(config).await;
    index.upsert(&passages).await.unwrap();
    let mut ranks = Vec::new();
    for question in &questions {
        let found = index.search(&Search::new(question.question.as_str(), 40)).await.unwrap();
        let is_one = |c: &actors::types::Candidate| question.positives.contains(&c.document.id);
        ranks.push(found.iter().position(is_one));
    }
    let expected = [(1, 0.29), (5, 0.68), (10, 0.79), (20, 0.88), (40, 0.91)];
    let hits = |k: usize| {
        let found = ranks.iter().filter(|rank| rank.is_some_and(|rank| rank < k)).count();
        found as f64 / ranks.len() as f64
    };
    println!("{} questions, hit@k: {:?}", ranks.len(), expected.map(|(k, _)| (k, hits(k))));
    for (k, published) in expected {
        assert!(hits(k) >= published - 0.01, "hit@{k} is {}, not {published}", hits(k));
    }
}

#[tokio::test]
async fn retrieval_on_a_shared_pool_is_no_worse_than_published() {
    let server = TestServer::start();
    finds_what_is_published(config(&server.url())).await;
}

#[tokio::test]
async fn retrieval_from_a_real_server_is_no_worse_than_published() {
    let Some(server) = RealServer::find() else { return };
    finds_what_is_published(server.config("shared")).await;
    server.clear().await;
}

#[tokio::test]
async fn other_programs_can_read_what_is_written() {
    let server = TestServer::start();
    let mut written = passages(25);
    written[3].metadata.insert("topic".to_owned(), "animals".to_owned());
    open(config(&server.url())).await.upsert(&written).await.unwrap();
    let client = Qdrant::from_url(&server.url()).skip_compatibility_check().build().unwrap();
    let count = client.count(CountPointsBuilder::new("passages").exact(true)).await.unwrap();
    assert_eq!(count.result.unwrap().count, 25);
    let (mut seen, mut offset) = (Vec::new(), None);
    loop {
        let mut page = ScrollPointsBuilder::new("passages").limit(10);
        if let Some(next) = offset.take() {
            page = page.offset::<qdrant_client::qdrant::PointId>(next);
        }
        let page = client.scroll(page).await.unwrap();
        for point in page.result {
            seen.push(serde_json::Value::from(qdrant_client::Payload::from(point.payload)));
        }
        offset = page.next_page_offset;
        if offset.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
    let one = seen.iter().find(|payload| payload["id"] == "p3").unwrap();
    let metadata = serde_json::json!({ "topic": "animals" });
    let whole = serde_json::json!({
        "id": "p3", "title": "", "text": "zebra 3", "metadata": metadata,
    });
    assert_eq!(*one, whole);
}

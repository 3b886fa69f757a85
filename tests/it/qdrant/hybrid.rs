//! Two ranked lists in one: by terms and by meaning.

use super::script::Fault;
use super::server::TestServer;
use super::{config, open, open_with, passage};
use actors::ports::{Search, SearchError, SearchIndex};
use actors::types::{Document, Filter};
use async_trait::async_trait;
use regrade::retrieval::{
    EmbedError, Embedder, Purpose, RRF_K, reciprocal_rank_fusion, term_index, tokens,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A bag of letters: near where words look alike, whatever BM25 says.
#[derive(Default)]
pub(super) struct Letters {
    pub(super) dimension: usize,
    pub(super) is_away: AtomicBool,
}

impl Letters {
    pub(super) fn new(dimension: usize) -> Arc<Self> {
        Arc::new(Self { dimension, is_away: AtomicBool::new(false) })
    }

    fn one(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0_f32; self.dimension];
        for token in tokens(text) {
            for letter in token.chars() {
                vector[term_index(&letter.to_string()) as usize % self.dimension] += 1.0;
            }
        }
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1.0);
        vector.into_iter().map(|value| value / length).collect()
    }
}

#[async_trait]
impl Embedder for Letters {
    async fn embed(&self, texts: &[String], _: Purpose) -> Result<Vec<Vec<f32>>, EmbedError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(EmbedError::Unavailable("scripted".to_owned()));
        }
        Ok(texts.iter().map(|text| self.one(text)).collect())
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn name(&self) -> String {
        "letters/1".to_owned()
    }
}

fn library() -> Vec<Document> {
    let texts = [
        "the river Nile flows north through Africa",
        "the Niger river turns inland and reaches the Gulf of Guinea",
        "a vine grows over the wall",
        "evening falls over the linen line",
        "rivers of the world: Amazon, Congo, Yangtze",
        "the highest mountain lies in the Himalayas",
    ];
    let one = |(n, text): (usize, &&str)| {
        let mut passage = passage(&format!("p{n}"), text);
        passage.metadata.insert("topic".to_owned(), ["even", "odd"][n % 2].to_owned());
        passage
    };
    texts.iter().enumerate().map(one).collect()
}

fn names(found: &[actors::types::Candidate]) -> Vec<String> {
    found.iter().map(|candidate| candidate.document.id.0.clone()).collect()
}

/// The passages by cosine similarity, worked out here.
fn by_meaning(model: &Letters, query: &str, passages: &[Document]) -> Vec<String> {
    let asked = model.one(query);
    let score =
        |p: &Document| -> f32 { model.one(&p.text).iter().zip(&asked).map(|(a, b)| a * b).sum() };
    let mut scored: Vec<_> = passages.iter().map(|p| (score(p), p.id.0.clone())).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.into_iter().map(|(_, id)| id).collect()
}

#[tokio::test]
async fn both_lists_come_in_one_call_and_are_fused_by_rank() {
    let server = TestServer::start();
    let model = Letters::new(16);
    let hybrid = open_with(config(&server.url()), Some(model.clone())).await.unwrap();
    let mut by_terms = config(&server.url());
    by_terms.collection = "terms".to_owned();
    let by_terms = open(by_terms).await;
    hybrid.upsert(&library()).await.unwrap();
    by_terms.upsert(&library()).await.unwrap();
    for query in ["river nile", "evening linen", "the", "zzz"] {
        let before = server.shared.calls("query_batch");
        let found = hybrid.search(&Search::new(query, 4)).await.unwrap();
        assert_eq!(server.shared.calls("query_batch"), before + 1);
        let lists = vec![
            names(&by_terms.search(&Search::new(query, 100)).await.unwrap()),
            by_meaning(&model, query, &library()),
        ];
        let expected = reciprocal_rank_fusion(&lists, RRF_K, 4);
        let ids: Vec<String> = expected.iter().map(|entry| entry.id.clone()).collect();
        assert_eq!(names(&found), ids, "{query}");
        for (rank, (candidate, entry)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(candidate.rank as usize, rank);
            assert!((f64::from(candidate.score) - entry.score).abs() < 1e-6);
        }
    }
}

#[tokio::test]
async fn a_filter_holds_for_both_lists() {
    let server = TestServer::start();
    let index = open_with(config(&server.url()), Some(Letters::new(16))).await.unwrap();
    index.upsert(&library()).await.unwrap();
    let filter = Filter::from([("topic".to_owned(), vec!["odd".to_owned()])]);
    let search = Search { filter, ..Search::new("river nile", 10) };
    let found = index.search(&search).await.unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|candidate| candidate.document.metadata["topic"] == "odd"));
}

#[tokio::test]
async fn a_model_that_is_away_is_an_index_that_is_away() {
    let server = TestServer::start();
    let model = Letters::new(16);
    let index = open_with(config(&server.url()), Some(model.clone())).await.unwrap();
    index.upsert(&library()).await.unwrap();
    model.is_away.store(true, Ordering::SeqCst);
    let error = index.search(&Search::new("river", 3)).await.unwrap_err();
    assert!(matches!(error, SearchError::Unavailable(_)));
    insta::assert_snapshot!(error, @"search index is unavailable: qdrant: embedding model is unavailable: scripted");
    let error = index.upsert(&library()).await.unwrap_err();
    assert!(error.to_string().contains("0 of 6 passages are written"), "{error}");
}

#[tokio::test]
async fn repeats_in_the_lists_count_once() {
    let server = TestServer::start();
    let index = open_with(config(&server.url()), Some(Letters::new(16))).await.unwrap();
    index.upsert(&library()).await.unwrap();
    let once = index.search(&Search::new("river nile", 10)).await.unwrap();
    server.shared.next("query_batch", &[Fault::Twice]);
    let twice = index.search(&Search::new("river nile", 10)).await.unwrap();
    assert_eq!(once, twice);
}

/// A model that makes other vectors than it says.
struct Liar(Arc<Letters>);

#[async_trait]
impl Embedder for Liar {
    async fn embed(&self, texts: &[String], to: Purpose) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.0.embed(texts, to).await
    }

    fn dimension(&self) -> usize {
        self.0.dimension + 1
    }

    fn name(&self) -> String {
        "liar/1".to_owned()
    }
}

#[tokio::test]
async fn vectors_of_another_size_are_refused_by_the_server_and_not_sent_again() {
    let server = TestServer::start();
    let liar = Arc::new(Liar(Letters::new(16)));
    let index = open_with(config(&server.url()), Some(liar)).await.unwrap();
    let error = index.upsert(&library()).await.unwrap_err();
    insta::assert_snapshot!(error, @"search index refused the request: Wrong input: Vector dimension error: expected dim: 17, got 16; 0 of 6 passages are written: send them again, those that are there are replaced, not doubled");
    let error = index.search(&Search::new("river", 3)).await.unwrap_err();
    insta::assert_snapshot!(error, @"search index refused the request: Wrong input: Vector dimension error: expected dim: 17, got 16");
    assert_eq!((server.shared.calls("upsert"), server.shared.calls("query_batch")), (1, 1));
}

//! A collection that does not fit is refused, with both values named; one that fits is taken up.

use super::hybrid::Letters;
use super::script::Fault;
use super::server::TestServer;
use super::{config, filled, open, open_with, passages};
use actors::ports::SearchIndex;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    CreateCollection, Distance, Modifier, SparseVectorConfig, SparseVectorParams, Value,
    VectorParams, VectorParamsMap, VectorsConfig, vectors_config,
};
use regrade::adapters::index_qdrant::QdrantConfig;
use std::collections::HashMap;
use tonic::Code;

async fn refusal(config: QdrantConfig) -> String {
    open_with(config, None).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn another_average_length_is_refused_and_both_are_named() {
    let (server, _index) = filled(|_| {}).await;
    let other = QdrantConfig { average_length: 42.0, ..config(&server.url()) };
    insta::assert_snapshot!(refusal(other).await, @"search index refused the request: qdrant: collection `passages` was made with average_length `100`, here it is `42` by `index.qdrant.average_length`; set it back, or name a new collection in `index.qdrant.collection` and index again");
}

#[tokio::test]
async fn an_embedder_where_there_was_none_or_another_is_refused() {
    let (server, _index) = filled(|_| {}).await;
    let error = open_with(config(&server.url()), Some(Letters::new(8))).await.map(drop);
    insta::assert_snapshot!(error.unwrap_err(), @"search index refused the request: qdrant: collection `passages` was made with model `none`, here it is `letters/1` by the embedder; set it back, or name a new collection in `index.qdrant.collection` and index again");
    let mut dense = config(&server.url());
    dense.collection = "dense".to_owned();
    open_with(dense.clone(), Some(Letters::new(8))).await.unwrap();
    let error = open_with(dense, Some(Letters::new(9))).await.map(drop);
    insta::assert_snapshot!(error.unwrap_err(), @"search index refused the request: qdrant: collection `dense` holds vectors of 8 values, the embedder `letters/1` makes 9; set it back, or name a new collection in `index.qdrant.collection` and index again");
}

/// The request that the index itself makes, to be bent; taken from a collection it made.
async fn own(server: &TestServer, dimension: Option<usize>) -> CreateCollection {
    let mut config = config(&server.url());
    config.collection = "model".to_owned();
    let embedder = dimension.map(|n| Letters::new(n) as _);
    open_with(config, embedder).await.unwrap();
    let client = Qdrant::from_url(&server.url()).skip_compatibility_check().build().unwrap();
    let made = client.collection_info("model").await.unwrap().result.unwrap().config.unwrap();
    let params = made.params.unwrap();
    CreateCollection {
        collection_name: "passages".to_owned(),
        vectors_config: params.vectors_config,
        sparse_vectors_config: params.sparse_vectors_config,
        metadata: made.metadata,
        ..CreateCollection::default()
    }
}

#[tokio::test]
async fn vectors_of_another_kind_are_refused() {
    let server = TestServer::start();
    let own = own(&server, Some(8)).await;
    let params = VectorParams { size: 8, distance: Distance::Dot.into(), ..Default::default() };
    let map = HashMap::from([("dense".to_owned(), params)]);
    let config_of = |map| VectorsConfig {
        config: Some(vectors_config::Config::ParamsMap(VectorParamsMap { map })),
    };
    let sparse = |modifier: Modifier| SparseVectorConfig {
        map: HashMap::from([(
            "bm25".to_owned(),
            SparseVectorParams { modifier: Some(modifier.into()), ..Default::default() },
        )]),
    };
    let bent = [
        (
            CreateCollection { vectors_config: Some(config_of(map)), ..own.clone() },
            "compares by Dot distance, expected Cosine",
        ),
        (
            CreateCollection { vectors_config: None, ..own.clone() },
            "has no dense vector `dense`, expected one for the embedder `letters/1`",
        ),
        (
            CreateCollection { sparse_vectors_config: Some(sparse(Modifier::None)), ..own.clone() },
            "weighs its sparse vector `bm25` by None, expected Idf",
        ),
        (
            CreateCollection { sparse_vectors_config: None, ..own.clone() },
            "has no sparse vector `bm25`",
        ),
    ];
    for (made, expected) in bent {
        server.shared.put(made);
        let error = open_with(config(&server.url()), Some(Letters::new(8))).await.map(drop);
        let error = error.unwrap_err();
        assert!(
            error.contains(&format!("collection `passages` {expected}; set it back")),
            "{error}"
        );
    }
    server.shared.put(own);
    open_with(config(&server.url()), Some(Letters::new(8))).await.unwrap();
}

#[tokio::test]
async fn a_collection_of_another_program_is_refused() {
    let server = TestServer::start();
    let own = own(&server, None).await;
    server.shared.put(CreateCollection { metadata: HashMap::new(), ..own.clone() });
    insta::assert_snapshot!(refusal(config(&server.url())).await, @"search index refused the request: qdrant: collection `passages` does not say with which layout it was made (here it is `1`): it was made by another program, or by a server before 1.16, which keeps no metadata; set it back, or name a new collection in `index.qdrant.collection` and index again");
    let mut later = own;
    later.metadata.insert("regrade_layout".to_owned(), Value::from("2".to_owned()));
    server.shared.put(later);
    let error = refusal(config(&server.url())).await;
    assert!(error.contains("was made with layout `2`, here it is `1`"), "{error}");
}

#[tokio::test]
async fn a_collection_that_fits_is_taken_up_and_new_filters_get_their_index() {
    let (server, index) = filled(|config| config.filter_fields.clear()).await;
    drop(index);
    assert_eq!(server.shared.calls("create_field_index"), 0);
    let index = open(config(&server.url())).await;
    assert_eq!(index.count().await.unwrap(), 3);
    assert_eq!(server.shared.calls("create_field_index"), 2);
    open(config(&server.url())).await;
    assert_eq!(server.shared.calls("create_field_index"), 2, "they are there");
    assert_eq!(server.shared.calls("create_collection"), 1);
}

#[tokio::test]
async fn nodes_that_start_together_make_one_collection() {
    let server = TestServer::start();
    let opening = (0..6).map(|_| open(config(&server.url())));
    let indexes = futures::future::join_all(opening).await;
    indexes[0].upsert(&passages(2)).await.unwrap();
    assert_eq!(indexes[5].count().await.unwrap(), 2);
}

#[tokio::test]
async fn a_creation_whose_reply_is_lost_is_not_made_twice() {
    let server = TestServer::start();
    server.shared.next("create_collection", &[Fault::Afterwards(Code::Unavailable)]);
    open(config(&server.url())).await;
    assert_eq!(server.shared.calls("create_collection"), 2);
}

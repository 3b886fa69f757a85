//! The index on a Qdrant server, over real gRPC: the contract, the ranking, every bad day.
//!
//! The server of these tests compares every stored vector, so it ranks what was really sent. With
//! `REGRADE_TEST_QDRANT_URL` the contract and the ranking are held against a real Qdrant too.

mod agreement;
mod degraded;
mod faults;
mod hybrid;
mod schema;
mod script;
mod server;
mod store;

use actors::ports::SearchIndex;
use actors::types::Document;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use regrade::adapters::index_qdrant::{QdrantConfig, QdrantIndex};
use regrade::adapters::resilience::{BreakerConfig, RetryConfig};
use regrade::retrieval::Embedder;
use server::TestServer;
use std::sync::Arc;

/// Short pauses, and time enough that only what is told to fail does.
fn config(url: &str) -> QdrantConfig {
    QdrantConfig {
        url: url.to_owned(),
        collection: "passages".to_owned(),
        filter_fields: vec!["topic".to_owned(), "place".to_owned()],
        search_timeout_ms: 20_000,
        search_deadline_ms: 30_000,
        retry: RetryConfig { attempts_max: 3, backoff_ms: 2, backoff_max_ms: 10 },
        breaker: BreakerConfig { failures_max: 1_000, ..BreakerConfig::default() },
        ..QdrantConfig::default()
    }
}

async fn open_with(
    config: QdrantConfig,
    embedder: Option<Arc<dyn Embedder>>,
) -> Result<QdrantIndex, String> {
    let rng = StdRng::seed_from_u64(5);
    QdrantIndex::open(config, embedder, rng).await.map_err(|error| error.to_string())
}

async fn open(config: QdrantConfig) -> QdrantIndex {
    open_with(config, None).await.unwrap()
}

/// A server with a few passages, and an index on it.
async fn filled(change: impl FnOnce(&mut QdrantConfig)) -> (TestServer, QdrantIndex) {
    let server = TestServer::start();
    let mut config = config(&server.url());
    change(&mut config);
    let index = open(config).await;
    index.upsert(&passages(3)).await.unwrap();
    (server, index)
}

fn passage(id: &str, text: &str) -> Document {
    Document { id: id.into(), text: text.to_owned(), ..Document::default() }
}

/// `zebra n` under the id `pn`.
fn passages(n: usize) -> Vec<Document> {
    (0..n).map(|n| passage(&format!("p{n}"), &format!("zebra {n}"))).collect()
}

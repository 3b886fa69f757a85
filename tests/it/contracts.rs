//! The contract suites of the ports, held against the fakes: what a simulation shows on them must
//! hold for the adapters too.

use actors::fakes::{FakeGenerator, FakeIndex, FakeJudge, MemoryLog, MemorySnapshots};
use actors::ports::{EventLog, SearchIndex};
use regrade::adapters::contract::{
    check_event_log, check_generator, check_judge, check_search_index, check_snapshot_store,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Things by name, made once and found again: what a restart finds.
struct Shelf<T>(Mutex<HashMap<String, T>>);

impl<T: Clone + Default> Shelf<T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, name: &str) -> T {
        self.0.lock().unwrap().entry(name.to_owned()).or_default().clone()
    }
}

#[tokio::test]
async fn the_log_in_memory_keeps_the_contract() {
    let logs = Shelf::<MemoryLog>::new();
    check_event_log(async |name| Arc::new(logs.get(name)) as Arc<dyn EventLog>).await;
}

#[tokio::test]
async fn the_fake_index_keeps_the_contract() {
    let indices = Shelf::<Arc<FakeIndex>>::new();
    check_search_index(async |name| indices.get(name) as Arc<dyn SearchIndex>).await;
}

#[tokio::test]
async fn the_snapshots_in_memory_keep_the_contract() {
    check_snapshot_store(async || Arc::new(MemorySnapshots::default()) as _).await;
}

#[tokio::test]
async fn the_fake_judge_keeps_the_contract() {
    check_judge(async || Arc::new(FakeJudge::default()) as _).await;
}

#[tokio::test]
async fn the_fake_generator_keeps_the_contract() {
    check_generator(async || Arc::new(FakeGenerator::default()) as _).await;
}

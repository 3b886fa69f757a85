//! The contract of the event log, held against a real broker.

use super::{config, namespace, open};
use crate::services::kafka;
use actors::ports::EventLog;
use regrade::adapters::contract::check_event_log;
use regrade::adapters::log_kafka::KafkaLogConfig;
use std::sync::Arc;

async fn keeps_the_contract(name: &str, transactions: bool) {
    let Some(bootstrap) = kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    // One partition, as the suite counts offsets.
    let run = namespace(name);
    check_event_log(async |log| {
        let config = config(bootstrap, &format!("{run}-{log}"), 1);
        let config = KafkaLogConfig { transactions, ..config };
        Arc::new(open(&folder.path().join(log), config).await) as Arc<dyn EventLog>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_on_kafka_keeps_the_contract() {
    keeps_the_contract("plain", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_on_kafka_keeps_the_contract_with_transactions() {
    keeps_the_contract("transactions", true).await;
}

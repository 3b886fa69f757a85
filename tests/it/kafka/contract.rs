//! The contract of the event log, held against a real broker.

use crate::services::kafka;
use actors::ports::EventLog;
use regrade::adapters::contract::check_event_log;
use regrade::adapters::log_kafka::{KafkaLog, KafkaLogConfig};
use std::sync::Arc;

/// One partition, as the suite counts offsets; short waits, as the broker is near.
fn config(bootstrap: &str, namespace: String) -> KafkaLogConfig {
    KafkaLogConfig {
        bootstrap: bootstrap.to_owned(),
        namespace,
        partitions: 1,
        session_timeout_ms: 6_000,
        leave_wait_ms: 2_000,
        ..KafkaLogConfig::default()
    }
}

async fn keeps_the_contract(name: &str, transactions: bool) {
    let Some(bootstrap) = kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = format!("{name}-{}", std::process::id());
    check_event_log(async |log| {
        let folder = folder.path().join(log);
        std::fs::create_dir_all(&folder).unwrap();
        let config = config(bootstrap, format!("{run}-{log}"));
        let config = KafkaLogConfig { transactions, ..config };
        Arc::new(KafkaLog::open(&folder, "node", config).await.unwrap()) as Arc<dyn EventLog>
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

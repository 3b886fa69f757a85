//! The event log on a real Kafka broker: the contract, groups of processes, faults, clients that
//! nobody here wrote.

mod clients;
mod contract;
mod faults;
mod groups;
mod processes;

use actors::ports::{EventLog, Stream};
use regrade::adapters::log_kafka::{KafkaLog, KafkaLogConfig};
use regrade::evaluate::audit::{Audit, Ledger};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest wait for anything here, a session's end included.
const PATIENCE: Duration = Duration::from_secs(90);

/// A namespace that no other test has, on a broker that may be shared.
fn namespace(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("test-{}-{number}-{name}", std::process::id())
}

/// Short waits, as the broker is near.
fn config(bootstrap: &str, namespace: &str, partitions: u32) -> KafkaLogConfig {
    KafkaLogConfig {
        bootstrap: bootstrap.to_owned(),
        namespace: namespace.to_owned(),
        partitions,
        session_timeout_ms: 6_000,
        leave_wait_ms: 3_000,
        ..KafkaLogConfig::default()
    }
}

async fn open(folder: &Path, config: KafkaLogConfig) -> KafkaLog {
    std::fs::create_dir_all(folder).unwrap();
    KafkaLog::open(folder, "node", config).await.unwrap()
}

/// The balance of everything on the log.
async fn audit(log: &KafkaLog) -> Audit {
    let mut ledger = Ledger::default();
    for stream in Stream::ALL {
        let mut reader = log.follower("audit", &[stream], None).await.unwrap();
        loop {
            let records = reader.poll(1_000, Duration::from_millis(50)).await.unwrap();
            if records.is_empty() && reader.is_at_end() {
                break;
            }
            records.iter().for_each(|record| ledger.take(record));
        }
    }
    ledger.balance()
}

/// Asks again until it is so; fails after [`PATIENCE`].
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "never {what}");
        // The pace of asking, no synchronisation: what is waited for is asked for.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

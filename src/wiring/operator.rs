//! The event log as an operator's command holds it while no service does: whole streams read, a few
//! records appended, and no consumer left behind that retention would wait for.

use super::WiringError;
use crate::adapters::log_embedded::EmbeddedLog;
use crate::config::{Config, LogKind};
use actors::ports::{EventLog, LogError, NewRecord, Record, Stream};
use std::sync::Arc;
use std::time::Duration;

/// Name of the consumer while a stream is read.
const CONSUMER: &str = "policy-cli";
/// Longest wait for a page; an embedded log answers at once.
const WAIT: Duration = Duration::from_millis(20);
/// Records read in one go.
const PAGE: usize = 1_000;

/// The log of a configuration. An embedded one is owned by this process as long as this lives; one on
/// Kafka is shared with the services on it.
pub struct OperatorLog {
    log: Arc<dyn EventLog>,
    embedded: Option<EmbeddedLog>,
    /// Where a reader of Kafka keeps the positions that it does not need afterwards.
    _folder: Option<tempfile::TempDir>,
}

impl OperatorLog {
    /// Opens the log.
    ///
    /// # Errors
    /// The log cannot be opened; [`LogError::InUse`] where a service has an embedded one.
    pub async fn open(config: &Config) -> Result<Self, WiringError> {
        if config.log.kind == LogKind::Kafka {
            let folder = tempfile::tempdir().map_err(|source| WiringError::Folder {
                folder: std::env::temp_dir(),
                key: "TMPDIR",
                source,
            })?;
            let log = Arc::new(super::kafka_log(config, folder.path()).await?);
            return Ok(Self { log, embedded: None, _folder: Some(folder) });
        }
        let log = super::embedded_log(config).await?;
        Ok(Self { log: Arc::new(log.clone()), embedded: Some(log), _folder: None })
    }

    /// Everything a stream holds, oldest first within a partition.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn read(&self, stream: Stream) -> Result<Vec<Record>, LogError> {
        let records = self.read_to_end(stream).await;
        if let Some(log) = &self.embedded {
            // A consumer that stays registered holds back retention for ever.
            log.forget(CONSUMER).await?;
        }
        records
    }

    async fn read_to_end(&self, stream: Stream) -> Result<Vec<Record>, LogError> {
        let mut consumer = self.log.follower(CONSUMER, &[stream], None).await?;
        let mut records = Vec::new();
        loop {
            let page = consumer.poll(PAGE, WAIT).await?;
            if page.is_empty() && consumer.is_at_end() {
                return Ok(records);
            }
            records.extend(page);
        }
    }

    /// Appends records; durable when it returns.
    ///
    /// # Errors
    /// The log cannot be written.
    pub async fn append(&self, stream: Stream, records: Vec<NewRecord>) -> Result<(), LogError> {
        self.log.append(stream, records).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::adapters::log_embedded::EmbeddedLogConfig;
    use crate::config::LogConfig;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn reading_leaves_nothing_behind_that_retention_waits_for() {
        let folder = tempfile::tempdir().unwrap();
        let retention = BTreeMap::from([(Stream::Policies, 1)]);
        let limits = EmbeddedLogConfig { retention, ..EmbeddedLogConfig::default() };
        let place = LogConfig { folder: folder.path().to_owned(), limits, ..LogConfig::default() };
        let log = OperatorLog::open(&Config { log: place, ..Config::default() }).await.unwrap();
        let record = |n: u8| NewRecord { payload: vec![n], ..NewRecord::default() };
        log.append(Stream::Policies, vec![record(0), record(1)]).await.unwrap();
        let seen = log.read(Stream::Policies).await.unwrap();
        assert_eq!(seen.last().unwrap().payload, [1]);
        for n in 2..10 {
            log.append(Stream::Policies, vec![record(n)]).await.unwrap();
        }
        let seen = log.read(Stream::Policies).await.unwrap();
        let kept: Vec<u64> = seen.iter().map(|record| record.offset).collect();
        assert_eq!(kept, [9], "the consumer of the first reading holds nothing back");
    }
}

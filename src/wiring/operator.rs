//! The event log as an operator's command holds it while no service does: whole streams read, a few
//! records appended, and no consumer left behind that retention would wait for.

use super::WiringError;
use crate::adapters::log_embedded::EmbeddedLog;
use crate::config::Config;
use actors::ports::{EventLog, LogError, NewRecord, Record, Stream};
use std::time::Duration;

/// Name of the consumer while a stream is read.
const CONSUMER: &str = "policy-cli";
/// Records read in one go.
const PAGE: usize = 1_000;

/// The log of a configuration, owned by this process as long as it lives.
pub struct OperatorLog {
    log: EmbeddedLog,
}

impl OperatorLog {
    /// Opens the log.
    ///
    /// # Errors
    /// The log cannot be opened; [`LogError::InUse`] where a service has it.
    pub async fn open(config: &Config) -> Result<Self, WiringError> {
        Ok(Self { log: super::embedded_log(config).await? })
    }

    /// Everything a stream holds, oldest first.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn read(&self, stream: Stream) -> Result<Vec<Record>, LogError> {
        let records = self.read_to_end(stream).await;
        // A consumer that stays registered holds back retention for ever.
        self.log.forget(CONSUMER).await?;
        records
    }

    async fn read_to_end(&self, stream: Stream) -> Result<Vec<Record>, LogError> {
        let mut consumer = self.log.consumer(CONSUMER, &[stream]).await?;
        let mut records = Vec::new();
        loop {
            let page = consumer.poll(PAGE, Duration::ZERO).await?;
            if page.is_empty() {
                return Ok(records);
            }
            records.extend(page);
        }
    }

    /// Appends records, all or none; durable when it returns.
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

//! How records are sent: by one idempotent producer a process, or in transactions by one a consumer.
//!
//! Knows no consumer's state but the group that its offsets belong to.

use super::config::KafkaLogConfig;
use super::polling::Context;
use super::records::{bytes_of, headers_of};
use super::topics::away;
use actors::ports::{LogError, NewRecord, Stream};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The producer of a process. Clones share it.
#[derive(Clone)]
pub(super) struct Sender {
    producer: FutureProducer,
    config: Arc<KafkaLogConfig>,
}

impl Sender {
    pub(super) fn new(config: &Arc<KafkaLogConfig>) -> Result<Self, LogError> {
        let producer = config
            .producer()
            .map_err(LogError::Refused)?
            .create()
            .map_err(|error| LogError::Refused(format!("kafka producer settings: {error}")))?;
        Ok(Self { producer, config: Arc::clone(config) })
    }

    pub(super) fn config(&self) -> &KafkaLogConfig {
        &self.config
    }

    /// Refuses records over the limit before anything is sent.
    pub(super) fn check_sizes<'a>(
        &self,
        records: impl IntoIterator<Item = &'a (Stream, NewRecord)>,
    ) -> Result<(), LogError> {
        for (_, record) in records {
            let (bytes, most) = (bytes_of(record), self.config.record_bytes_max as usize);
            if bytes > most {
                return Err(LogError::Refused(format!(
                    "record `{:.64}` has {bytes} bytes, at most {most} are allowed",
                    record.key
                )));
            }
        }
        Ok(())
    }

    /// Hands a record to librdkafka, which sends it in the background.
    pub(super) fn send(
        &self,
        stream: Stream,
        record: &NewRecord,
    ) -> Result<DeliveryFuture, LogError> {
        enqueue(&self.producer, &self.config, stream, record)
    }

    /// Waits until what was handed over is sent, at most `wait`. Blocking.
    pub(super) fn flush(&self, wait: Duration) {
        if let Err(error) = self.producer.flush(wait) {
            tracing::warn!(%error, "records may not have been sent");
        }
    }
}

fn enqueue(
    producer: &FutureProducer,
    config: &KafkaLogConfig,
    stream: Stream,
    record: &NewRecord,
) -> Result<DeliveryFuture, LogError> {
    let topic = config.topic(stream);
    let mut new: FutureRecord<'_, str, [u8]> =
        FutureRecord::to(&topic).payload(record.payload.as_slice()).headers(headers_of(record));
    if !record.key.is_empty() {
        new = new.key(&record.key);
    }
    producer.send_result(new).map_err(|(error, _)| failed(config, &error))
}

/// The error of a record that was not sent.
pub(super) fn failed(config: &KafkaLogConfig, error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord) => {
            LogError::Refused(format!("kafka takes no such record: {error}"))
        }
        Some(RDKafkaErrorCode::QueueFull) => LogError::Unavailable(format!(
            "too much waits to be sent to kafka at `{}` (send_queue_kb {})",
            config.bootstrap, config.send_queue_kb
        )),
        _ => LogError::Unavailable(format!("kafka at `{}`: {error}", config.bootstrap)),
    }
}

/// The transactional producer of one consumer: its records and its offsets become visible together,
/// and a process that was replaced is refused by the brokers.
pub(super) struct Transactions {
    config: Arc<KafkaLogConfig>,
    id: String,
    /// `None` until the first use, and after an error that ends a producer's life.
    producer: Mutex<Option<FutureProducer>>,
}

impl Transactions {
    /// `id` names the consumer and the process.
    pub(super) fn new(config: &Arc<KafkaLogConfig>, id: String) -> Self {
        Self { config: Arc::clone(config), id, producer: Mutex::new(None) }
    }

    /// Consumed, transformed and produced in one transaction. Blocking.
    pub(super) fn run(
        &self,
        consumer: &BaseConsumer<Context>,
        offsets: &TopicPartitionList,
        appends: Vec<(Stream, NewRecord)>,
    ) -> Result<(), LogError> {
        let mut held = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let producer = match &*held {
            Some(producer) => producer.clone(),
            None => held.insert(self.producer()?).clone(),
        };
        let done = self.attempt(&producer, consumer, offsets, &appends);
        let Err(error) = done else { return Ok(()) };
        let is_over = match &error {
            KafkaError::Transaction(error) => {
                !(error.is_retriable() || (error.txn_requires_abort() && self.abort(&producer)))
            }
            _ => !self.abort(&producer),
        };
        if is_over {
            *held = None;
        }
        Err(away(&self.config, &error))
    }

    fn attempt(
        &self,
        producer: &FutureProducer,
        consumer: &BaseConsumer<Context>,
        offsets: &TopicPartitionList,
        appends: &[(Stream, NewRecord)],
    ) -> Result<(), KafkaError> {
        let wait = self.wait();
        producer.begin_transaction()?;
        for (stream, record) in appends {
            // A record that fails makes the commit fail; its own report is not needed.
            enqueue(producer, &self.config, *stream, record)
                .map(drop)
                .map_err(|_| KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull))?;
        }
        if offsets.count() > 0
            && let Some(group) = consumer.group_metadata()
        {
            producer.send_offsets_to_transaction(offsets, &group, wait)?;
        }
        producer.commit_transaction(wait)
    }

    fn abort(&self, producer: &FutureProducer) -> bool {
        producer.abort_transaction(self.wait()).is_ok()
    }

    fn producer(&self) -> Result<FutureProducer, LogError> {
        let mut settings = self.config.producer().map_err(LogError::Refused)?;
        let timeout_ms = self.config.delivery_timeout_ms;
        settings
            .set("transactional.id", &self.id)
            .set("transaction.timeout.ms", timeout_ms.to_string())
            .set("message.timeout.ms", timeout_ms.saturating_sub(1).max(1).to_string());
        let producer: FutureProducer = settings
            .create()
            .map_err(|error| LogError::Refused(format!("kafka producer settings: {error}")))?;
        producer.init_transactions(self.wait()).map_err(|error| away(&self.config, &error))?;
        Ok(producer)
    }

    fn wait(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.request_timeout_ms))
    }
}

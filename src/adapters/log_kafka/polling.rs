//! The polling thread of a consumer, and librdkafka's calls back on it.
//!
//! Knows what [`Reading`] offers, and no record.

use super::reading::Reading;
use super::records::record_of;
use actors::telemetry;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time the polling thread waits for a message before it looks whether to stop.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Longest time a consumer takes to leave its group before it is dropped all the same.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// librdkafka's calls back to us.
pub(super) struct Context(pub(super) Arc<Reading>);

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        for (topic, figures) in &statistics.topics {
            let Some(stream) = self.0.config.stream(topic) else { continue };
            let lags = figures.partitions.values().map(|partition| partition.consumer_lag);
            let lag: i64 = lags.filter(|lag| *lag > 0).sum();
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!(
                telemetry::LOG_LAG, "consumer" => self.0.kind(), "stream" => stream.topic()
            )
            .set(lag as f64);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        tracing::warn!(%error, reason, consumer = self.0.name, "kafka reports an error");
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        tpl: &mut TopicPartitionList,
    ) {
        let reading = &self.0;
        let is_cooperative =
            matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let changed = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let gained = reading.gain(consumer, tpl).and_then(|assigned| {
                    let assign = if is_cooperative {
                        consumer.incremental_assign(&assigned)
                    } else {
                        consumer.assign(&assigned)
                    };
                    assign.map(|()| assigned.count() / reading.streams.len().max(1))
                });
                if reading.lock().is_paused {
                    reading.set_paused(consumer, true);
                }
                gained.map(|count| ("gained", count))
            }
            _ => {
                let is_lost = consumer.assignment_lost();
                let (numbers, all) = reading.widened(tpl);
                reading.leave(&numbers, is_lost);
                let unassign = if is_cooperative {
                    consumer.incremental_unassign(&all)
                } else {
                    consumer.unassign()
                };
                unassign.map(|()| (if is_lost { "lost" } else { "leaving" }, numbers.len()))
            }
        };
        match changed {
            Ok((change, count)) => reading.rebalanced(change, count),
            Err(error) => {
                tracing::error!(%error, consumer = reading.name, "partitions cannot be changed");
                // A rebalance that nobody answers would hold up the whole group.
                if let Err(error) = consumer.unassign() {
                    tracing::error!(%error, consumer = reading.name, "the rebalance hangs");
                }
            }
        }
        reading.arrived.notify_one();
    }
}

/// The polling thread: reads ahead until told to stop, then leaves the group and closes.
pub(super) fn run(consumer: &BaseConsumer<Context>, reading: &Reading) {
    while !reading.is_stopped() {
        match consumer.poll(POLL_WAIT) {
            None => {}
            Some(Ok(message)) => {
                if let Some(record) = record_of(&reading.config, &message) {
                    reading.push(record);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                if let Ok(partition) = u32::try_from(partition) {
                    reading.reached_end(partition);
                }
            }
            // librdkafka goes on by itself once the brokers are there again.
            Some(Err(error)) => {
                tracing::warn!(%error, consumer = reading.name, "kafka cannot be read");
            }
        }
        reading.pace(consumer);
    }
    if consumer.subscription().is_ok_and(|topics| topics.count() == 0) {
        // It reads alone and is in no group.
        return;
    }
    // Dropping a consumer in the midst of a rebalance can abort the process: leave in order first.
    consumer.unsubscribe();
    let deadline = Instant::now() + CLOSE_WAIT;
    let is_assigned = || consumer.assignment().is_ok_and(|all| all.count() > 0);
    while is_assigned() && Instant::now() < deadline {
        drop(consumer.poll(POLL_WAIT));
    }
}

//! The topics: made where missing, checked where they stand.
//!
//! Everything here blocks but the making. Knows no record.

use super::config::KafkaLogConfig;
use actors::ports::{LogError, Stream};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Pause before brokers are asked again.
const RETRY: Duration = Duration::from_millis(50);

/// Partitions of each stream's topic.
pub(super) type Partitions = BTreeMap<Stream, u32>;

/// Streams whose records of one decision must meet in one partition number.
const TOGETHER: [Stream; 3] = [Stream::Episodes, Stream::Feedback, Stream::Rewards];

/// Makes every topic that is missing.
pub(super) async fn make(config: &KafkaLogConfig) -> Result<(), LogError> {
    let admin: AdminClient<DefaultClientContext> = config
        .client()
        .map_err(LogError::Refused)?
        .create()
        .map_err(|error| LogError::Refused(format!("kafka client settings: {error}")))?;
    let kept: Vec<(String, String, u32, Stream)> = Stream::ALL
        .into_iter()
        .map(|stream| {
            let retention = config.retention_ms(stream).to_string();
            (config.topic(stream), retention, config.partitions_of(stream), stream)
        })
        .collect();
    let record_bytes_max = config.record_bytes_max.to_string();
    let replication = i32::try_from(config.replication).unwrap_or(i32::MAX);
    let topics: Vec<NewTopic<'_>> = kept
        .iter()
        .map(|(topic, retention_ms, partitions, stream)| {
            let partitions = i32::try_from(*partitions).unwrap_or(i32::MAX);
            let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication))
                .set("max.message.bytes", &record_bytes_max);
            if *stream == Stream::Policies {
                topic.set("cleanup.policy", "compact")
            } else {
                topic.set("cleanup.policy", "delete").set("retention.ms", retention_ms)
            }
        })
        .collect();
    let wait = Duration::from_millis(u64::from(config.request_timeout_ms));
    let options = AdminOptions::new().operation_timeout(Some(wait)).request_timeout(Some(wait));
    let made =
        admin.create_topics(&topics, &options).await.map_err(|error| away(config, &error))?;
    for result in made {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(LogError::Refused(format!(
                    "kafka cannot make topic `{topic}`: {code}"
                )));
            }
        }
    }
    Ok(())
}

/// Reads how many partitions each topic has, and refuses what the service cannot work with.
/// Blocking; waits for new topics to have leaders.
pub(super) fn check(
    config: &KafkaLogConfig,
    client: &BaseConsumer,
) -> Result<Partitions, LogError> {
    let wait = Duration::from_millis(u64::from(config.request_timeout_ms));
    let deadline = Instant::now() + wait;
    let partitions = loop {
        let missing = match partitions(config, client, wait)? {
            Ok(partitions) => break partitions,
            Err(missing) => missing,
        };
        if Instant::now() >= deadline {
            return Err(LogError::Refused(format!(
                "kafka at `{}` has no usable topic `{missing}`; make it, or set create_topics",
                config.bootstrap
            )));
        }
        // Serves the client's events meanwhile; it reads nothing.
        drop(client.poll(RETRY));
    };
    let counts = TOGETHER.map(|stream| partitions.get(&stream).copied().unwrap_or(0));
    if counts.iter().any(|count| *count != counts[0]) {
        let named: Vec<String> = TOGETHER
            .iter()
            .zip(counts)
            .map(|(stream, count)| format!("`{}` has {count}", config.topic(*stream)))
            .collect();
        return Err(LogError::Refused(format!(
            "kafka topics must have the same number of partitions, so that what belongs to a \
             decision meets: {}; add partitions to the smaller",
            named.join(", ")
        )));
    }
    match partitions.get(&Stream::Policies) {
        Some(1) => Ok(partitions),
        other => Err(LogError::Refused(format!(
            "kafka topic `{}` must have 1 partition, so that all read its changes in one order; it \
             has {}",
            config.topic(Stream::Policies),
            other.copied().unwrap_or(0)
        ))),
    }
}

/// The counts, or a topic that is not there (yet).
fn partitions(
    config: &KafkaLogConfig,
    client: &BaseConsumer,
    wait: Duration,
) -> Result<Result<Partitions, String>, LogError> {
    let metadata = client.fetch_metadata(None, wait).map_err(|error| away(config, &error))?;
    let mut partitions = Partitions::new();
    for stream in Stream::ALL {
        let name = config.topic(stream);
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let Some(topic) = topic.filter(|topic| {
            let led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
            !topic.partitions().is_empty() && led
        }) else {
            return Ok(Err(name));
        };
        let count = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
        partitions.insert(stream, count);
    }
    Ok(Ok(partitions))
}

/// The first offset a partition keeps and the next it gives; asked again while a new or moved
/// partition finds its leader. Blocking.
pub(super) fn watermarks<C: ConsumerContext>(
    config: &KafkaLogConfig,
    client: &BaseConsumer<C>,
    topic: &str,
    partition: u32,
) -> Result<(u64, u64), LogError> {
    let wait = Duration::from_millis(u64::from(config.request_timeout_ms));
    let deadline = Instant::now() + wait;
    loop {
        let error = match client.fetch_watermarks(topic, partition.cast_signed(), wait) {
            Ok((low, high)) => return Ok((low.unsigned_abs(), high.unsigned_abs())),
            Err(error) => error,
        };
        let is_passing = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::UnknownTopicOrPartition
            )
        );
        if !is_passing || Instant::now() >= deadline {
            return Err(away(config, &error));
        }
        drop(client.poll(RETRY));
    }
}

/// The brokers do not answer.
pub(super) fn away(config: &KafkaLogConfig, error: &dyn std::fmt::Display) -> LogError {
    LogError::Unavailable(format!(
        "kafka at `{}` did not answer within {} ms: {error}",
        config.bootstrap, config.request_timeout_ms
    ))
}

//! What the Kafka log is told, what it may be told, and the client settings that follow.
//!
//! Settings that delivery rests on are made here and refused from outside. Knows no connection.

use actors::ports::Stream;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of the Kafka log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaLogConfig {
    /// Brokers to begin with: `host:port`, several by comma.
    pub bootstrap: String,
    /// First word of topics and groups: `regrade` gives `regrade.queries` and so on.
    pub namespace: String,
    /// Makes topics that are missing; otherwise a missing one is an error.
    pub create_topics: bool,
    /// Partitions of a topic that is made here, ≥ 1: the most processes of a role that share its
    /// work. The policies always have one, so that all read their changes in one order.
    pub partitions: u32,
    /// Copies of a topic that is made here, ≥ 1; 3 in production.
    pub replication: u32,
    /// Hours that records are kept in a topic that is made here, ≥ 1, by stream; a stream that is
    /// not named keeps them a week. The policies are compacted and keep the last of each version.
    pub retention_hours: BTreeMap<Stream, u64>,
    /// Largest record, bytes; also the topics' `max.message.bytes`.
    pub record_bytes_max: u32,
    /// Silence after which the broker gives a process's partitions to others, milliseconds.
    pub session_timeout_ms: u32,
    /// How long a partition that is to leave may take to finish its work, milliseconds; below
    /// `session_timeout_ms`.
    pub leave_wait_ms: u32,
    /// Longest wait for one request to the brokers, milliseconds.
    pub request_timeout_ms: u32,
    /// Longest time until an appended record is acknowledged, milliseconds, retries included.
    pub delivery_timeout_ms: u32,
    /// How long a record waits for others to share its request, milliseconds.
    pub linger_ms: u32,
    /// Records read ahead of an actor at which reading pauses, and at which it goes on.
    pub queue_high: usize,
    /// See `queue_high`; below it.
    pub queue_low: usize,
    /// Kilobytes that librdkafka reads ahead for one consumer.
    pub fetch_queue_kb: u32,
    /// Kilobytes that may wait to be sent.
    pub send_queue_kb: u32,
    /// Records of each stream of decisions (episodes, rewards) whose place is kept in the local file,
    /// ≥ 1, so that feedback of days later finds them; about 100 bytes each. What is older than the
    /// topics keep is not found in any case.
    pub index_records_max: u64,
    /// Writes answers and rewards together with the offsets of what they come from in one Kafka
    /// transaction: readers with `isolation.level=read_committed` then see each once.
    pub transactions: bool,
    /// Further properties of librdkafka (`security.protocol`, `sasl.username` …), for every client.
    pub properties: BTreeMap<String, String>,
    /// Properties whose value is in an environment variable: `{ "sasl.password" = "KAFKA_PASSWORD" }`.
    pub properties_from_env: BTreeMap<String, String>,
}

impl Default for KafkaLogConfig {
    fn default() -> Self {
        Self {
            bootstrap: "127.0.0.1:9092".to_owned(),
            namespace: "regrade".to_owned(),
            create_topics: true,
            partitions: 12,
            replication: 1,
            retention_hours: BTreeMap::new(),
            record_bytes_max: 8 << 20,
            session_timeout_ms: 10_000,
            leave_wait_ms: 8_000,
            request_timeout_ms: 10_000,
            delivery_timeout_ms: 30_000,
            linger_ms: 2,
            queue_high: 2_000,
            queue_low: 500,
            fetch_queue_kb: 16_384,
            send_queue_kb: 65_536,
            index_records_max: 5_000_000,
            transactions: false,
            properties: BTreeMap::new(),
            properties_from_env: BTreeMap::new(),
        }
    }
}

/// Properties that delivery rests on: made here.
const OURS: [&str; 17] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "transactional.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "partitioner",
    "partition.assignment.strategy",
    "isolation.level",
    "session.timeout.ms",
    "statistics.interval.ms",
];

/// Hours that a stream keeps its records unless told otherwise: a week.
const RETENTION_HOURS: u64 = 168;

impl KafkaLogConfig {
    /// Checks every value, naming the first field that is wrong and what it may be.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("partitions", u64::from(self.partitions)),
            ("replication", u64::from(self.replication)),
            ("session_timeout_ms", u64::from(self.session_timeout_ms)),
            ("leave_wait_ms", u64::from(self.leave_wait_ms)),
            ("request_timeout_ms", u64::from(self.request_timeout_ms)),
            ("delivery_timeout_ms", u64::from(self.delivery_timeout_ms)),
            ("queue_low", self.queue_low as u64),
            ("index_records_max", self.index_records_max),
            ("fetch_queue_kb", u64::from(self.fetch_queue_kb)),
            ("send_queue_kb", u64::from(self.send_queue_kb)),
        ];
        if let Some((field, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{field}: must be at least 1"));
        }
        if self.bootstrap.trim().is_empty() {
            return Err("bootstrap: must name a broker as host:port".to_owned());
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.namespace.is_empty() || !self.namespace.chars().all(is_plain) {
            return Err("namespace: must be letters, digits, `.`, `_` or `-`".to_owned());
        }
        if self.queue_low >= self.queue_high {
            return Err(format!(
                "queue_low: {} must be below queue_high {}",
                self.queue_low, self.queue_high
            ));
        }
        if self.leave_wait_ms >= self.session_timeout_ms {
            return Err(format!(
                "leave_wait_ms: {} must be below session_timeout_ms {}",
                self.leave_wait_ms, self.session_timeout_ms
            ));
        }
        if !(1_024..=100_000_000).contains(&self.record_bytes_max) {
            return Err("record_bytes_max: must lie between 1024 and 100000000".to_owned());
        }
        if self.retention_hours.contains_key(&Stream::Policies) {
            return Err("retention_hours.policies: the policies are compacted, not aged".to_owned());
        }
        if let Some((stream, _)) = self.retention_hours.iter().find(|(_, hours)| **hours == 0) {
            return Err(format!("retention_hours.{stream:?}: must be at least 1").to_lowercase());
        }
        let named = self.properties.keys().chain(self.properties_from_env.keys());
        for property in named {
            if OURS.contains(&property.as_str()) {
                return Err(format!(
                    "properties: `{property}` is set by the service, delivery rests on it"
                ));
            }
        }
        let secret = self.properties.keys().find(|property| {
            ["password", "secret", ".pem"].iter().any(|word| property.contains(word))
        });
        match secret {
            Some(property) => Err(format!(
                "properties: `{property}` is a secret; name an environment variable that holds it \
                 under properties_from_env"
            )),
            None => Ok(()),
        }
    }

    /// The topic of a stream.
    pub(super) fn topic(&self, stream: Stream) -> String {
        let name = stream.topic();
        let name = name.split_once('.').map_or(name, |(_, name)| name);
        format!("{}.{name}", self.namespace)
    }

    /// The stream of a topic of ours.
    pub(super) fn stream(&self, topic: &str) -> Option<Stream> {
        Stream::ALL.into_iter().find(|stream| self.topic(*stream) == topic)
    }

    /// Partitions a stream is made with.
    pub(super) fn partitions_of(&self, stream: Stream) -> u32 {
        if stream == Stream::Policies { 1 } else { self.partitions }
    }

    /// Milliseconds a stream keeps its records.
    pub(super) fn retention_ms(&self, stream: Stream) -> u64 {
        let hours = self.retention_hours.get(&stream).copied().unwrap_or(RETENTION_HOURS);
        hours.saturating_mul(3_600_000)
    }

    /// What every client shares.
    ///
    /// # Errors
    /// An environment variable that is not set.
    pub(super) fn client(&self) -> Result<ClientConfig, String> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.namespace)
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (property, value) in &self.properties {
            client.set(property, value);
        }
        for (property, variable) in &self.properties_from_env {
            let value = std::env::var(variable).map_err(|_| {
                format!("environment variable `{variable}` for `{property}` is not set")
            })?;
            client.set(property, value);
        }
        Ok(client)
    }

    /// What producers add. Acknowledged by all replicas, in order, without repeats of its own.
    pub(super) fn producer(&self) -> Result<ClientConfig, String> {
        let mut client = self.client()?;
        client
            .set("enable.idempotence", "true")
            // The partitioner of the Java clients, so that keys meet whoever writes them.
            .set("partitioner", "murmur2_random")
            .set("compression.type", "zstd")
            .set("linger.ms", self.linger_ms.to_string())
            .set("message.max.bytes", self.record_bytes_max.to_string())
            .set("message.timeout.ms", self.delivery_timeout_ms.to_string())
            .set("queue.buffering.max.kbytes", self.send_queue_kb.to_string());
        Ok(client)
    }

    /// What consumers add; offsets are ours to keep.
    pub(super) fn consumer(&self, group: &str) -> Result<ClientConfig, String> {
        let mut client = self.client()?;
        client
            .set("group.id", format!("{}.{group}", self.namespace))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (self.session_timeout_ms / 5).max(100).to_string())
            .set("statistics.interval.ms", "5000")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "50")
            .set("fetch.message.max.bytes", "1048576")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", self.fetch_queue_kb.to_string())
            .set("receive.message.max.bytes", "209715200");
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn refused(change: impl FnOnce(&mut KafkaLogConfig)) -> String {
        let mut config = KafkaLogConfig::default();
        change(&mut config);
        config.validate().unwrap_err()
    }

    #[test]
    fn the_default_is_valid_and_wrong_values_are_named() {
        KafkaLogConfig::default().validate().unwrap();
        let errors = [
            refused(|c| c.partitions = 0),
            refused(|c| c.bootstrap = " ".to_owned()),
            refused(|c| c.namespace = "a b".to_owned()),
            refused(|c| c.queue_low = c.queue_high),
            refused(|c| c.leave_wait_ms = c.session_timeout_ms),
            refused(|c| c.retention_hours.extend([(Stream::Policies, 1)])),
            refused(|c| c.retention_hours.extend([(Stream::Answers, 0)])),
            refused(|c| drop(c.properties.insert("group.id".to_owned(), "x".to_owned()))),
            refused(|c| drop(c.properties.insert("sasl.password".to_owned(), "x".to_owned()))),
        ];
        insta::assert_snapshot!(errors.join("\n"), @r"
        partitions: must be at least 1
        bootstrap: must name a broker as host:port
        namespace: must be letters, digits, `.`, `_` or `-`
        queue_low: 2000 must be below queue_high 2000
        leave_wait_ms: 10000 must be below session_timeout_ms 10000
        retention_hours.policies: the policies are compacted, not aged
        retention_hours.answers: must be at least 1
        properties: `group.id` is set by the service, delivery rests on it
        properties: `sasl.password` is a secret; name an environment variable that holds it under properties_from_env
        ");
    }

    #[test]
    fn topics_carry_the_namespace_and_lead_back_to_their_stream() {
        let config = KafkaLogConfig { namespace: "shop".to_owned(), ..KafkaLogConfig::default() };
        for stream in Stream::ALL {
            assert_eq!(config.stream(&config.topic(stream)), Some(stream));
        }
        assert_eq!(config.topic(Stream::Queries), "shop.queries");
        assert_eq!(config.stream("regrade.queries"), None);
        assert_eq!(KafkaLogConfig::default().topic(Stream::Rewards), Stream::Rewards.topic());
    }

    #[test]
    fn a_secret_that_is_not_in_the_environment_is_an_error_that_names_it() {
        let from_env =
            [("sasl.password".to_owned(), "REGRADE_TEST_NO_SUCH_VARIABLE".to_owned())].into();
        let config = KafkaLogConfig { properties_from_env: from_env, ..KafkaLogConfig::default() };
        let error = config.client().unwrap_err();
        assert!(error.contains("REGRADE_TEST_NO_SUCH_VARIABLE"), "{error}");
    }
}

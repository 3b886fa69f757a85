//! The event log on a real Kafka broker.

mod contract;

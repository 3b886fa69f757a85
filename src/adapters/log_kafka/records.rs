//! Records as Kafka has them, and the partition a key belongs to.
//!
//! Knows no client state.

use super::config::KafkaLogConfig;
use actors::ports::{NewRecord, Record};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};
use std::collections::BTreeMap;

/// Copies a message out of librdkafka's buffers; `None` for a topic that is not ours.
pub(super) fn record_of(config: &KafkaLogConfig, message: &BorrowedMessage<'_>) -> Option<Record> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: BTreeMap<String, String> = message
        .headers()
        .map(|headers| headers.iter())
        .into_iter()
        .flatten()
        .map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default()))
        .collect();
    Some(Record {
        stream: config.stream(message.topic())?,
        partition: u32::try_from(message.partition()).ok()?,
        offset: u64::try_from(message.offset()).ok()?,
        key: message.key().map(text).unwrap_or_default(),
        headers,
        payload: message.payload().map(<[u8]>::to_vec).unwrap_or_default(),
    })
}

/// The headers of a record to be written.
pub(super) fn headers_of(record: &NewRecord) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    record
        .headers
        .iter()
        .fold(empty, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Bytes of a record as they count against the limit.
pub(super) fn bytes_of(record: &NewRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(k, v)| k.len() + v.len()).sum();
    record.key.len() + headers + record.payload.len()
}

/// The partition of a key under the default partitioner of the Java clients, which librdkafka calls
/// `murmur2_random`. Keys must not be empty: those go anywhere.
pub(super) fn partition_of(key: &str, partitions: u32) -> u32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2 (Austin Appleby, public domain algorithm) with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[expect(clippy::cast_possible_truncation, reason = "keys are far shorter than 4 GiB")]
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (shift, byte) in (0..).zip(rest) {
            hash ^= u32::from(*byte) << (8 * shift);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafka() {
        // From the tests of Kafka's own `Utils.murmur2`.
        let cases: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key:?}");
        }
    }
}

//! Readings beyond the life of a process: the socket for a store, and a reading as bytes.
//!
//! Knows no file. A value is: `rel`, `span_score`, `null_score` (f32), `tokens` (u32), width H (u32),
//! `cls` and `span` (H f16 each), then the answer's text; all little-endian. The states are kept in
//! f16 because that is what a policy makes of them anyway (`types::CandidateStates`).

use super::{ReaderError, Reading};
use half::f16;

/// Why kept readings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the kept readings: {0}")]
pub struct StoreError(pub String);

/// Keeps values under names of 32 bytes. Everything blocks.
pub trait ReadingStore: std::fmt::Debug + Send + Sync {
    /// The value of each name, in order; `None` where there is none.
    fn get(&self, names: &[[u8; 32]]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Keeps all values or none.
    fn put(&self, entries: &[([u8; 32], Vec<u8>)]) -> Result<(), StoreError>;
}

/// The readings of these names, as wide as `width`; `None` where the store has none.
pub(super) fn recall(
    store: &dyn ReadingStore,
    names: &[[u8; 32]],
    width: usize,
) -> Result<Vec<Option<Reading>>, ReaderError> {
    let mut readings = Vec::with_capacity(names.len());
    for value in store.get(names)? {
        let reading = match value {
            None => None,
            Some(bytes) => Some(from_bytes(&bytes, width).ok_or_else(|| {
                StoreError(format!(
                    "a value of {} bytes is no reading {width} wide; remove the file",
                    bytes.len()
                ))
            })?),
        };
        readings.push(reading);
    }
    Ok(readings)
}

/// Puts readings under their names.
pub(super) fn keep<'a>(
    store: &dyn ReadingStore,
    readings: impl Iterator<Item = ([u8; 32], &'a Reading)>,
) -> Result<(), ReaderError> {
    let entries: Vec<_> = readings.map(|(name, reading)| (name, to_bytes(reading))).collect();
    if !entries.is_empty() {
        store.put(&entries)?;
    }
    Ok(())
}

fn to_bytes(reading: &Reading) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + 4 * reading.cls.len() + reading.answer.len());
    for value in [reading.rel, reading.span_score, reading.null_score] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(reading.tokens.to_le_bytes());
    bytes.extend((reading.cls.len() as u32).to_le_bytes());
    for value in reading.cls.iter().chain(&reading.span) {
        bytes.extend(f16::from_f32(*value).to_le_bytes());
    }
    bytes.extend(reading.answer.as_bytes());
    bytes
}

fn from_bytes(bytes: &[u8], width: usize) -> Option<Reading> {
    let word = |at: usize| -> Option<[u8; 4]> { bytes.get(4 * at..4 * at + 4)?.try_into().ok() };
    let number = |at: usize| word(at).map(f32::from_le_bytes);
    if u32::from_le_bytes(word(4)?) as usize != width {
        return None;
    }
    let (states, answer) = bytes.get(20..)?.split_at_checked(4 * width)?;
    let half = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
    let mut values = states.chunks_exact(2).map(half);
    Some(Reading {
        cls: values.by_ref().take(width).collect(),
        span: values.collect(),
        rel: number(0)?,
        span_score: number(1)?,
        null_score: number(2)?,
        answer: std::str::from_utf8(answer).ok()?.to_owned(),
        tokens: u32::from_le_bytes(word(3)?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_reading_comes_back_as_it_was_up_to_half_precision() {
        let reading = Reading {
            cls: vec![0.25, -3.0],
            span: vec![1.5, 0.1],
            rel: -2.345_678,
            span_score: 7.1,
            null_score: 3.3,
            answer: "café 42".to_owned(),
            tokens: 77,
        };
        let bytes = to_bytes(&reading);
        let back = from_bytes(&bytes, 2).unwrap();
        assert_eq!(back.span[1], f16::from_f32(0.1).to_f32());
        assert_eq!(back, Reading { span: back.span.clone(), ..reading });
        assert!(from_bytes(&bytes, 3).is_none(), "another width");
        assert!(from_bytes(&bytes[..23], 2).is_none(), "cut short");
    }
}

//! Splits by id: the same everywhere, for ever, without a seed file.

use sha2::{Digest as _, Sha256};

/// The bucket of an id, in `0..buckets` (0 when `buckets` is 0): the first eight bytes of
/// SHA-256(`salt`, a zero byte, `id`) modulo `buckets`. Another salt gives an independent split.
pub fn bucket(id: &str, salt: &str, buckets: u32) -> u32 {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    let digest = hash.finalize();
    let head = digest.iter().take(8).fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    // The remainder is below a u32.
    head.checked_rem(u64::from(buckets)).unwrap_or(0) as u32
}

/// Which half the reader model was trained on by: `int(sha256(id).hexdigest(), 16) % 2`.
pub fn reader_half(id: &str) -> u32 {
    Sha256::digest(id.as_bytes()).last().map_or(0, |byte| u32::from(byte & 1))
}

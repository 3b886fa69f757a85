//! A query's text as a short vector, without a model: hashed words and letter trigrams.
//!
//! The hashing trick (Weinberger et al. 2009): every feature adds ±1 to one place, both by a seeded
//! hash, which is a sparse random projection of the counts; the sum is scaled to length 1. Good
//! enough to tell one domain's questions from another's; not meant for search.

/// FNV-1a, 64 bits: stable over platforms and versions, which the standard hasher is not.
fn hash(seed: u64, kind: u8, feature: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = std::iter::once(kind).chain(feature.bytes());
    let mixed = bytes
        .fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // The upper bits of FNV vary too little for short features: one round of finalisation.
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// The vector of a text: `dims` (≥ 1) values of length 1 together, or all 0 for a text without
/// letters or digits.
pub(super) fn embed(seed: u64, text: &str, dims: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dims.max(1)];
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        add(&mut vector, hash(seed, b'w', word), 1.0);
        if at == 0 {
            // What is asked for: who, how many, is it.
            add(&mut vector, hash(seed, b'f', word), 1.0);
        }
        let padded: Vec<char> = std::iter::once(' ').chain(word.chars()).chain([' ']).collect();
        for trigram in padded.windows(3) {
            let trigram: String = trigram.iter().collect();
            add(&mut vector, hash(seed, b't', &trigram), 0.5);
        }
    }
    let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|v| *v /= norm);
    }
    vector
}

fn add(vector: &mut [f32], hash: u64, weight: f32) {
    let at = (hash >> 1) as usize % vector.len();
    if let Some(value) = vector.get_mut(at) {
        *value += if hash & 1 == 0 { weight } else { -weight };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        embed(1, a, 64).iter().zip(embed(1, b, 64)).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn a_vector_is_a_function_of_text_and_seed_of_length_one() {
        let one = embed(1, "Who wrote it?", 32);
        assert_eq!(one, embed(1, "who WROTE it", 32));
        assert_ne!(one, embed(2, "Who wrote it?", 32));
        assert!((one.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(embed(1, " ?! ", 8), vec![0.0; 8]);
    }

    #[test]
    fn texts_with_words_in_common_lie_closer() {
        let question = "which battery lasts longest";
        let near = cosine(question, "does the battery last long");
        assert!(near > cosine(question, "capital of France"), "{near}");
    }
}

//! Soft overlap of two texts: every token is matched with its most similar one on the other side.
//!
//! Owns the measure and vectors that need no model; those of an encoder come through
//! [`TokenVectors`]. Knows no encoder.

use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};

/// Most tokens of either side that are compared: a bound on the quadratic cost.
const TOKENS_MAX: usize = 512;

/// One vector for each token of a text.
pub trait TokenVectors: Send + Sync {
    /// (n, d) f32 of any scale; all of one text and of others d wide. Empty where the text has no
    /// token, or where it cannot be encoded.
    fn vectors(&self, text: &str) -> Vec<Vec<f32>>;
}

/// How well two texts match, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Match {
    /// Mean over the candidate's tokens of the similarity to the nearest one of the reference.
    pub precision: f64,
    /// The same from the reference's side.
    pub recall: f64,
    /// Harmonic mean of the two; 0 where both are 0.
    pub f1: f64,
}

/// BERTScore's greedy matching by cosine, without idf weights and without a baseline to rescale by.
///
/// candidate: (n, d); reference: (m, d). With x̂ of the candidate and x of the reference,
/// `P = 1/|x̂| Σ_x̂ max_x cos(x, x̂)`, `R = 1/|x| Σ_x max_x̂ cos(x, x̂)`, `F1 = 2PR / (P + R)`; P and
/// R are clamped to [0, 1]. An empty side matches nothing. Tokens beyond the first 512 are left out.
///
/// Source: Zhang et al. 2020, BERTScore (arXiv 1904.09675), section 3. DynamicRAG's code rescales
/// with a baseline, which may turn it negative; a quality here lies in [0, 1].
pub fn greedy_match(candidate: &[Vec<f32>], reference: &[Vec<f32>]) -> Match {
    let (candidate, reference) = (directions(candidate), directions(reference));
    if candidate.is_empty() || reference.is_empty() {
        return Match::default();
    }
    let mut best_of_candidate = vec![-1.0_f64; candidate.len()];
    let mut best_of_reference = vec![-1.0_f64; reference.len()];
    for (a, best_a) in candidate.iter().zip(&mut best_of_candidate) {
        for (b, best_b) in reference.iter().zip(&mut best_of_reference) {
            let dot: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
            let cosine = f64::from(dot).clamp(-1.0, 1.0);
            *best_a = best_a.max(cosine);
            *best_b = best_b.max(cosine);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let precision = mean(&best_of_candidate).clamp(0.0, 1.0);
    let recall = mean(&best_of_reference).clamp(0.0, 1.0);
    let sum = precision + recall;
    let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
    Match { precision, recall, f1 }
}

/// F1 of [`greedy_match`] against the best reference, in [0, 1]. Without references: 1 if the answer
/// has no token, else 0.
pub fn similarity(answer: &str, references: &[String], vectors: &dyn TokenVectors) -> f64 {
    let candidate = vectors.vectors(answer);
    if references.is_empty() {
        return f64::from(u8::from(candidate.is_empty()));
    }
    let f1 = |reference: &String| greedy_match(&candidate, &vectors.vectors(reference)).f1;
    references.iter().map(f1).fold(0.0, f64::max)
}

/// The first vectors at unit length; one that is no direction becomes 0, near to nothing.
fn directions(vectors: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let unit = |vector: &Vec<f32>| {
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let scale = if norm.is_finite() && norm > 0.0 { 1.0 / norm } else { 0.0 };
        let scaled =
            vector.iter().map(|x| if scale > 0.0 { (f64::from(*x) * scale) as f32 } else { 0.0 });
        scaled.collect()
    };
    vectors.iter().take(TOKENS_MAX).map(unit).collect()
}

/// Vectors without a model: a word is the bag of its character n-grams, hashed to signs.
///
/// Words are those of SQuAD's normalisation. `<word>` and its n-grams of 3 to 5 characters each add
/// ±1 at one of `dimension` places, chosen by FNV-1a. So spellings and inflections are near each
/// other ("colour", "colours"), synonyms are not: a lexical stand-in for BERTScore's encoder, which
/// needs no file. Source: the n-grams of fastText (Bojanowski et al. 2017) with the hashing trick
/// (Weinberger et al. 2009) in the place of trained vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashedNgrams {
    /// Width of a vector, ≥ 1; fewer places, more chance similarity (about 1/√dimension).
    pub dimension: usize,
}

impl Default for HashedNgrams {
    fn default() -> Self {
        Self { dimension: 1_024 }
    }
}

impl TokenVectors for HashedNgrams {
    fn vectors(&self, text: &str) -> Vec<Vec<f32>> {
        let words = super::text::words(text);
        words.iter().take(TOKENS_MAX).map(|word| self.word(word)).collect()
    }
}

impl HashedNgrams {
    fn word(&self, word: &str) -> Vec<f32> {
        let bounded: Vec<char> = std::iter::once('<').chain(word.chars()).chain(['>']).collect();
        let mut vector = vec![0.0; self.dimension.max(1)];
        let mut add = |gram: &[char]| {
            let mut hasher = BuildHasherDefault::<Fnv>::default().build_hasher();
            gram.iter().for_each(|c| hasher.write_u32(u32::from(*c)));
            let hash = hasher.finish();
            let place = (hash % vector.len() as u64) as usize;
            vector[place] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
        };
        add(&bounded);
        for size in 3..=5 {
            // The whole word is in already.
            bounded.windows(size).filter(|gram| gram.len() < bounded.len()).for_each(&mut add);
        }
        vector
    }
}

/// FNV-1a in 64 bits, with a last round of mixing: the top bit gives the sign.
#[derive(Debug, Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write(&value.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} against {expected}");
    }

    #[test]
    fn greedy_matching_equals_numbers_worked_by_hand() {
        // Cosines of (1,0), (0,2) with (1,0), (3,4), (0,-1):
        //   1.0  0.6   0.0      best 1.0
        //   0.0  0.8  -1.0      best 0.8
        // P = 0.9; best of the reference 1.0, 0.8, 0.0: R = 0.6; F1 = 1.08 / 1.5.
        let candidate = [vec![1.0, 0.0], vec![0.0, 2.0]];
        let reference = [vec![1.0, 0.0], vec![3.0, 4.0], vec![0.0, -1.0]];
        let found = greedy_match(&candidate, &reference);
        near(found.precision, 0.9);
        near(found.recall, 0.6);
        near(found.f1, 0.72);
        // The other way round precision and recall change places.
        let other = greedy_match(&reference, &candidate);
        near(other.precision, 0.6);
        near(other.recall, 0.9);
        near(other.f1, 0.72);
    }

    #[test]
    fn opposite_directions_and_empty_sides_match_nothing() {
        let (up, down) = ([vec![1.0, 0.0]], [vec![-1.0, 0.0]]);
        assert_eq!(greedy_match(&up, &down), Match::default());
        assert_eq!(greedy_match(&[], &up), Match::default());
        assert_eq!(greedy_match(&up, &[]), Match::default());
        assert_eq!(greedy_match(&[vec![0.0, 0.0]], &up), Match::default());
        assert_eq!(greedy_match(&[vec![f32::NAN, 0.0]], &up), Match::default());
    }

    #[test]
    fn the_best_reference_counts_and_no_reference_wants_no_answer() {
        let of = |answer: &str, references: &[&str]| {
            let references: Vec<String> = references.iter().map(|r| (*r).to_owned()).collect();
            similarity(answer, &references, &HashedNgrams::default())
        };
        near(of("the Nile", &["Amazon", "Nile!"]), 1.0);
        near(of("", &[]), 1.0);
        near(of("Nile", &[]), 0.0);
        near(of("", &["Nile"]), 0.0);
        // One word of two is there: P 1, R about 1/2 as unlike words share next to nothing.
        let half = of("york", &["new york"]);
        assert!((0.6..0.72).contains(&half), "{half}");
    }

    #[test]
    fn hashed_vectors_see_spelling_and_not_meaning() {
        let of = |a: &str, b: &str| similarity(a, &[b.to_owned()], &HashedNgrams::default());
        assert!(of("colour", "colours") > 0.6, "{}", of("colour", "colours"));
        assert!(of("colour", "colours") < 1.0);
        assert!(of("car", "automobile") < 0.2, "{}", of("car", "automobile"));
        near(of("Wilhelm Röntgen", "röntgen wilhelm"), 1.0); // Order does not count.
        let vectors = HashedNgrams { dimension: 8 }.vectors("two words");
        assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8]);
    }

    #[test]
    fn very_long_texts_are_bounded() {
        let long = "word ".repeat(20_000);
        assert_eq!(HashedNgrams { dimension: 4 }.vectors(&long).len(), TOKENS_MAX);
    }
}
